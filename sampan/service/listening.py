"""Where a service listens: at its socket, and beside it, with which certificate."""

import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.layout import Layout
from sampan.sys import closed

_BACKLOG: Final = 128


def listen(path: Path, layout: Layout, group: str) -> socket.socket:
    """Return a socket that listens at ``path``, one of the engine's sockets, in the place of what is there. OSError."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        previous = os.umask(0o117)
        try:
            listener.bind(str(path))
        finally:
            os.umask(previous)
        listener.listen(_BACKLOG)
        share(path, layout, group)
    except BaseException:
        listener.close()
        raise
    return listener


def share(path: Path, layout: Layout, group: str) -> None:
    """Let ``group`` use a socket, unless everybody has to come by dockerapi's gate.

    Looked at afterwards: whoever makes the marker closes the sockets that are there by then.
    """
    closed.share(path, group)
    if layout.gate_marker.exists():
        path.chmod(0o600)


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
