"""A connection to a receiver of logs: datagrams or a stream, over the network, TLS or a unix socket."""

import contextlib
import select
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.docker.options.log_receivers import Receiver

TIMEOUT_S: Final = 10.0
# Where a machine's own syslog may listen; most do on datagrams.
_OWN_SYSLOG: Final = ("/dev/log", "/var/run/syslog", "/var/run/log")


@dataclass(frozen=True, slots=True)
class Tls:
    """How a receiver is to prove who it is, and we to it."""

    ca_cert: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Return what a connection needs. Raises OSError."""
        context = ssl.create_default_context(cafile=self.ca_cert or None)
        if self.cert:
            context.load_cert_chain(self.cert, self.key or None)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def describe(receiver: Receiver) -> str:
    """Return how Go names it in its errors."""
    if receiver.scheme in ("unix", "unixgram"):
        return f"{receiver.scheme} {receiver.path or _OWN_SYSLOG[0]}"
    return f"{'tcp' if receiver.scheme == 'tls' else receiver.scheme} {receiver.host}:{receiver.port}"


class Connection:
    """Opened when something is sent, and again after a failure. One thread uses it; ``close`` may come from another."""

    def __init__(
        self, receiver: Receiver, tls: Tls | None = None, *, answer_s: float = 0.0, write_s: float = 0.0
    ) -> None:
        """``answer_s`` and ``write_s`` bound what the receiver takes its time for; 0: ``TIMEOUT_S``."""
        self.receiver = receiver
        self._answer_s = answer_s or TIMEOUT_S
        self._write_s = write_s or TIMEOUT_S
        self._tls = tls or Tls()
        self._socket: socket.socket | None = None

    @property
    def is_stream(self) -> bool:
        """Whether what is sent needs an end of its own; known once it is open."""
        return self._socket is not None and self._socket.type == socket.SOCK_STREAM

    def open(self, timeout_s: float = TIMEOUT_S) -> socket.socket:
        """Return the socket, connected. Raises OSError."""
        if self._socket is None:
            self._socket = self._connected(timeout_s)
        return self._socket

    def _connected(self, timeout_s: float) -> socket.socket:
        receiver = self.receiver
        match receiver.scheme:
            case "udp":
                family, kind, protocol, _, address = socket.getaddrinfo(
                    receiver.host, receiver.port, type=socket.SOCK_DGRAM
                )[0]
                made = socket.socket(family, kind, protocol)
                return self._to(made, address, timeout_s)
            case "tcp" | "tls":
                made = socket.create_connection((receiver.host, receiver.port), timeout_s)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if receiver.scheme == "tls":
                    try:
                        return self._tls.context().wrap_socket(made, server_hostname=receiver.host)
                    except BaseException:
                        made.close()
                        raise
                return made
            case _:
                paths = (receiver.path,) if receiver.path else [path for path in _OWN_SYSLOG if Path(path).exists()]
                return self._to_unix(paths or _OWN_SYSLOG[:1], timeout_s)

    def _to_unix(self, paths: "tuple[str, ...] | list[str]", timeout_s: float) -> socket.socket:
        kinds = [socket.SOCK_DGRAM, socket.SOCK_STREAM] if self.receiver.scheme == "unixgram" else [socket.SOCK_STREAM]
        if self.receiver.scheme == "unixgram" and self.receiver.path:
            kinds = [socket.SOCK_DGRAM]
        failure: OSError | None = None
        for path in paths:
            for kind in kinds:
                try:
                    return self._to(socket.socket(socket.AF_UNIX, kind), path, timeout_s)
                except OSError as error:
                    failure = error
        assert failure is not None
        raise failure

    def _to(self, made: socket.socket, address: tuple[object, ...] | str, timeout_s: float) -> socket.socket:
        try:
            made.settimeout(timeout_s)
            made.connect(address)
        except BaseException:
            made.close()
            raise
        return made

    def receive(self, count: int) -> bytes:
        """Return what the receiver answers. Raises OSError."""
        opened = self.open()
        opened.settimeout(self._answer_s)
        return opened.recv(count)

    def send(self, data: bytes) -> None:
        """Send all of it, or one datagram. Raises OSError."""
        opened = self.open()
        opened.settimeout(self._write_s)
        if opened.type == socket.SOCK_STREAM:
            # A receiver that has gone is known from its end alone: what is written after that is lost in silence.
            self._look_for_end(opened)
            opened.sendall(data)
        else:
            with contextlib.suppress(ConnectionRefusedError):  # nobody listens: a datagram is lost, as any may be
                opened.send(data)

    def _look_for_end(self, opened: socket.socket) -> None:
        if isinstance(opened, ssl.SSLSocket):
            return
        readable, _, _ = select.select([opened], [], [], 0)
        if readable and opened.recv(1, socket.MSG_PEEK) == b"":
            raise ConnectionResetError("the receiver has closed the connection")

    def close(self) -> None:
        """Close it, also while something is being sent; it is opened again when it is needed."""
        opened, self._socket = self._socket, None
        if opened is not None:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
