"""An authority of one's own: its certificate, and those that it signs for an engine and for the engine's clients.

A folder of a client has the names that docker's client looks for in ``$DOCKER_CERT_PATH``.
"""

import ipaddress
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError

# Clocks differ: what is made here should not be too new there.
_SLACK: Final = timedelta(hours=1)

_LONGEST_NAME: Final = 64  # ub-common-name of RFC 5280
_CLOSED: Final = 0o600

CA_CERT: Final = "ca.pem"
CA_KEY: Final = "ca-key.pem"
CRL: Final = "crl.pem"


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs."""

    cert: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes
    days: int  # that what it signs is good for

    def server(self, hosts: Sequence[str]) -> dict[str, bytes]:
        """Return ``server-cert.pem`` and ``server-key.pem``, good for ``hosts``, names and addresses."""
        names = x509.SubjectAlternativeName([general_name(host) for host in hosts])
        return self._signed("server-cert.pem", "server-key.pem", hosts[0], ExtendedKeyUsageOID.SERVER_AUTH, names)

    def client(self, name: str) -> dict[str, bytes]:
        """Return ``ca.pem``, ``cert.pem`` and ``key.pem`` of a client, by whose name the engine will know it."""
        files = self._signed("cert.pem", "key.pem", name, ExtendedKeyUsageOID.CLIENT_AUTH, None)
        return {CA_CERT: pem(self.cert), **files}

    def crl(self, serials: Iterable[int]) -> bytes:
        """Return the list of revoked certificates; good for as long as the authority itself."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.cert.subject)
        builder = builder.last_update(now - _SLACK).next_update(self.cert.not_valid_after_utc)
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _signed(
        self,
        cert_name: str,
        key_name: str,
        common_name: str,
        usage: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None,
    ) -> dict[str, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(common_name, self.cert.subject, key.public_key(), self.days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(_signer(self.cert), critical=False)
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return {cert_name: pem(builder.sign(self.key, hashes.SHA256())), key_name: key_pem(key)}


def new_authority(days: int) -> tuple[Authority, dict[str, bytes]]:
    """Return a new authority, and its two files."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("Sampan CA", None, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    cert = builder.sign(key, hashes.SHA256())
    return Authority(cert, key, days), {CA_CERT: pem(cert), CA_KEY: key_pem(key)}


def load_authority(directory: Path, days: int) -> Authority:
    """Return the authority whose two files are in ``directory``.

    Raises:
        NotFoundError: one of them is not there.
        InvalidArgumentError: one of them cannot be read, or they are not a pair.
    """
    texts = []
    for name in (CA_CERT, CA_KEY):
        try:
            texts.append((directory / name).read_bytes())
        except FileNotFoundError:
            raise NotFoundError(f"{directory / name} is not there, only the other file of the authority") from None
        except OSError as error:
            raise InvalidArgumentError(f"{directory / name} cannot be read: {error.strerror}") from error
    try:
        cert = x509.load_pem_x509_certificate(texts[0])
        key = serialization.load_pem_private_key(texts[1], password=None)
    except (ValueError, TypeError) as error:
        raise InvalidArgumentError(f"the authority in {directory} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != cert.public_key():
        raise InvalidArgumentError(f"{CA_CERT} and {CA_KEY} in {directory} are not a pair")
    return Authority(cert, key, days)


def serials_of(path: Path) -> list[int]:
    """Return the serial numbers of a certificate, or of those that a list has revoked. InvalidArgumentError."""
    try:
        text = path.read_bytes()
        if b"X509 CRL" in text:
            return [revoked.serial_number for revoked in x509.load_pem_x509_crl(text)]
        return [x509.load_pem_x509_certificate(text).serial_number]
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"{path} is no certificate: {error}") from error


def general_name(host: str) -> x509.GeneralName:
    """Return a host as a certificate has it. InvalidArgumentError if it is neither a name nor an address."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.removeprefix("*.").split(".")
    if not host.isascii() or not all(label and label.replace("-", "").isalnum() for label in labels):
        raise InvalidArgumentError(f"{host!r} is neither a host's name nor an address")
    return x509.DNSName(host)


def check_client_name(name: str) -> None:
    """Refuse a client's name that is no name of a folder, or does not fit a certificate. InvalidArgumentError."""
    plain = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").replace("@", "").isalnum()
    if not plain or name.startswith(".") or len(name) > _LONGEST_NAME:
        raise InvalidArgumentError(f"client {name!r}: letters, digits and -_.@ make a name, {_LONGEST_NAME} at most")


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write files that are their owner's alone: all of them, and only if none is there.

    Raises:
        AlreadyExistsError: one is there; nothing has been written.
    """
    for path in files:
        if path.exists() or path.is_symlink():
            raise AlreadyExistsError(f"{path} is there already: nothing is overwritten")
    written: list[Path] = []
    try:
        for path, text in files.items():
            for above in reversed([each for each in path.parents if not each.exists()]):
                above.mkdir(mode=0o700, exist_ok=True)  # each of them: mkdir's own parents are open
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _CLOSED)
            written.append(path)
            with open(fd, "wb") as file:
                file.write(text)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def pem(cert: x509.Certificate) -> bytes:
    """Return a certificate as text."""
    return cert.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as text, not encrypted: services start without a person."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(name: str, issuer: x509.Name | None, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_LONGEST_NAME])])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject if issuer is None else issuer)
    builder = builder.public_key(key).serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _SLACK).not_valid_after(now + timedelta(days=days))


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=signs, crl_sign=signs, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _signer(cert: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
