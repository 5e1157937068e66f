"""TLS under a connection of HTTP, with a half-close: a client may end its input and still read the answer.

asyncio's own TLS ends a connection with the first ``close_notify``, which is how docker's client says that stdin is
over (RFC 8446, section 6.1: it closes one direction). Here that is the end of the input and nothing more.
"""

import asyncio
import contextlib
import math
import ssl
from collections.abc import Callable, Iterable
from typing import Final

from dockerapi.http.connection import Layer
from dockerapi.listen.certificates import Certificates
from sampan.log import log

# Of what a client has sent, decrypted at a time.
_READ_BYTES: Final = 256 << 10

# OpenSSL's buffers, of what is sent as of what is received, are as large as the largest piece that ever went into them,
# for as long as the connection lives. A record has no more than this.
_PIECE_BYTES: Final = 16 << 10
_HANDSHAKE_PIECE_BYTES: Final = 512

# A handshake takes two round trips. Whoever needs longer than this is not coming.
HANDSHAKE_S: Final = 10.0

# Handshakes that may be under way. With one more the oldest ends: a client that means it is through in milliseconds.
MAX_HANDSHAKES: Final = 256

# How often, at most, connections are looked for that have been idle for too long.
_CLOCK_S: Final = 1.0

# What Go's server tells a client that speaks plain HTTP where TLS is spoken; docker's client knows the sentence.
_SPEAK_TLS: Final = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

_ENOUGH_TO_TELL: Final = 8  # bytes by which plain HTTP is known

Make = Callable[[], asyncio.Protocol]


class TlsListener:
    """Makes the protocol of each new connection of one address, and bounds the handshakes that are under way."""

    def __init__(self, certificates: Certificates, make: Make, left: Callable[[], None] = lambda: None) -> None:
        """``make`` returns what speaks inside, once a client has shown what it has to.

        ``left`` is called when a client has gone: there is memory to give back, of which OpenSSL has most.
        """
        self.certificates = certificates
        self.make = make
        self.left = left
        self._pending: dict[TlsConnection, asyncio.TimerHandle] = {}
        # Who was let in and has yet to say something. Those who have said something before are given a time for it.
        self._quiet: dict[TlsConnection, float] = {}
        self._clock: asyncio.TimerHandle | None = None

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return TlsConnection(self)

    def began(self, connection: "TlsConnection") -> None:
        """Count a handshake, and end it if it takes too long."""
        loop = asyncio.get_running_loop()
        self._pending[connection] = loop.call_later(HANDSHAKE_S, connection.abort)
        if len(self._pending) > MAX_HANDSHAKES:
            oldest = next(iter(self._pending))
            self.ended(oldest)
            oldest.abort()

    def ended(self, connection: "TlsConnection") -> None:
        """Count it no more; safe to repeat."""
        if (timer := self._pending.pop(connection, None)) is not None:
            timer.cancel()

    def is_quiet(self, connection: "TlsConnection", for_s: float = math.inf) -> None:
        """Note a client that says nothing at present, and close the connection if that lasts so many seconds.

        One timer serves all: a thousand of them would be a tenth of what idle connections cost beside OpenSSL.
        """
        loop = asyncio.get_running_loop()
        self._quiet[connection] = loop.time() + for_s
        if self._clock is None and for_s < math.inf:
            self._clock = loop.call_later(for_s, self._close_the_quiet)

    def is_heard(self, connection: "TlsConnection") -> None:
        """Wait for this client no more: it says something, or has left."""
        self._quiet.pop(connection, None)

    def _close_the_quiet(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [each for each, until in self._quiet.items() if until <= now]:
            connection.close()
            self.is_heard(connection)
        first = min(self._quiet.values(), default=math.inf)
        again = max(first, now + _CLOCK_S)
        self._clock = loop.call_at(again, self._close_the_quiet) if first < math.inf else None

    def close(self) -> None:
        """End the handshakes that are under way, and connections on which nobody has said anything."""
        for connection in list(self._pending):
            self.ended(connection)
            connection.abort()
        for connection in list(self._quiet):
            connection.close()
        if self._clock is not None:
            self._clock.cancel()


class TlsConnection(Layer, asyncio.Protocol):
    """The protocol of a TCP connection, and the transport of what is spoken inside."""

    __slots__ = (
        "_admitted", "_closing", "_ended", "_eof_written", "_incoming", "_inside", "_listener", "_outgoing",
        "_paused", "_raw", "_tls",
    )  # fmt: skip

    def __init__(self, listener: TlsListener) -> None:
        super().__init__()
        self._listener = listener
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._raw: asyncio.Transport | None = None
        self._admitted = False  # the handshake is over
        # Made when there is something to hear: connections that clients keep for later cost what TLS does, and no more.
        self._inside: asyncio.BaseProtocol | None = None
        self._paused = False
        self._ended = False  # the client sends no more
        self._closing = False
        self._eof_written = False

    # What the TCP transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._raw = transport
        context = self._listener.certificates.context()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._listener.began(self)

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent."""
        position = 0
        while position < len(data) and not self._closing:
            size = _PIECE_BYTES if self._admitted else _HANDSHAKE_PIECE_BYTES
            if self._paused:
                size = len(data)
            self._incoming.write(data[position : position + size])
            position += size
            if self._admitted:
                self._read()
            else:
                self._shake_hands(data)

    def eof_received(self) -> bool:
        """Close a connection that broke off. One whose input was ended by TLS before may still want its answer."""
        return self._inside is not None and self._ended and not self._closing

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who speaks inside."""
        self._closing = True
        self._listener.ended(self)
        self._listener.is_heard(self)
        self._listener.left()
        inside, self._inside = self._inside, None
        # None of these is to wait for the garbage collector: each knows the other, and OpenSSL's part is large.
        self._tls = self._raw = None
        if inside is not None:
            inside.connection_lost(exc)

    def pause_writing(self) -> None:
        """Make writers wait."""
        if self._inside is not None:
            self._inside.pause_writing()

    def resume_writing(self) -> None:
        """Let writers go on."""
        if self._inside is not None:
            self._inside.resume_writing()

    def _shake_hands(self, data: bytes) -> None:
        assert self._tls is not None
        assert self._raw is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._refuse(data, error)
            return
        self._listener.ended(self)
        self._flush()
        self._admitted = True
        self._listener.is_quiet(self)
        self._read()

    def _listen(self) -> asyncio.Protocol:
        """Return who speaks inside; from the first word on there is somebody."""
        if self._inside is None:
            self._listener.is_heard(self)
            inside = self._listener.make()
            self._inside = inside
            inside.connection_made(self)
        assert isinstance(self._inside, asyncio.Protocol)
        return self._inside

    def rest(self, for_s: float) -> None:
        """Forget who speaks inside until there is something to hear; close after so many seconds without."""
        self._inside = None
        self._listener.is_quiet(self, for_s)

    def _refuse(self, data: bytes, error: Exception) -> None:
        assert self._raw is not None
        reason = getattr(error, "verify_message", "") or getattr(error, "reason", None) or str(error)
        if reason == "HTTP_REQUEST" or data[:_ENOUGH_TO_TELL].startswith((b"GET ", b"POST ", b"HEAD ", b"PUT ")):
            self._raw.write(_SPEAK_TLS)
        else:
            self._flush()  # the alert, which says why
        peer = self._raw.get_extra_info("peername")
        log.warning("TLS refused", peer=str(peer[0]) if peer else "", reason=str(reason).replace("_", " ").lower())
        self._closing = True
        self._listener.ended(self)
        self._raw.close()

    def _read(self) -> None:
        assert self._tls is not None
        while not (self._paused or self._ended or self._closing):
            try:
                data = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError:
                self._flush()
                self.abort()
                return
            if data:
                self._listen().data_received(data)
                continue
            self._ended = True
            if self._inside is None or not self._listen().eof_received():
                self.close()
        self._flush()

    def _flush(self) -> None:
        if self._raw is not None and (data := self._outgoing.read()):
            self._raw.write(data)

    # What who speaks inside may ask of a transport.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        if self._closing or self._eof_written or not data or self._tls is None:
            return
        view = memoryview(data)
        for position in range(0, len(view), _PIECE_BYTES):
            try:
                self._tls.write(view[position : position + _PIECE_BYTES])
            except ssl.SSLError:
                self.abort()
                return
            self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt and send, in one piece."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Say that the output can be ended alone."""
        return True

    def write_eof(self) -> None:
        """End the output; input may still come, and is not of much use."""
        if self._closing or self._eof_written:
            return
        self._eof_written = True
        self._notify_close()
        if self._raw is not None and not self._raw.is_closing():
            self._raw.write_eof()

    def close(self) -> None:
        """Send what is left, say that it was all, and close."""
        if self._closing:
            return
        if not self._eof_written:
            self._notify_close()
        self._closing = True
        if self._raw is not None:
            self._raw.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        if self._raw is not None:
            self._raw.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing or self._raw is None or self._raw.is_closing()

    def _notify_close(self) -> None:
        if self._tls is None or not self._admitted:
            return
        with contextlib.suppress(ssl.SSLError):  # the other side has not said as much yet, and need not
            self._tls.unwrap()
        self._flush()

    def pause_reading(self) -> None:
        """Hold the client up."""
        self._paused = True
        if self._raw is not None:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Let the client go on; what has been received already comes first."""
        if not self._paused:
            return
        self._paused = False
        if self._raw is not None and not self._raw.is_closing():
            self._raw.resume_reading()
        asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._admitted and not self._closing:
            self._read()

    def is_reading(self) -> bool:
        """Whether the client is not held up."""
        return not (self._paused or self._closing)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell another one from here on."""
        self._inside = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who is told."""
        return self._inside if self._inside is not None else self

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how much may wait for the client."""
        if self._raw is not None:
            self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return how much waits for the client."""
        return self._raw.get_write_buffer_size() if self._raw is not None else 0

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return what is known of the connection: of its certificate too, or of the TCP connection."""
        if name == "peercert":
            return self._tls.getpeercert() if self._tls is not None else default
        if name == "peercert_der":
            return self._tls.getpeercert(binary_form=True) if self._tls is not None else default
        if name == "sslcontext":
            return self._tls.context if self._tls is not None else default
        return self._raw.get_extra_info(name, default) if self._raw is not None else default
