"""Where a service listens beside its socket, and with which certificate."""

import ssl
from dataclasses import dataclass

from sampan.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service listens, beside its socket."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return what ``host:port`` or ``[address]:port`` says. Raises InvalidArgumentError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InvalidArgumentError(f"listen address {text!r}: expected host:port")
    return Address(host or "0.0.0.0", int(port))


def load_certificate(certificate: str, key: str) -> ssl.SSLContext | None:
    """Return what to serve TLS with, None if neither file is named.

    Raises:
        InvalidArgumentError: one without the other, or files that are not a certificate and its key.
    """
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise InvalidArgumentError("TLS needs a certificate and its key: only one of the two is given")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password, or a key that has one would be asked for on a terminal.
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except ssl.SSLError as error:
        raise InvalidArgumentError(f"{certificate} and {key} are no certificate and its key: {error}") from error
    except OSError as error:
        raise InvalidArgumentError(f"{error.filename or certificate}: {error.strerror}") from error
    return context


def _refuse_password() -> str:
    raise InvalidArgumentError("the key is encrypted: give one that is not")
