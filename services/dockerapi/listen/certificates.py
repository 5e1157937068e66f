"""The certificates that TLS is spoken with, read again when their files have changed.

Files are looked at when a client connects: what nobody connects with need not be current. A file that cannot be used,
because somebody is still writing it, leaves everything as it was, and the log says so.
"""

import os
import ssl
from typing import Final

from dockerapi.listen.addresses import TlsFiles
from sampan.errors import InvalidArgumentError
from sampan.log import log

# What is spoken inside. A client of gRPC takes h2 and nothing else; one that offers both means HTTP/1.1 with upgrades.
_INSIDE: Final = ["http/1.1", "h2"]

_Signature = tuple[tuple[int, int, int] | None, ...]


class Certificates:
    """What a server shows to its clients, and how it looks at theirs."""

    def __init__(self, files: TlsFiles) -> None:
        """Raise InvalidArgumentError, naming the file, if there is one that cannot be used."""
        self._files = files
        self._seen = self._signature()
        self._context = load(files)

    @property
    def files(self) -> TlsFiles:
        """Where they are."""
        return self._files

    def context(self) -> ssl.SSLContext:
        """Return what a new connection is to use: of the files as they are, or as they last were of use."""
        if (now := self._signature()) != self._seen:
            self._seen = now
            self.reload()
        return self._context

    def reload(self, files: TlsFiles | None = None) -> None:
        """Read the files again, or others; those that are of no use leave everything as it was, and are logged."""
        wanted = files or self._files
        try:
            context = load(wanted)
        except InvalidArgumentError as error:
            log.error("certificates not reloaded, the former ones stay", error=str(error))
            return
        self._files, self._context = wanted, context
        self._seen = self._signature()
        log.info("certificates reloaded", cert=wanted.cert)

    def _signature(self) -> _Signature:
        return tuple(_stamp(path) for path in (self._files.cert, self._files.key, self._files.ca, self._files.crl))


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - four of them at every connection
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def load(files: TlsFiles) -> ssl.SSLContext:
    """Return a server's context.

    Raises:
        InvalidArgumentError: a file is not there, cannot be read, or is not what it should be; the message names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_INSIDE)
    # A session that is taken up again is not looked at again: its certificate may have been revoked meanwhile.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    _of_use(f"tls_cert {files.cert} and tls_key {files.key}", files.cert, files.key)
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except (OSError, ValueError) as error:
        raise _useless(f"tls_cert {files.cert} and tls_key {files.key}", error) from error
    if files.verify:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authority(context, "tls_ca", files.ca)
        if not context.cert_store_stats()["x509_ca"]:
            raise InvalidArgumentError(f"tls_ca {files.ca} has no certificate of an authority")
        if files.crl:
            _load_authority(context, "tls_crl", files.crl)
            if not context.cert_store_stats()["crl"]:
                raise InvalidArgumentError(f"tls_crl {files.crl} has no list of revoked certificates")
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    return context


def _load_authority(context: ssl.SSLContext, key: str, path: str) -> None:
    _of_use(f"{key} {path}", path)
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ValueError) as error:
        raise _useless(f"{key} {path}", error) from error


def _of_use(what: str, *paths: str) -> None:
    """Say what OpenSSL would not: which file it is that cannot be read."""
    for path in paths:
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError as error:
            raise InvalidArgumentError(f"{what}: {path} cannot be read: {error.strerror}") from error


def _useless(what: str, error: Exception) -> InvalidArgumentError:
    reason = getattr(error, "reason", None) or str(error)
    return InvalidArgumentError(f"{what} cannot be used: {str(reason).replace('_', ' ').lower()}")


def _no_password() -> str:
    """Refuse to ask whoever is at the terminal, where nobody is."""
    raise ValueError("the key is encrypted")
