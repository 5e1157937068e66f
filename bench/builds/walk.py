"""A builder that has its client walk the context once, and does nothing else: what no builder can be faster than.

It speaks what docker's own client of BuildKit (up to 22) does: ``POST /build?version=2`` beside a session that is its
``POST /session``, on which the client is the server of ``FileSync``.
"""

import contextlib
import json
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hpack import Encoder

from sampan.wire.http2 import frames
from sampan.wire.http2.frames import FrameParser, Kind, Setting

_WINDOW_BYTES: Final = 64 << 20
_FRAME_BYTES: Final = 256 << 10
_PAUSE_S: Final = 0.0005  # between two looks at what has come: to wake up for each message would cost the client time
_HANG_S: Final = 60.0
_CALL: Final = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/moby.filesync.v1.FileSync/DiffCopy"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("dir-name", "context"),
)
_PREFIX: Final = struct.Struct(">BL")
_LAST_BYTES: Final = 2  # of the packet that says that no file follows; each that tells a file has more
_FINISHED: Final = b"\x08\x04"
_STREAM: Final = 1
_IMAGE: Final = {"id": "moby.image.id", "aux": {"ID": f"sha256:{'0' * 64}"}}


@contextlib.contextmanager
def walking(path: Path, *follow: str) -> Iterator[None]:
    """Serve at the unix socket ``path`` within; of a context, ``follow`` is what is asked for, all without any."""
    sessions: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed below
            while True:
                connection, _ = server.accept()
                threading.Thread(target=_serve, args=(connection, sessions, follow), daemon=True).start()

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            path.unlink()


def _serve(client: socket.socket, sessions: "queue.SimpleQueue[socket.socket]", follow: tuple[str, ...]) -> None:
    client.settimeout(_HANG_S)
    while request := _head(client):
        target = request.split(b" ", 2)[1]
        if b"/session" in target:
            client.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
            sessions.put(client)
            return
        if b"/build" in target:
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            with sessions.get(timeout=_HANG_S) as session:
                _walk(session, follow)
                said = json.dumps(_IMAGE).encode()
                client.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(said), said))
        else:
            client.sendall(b"HTTP/1.1 200 OK\r\nBuilder-Version: 2\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n")


def _head(client: socket.socket) -> bytes:
    """Return a request's head, none at the end; these have no bodies."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = client.recv(_FRAME_BYTES)
        if not piece:
            return b""
        head += piece
    return head


def _walk(session: socket.socket, follow: tuple[str, ...]) -> None:
    settings = {
        Setting.ENABLE_PUSH: 0,
        Setting.INITIAL_WINDOW_SIZE: _WINDOW_BYTES,
        Setting.MAX_FRAME_SIZE: _FRAME_BYTES,
    }
    headers = [*_CALL, *(("followpaths", each) for each in follow)]
    call = frames.header_frames(_STREAM, Encoder().encode(headers), frames.DEFAULT_FRAME_BYTES)
    window = frames.window_update(0, _WINDOW_BYTES)
    session.sendall(frames.PREFACE + frames.settings_frame(settings) + window + call)
    parser, rest, last = FrameParser(_FRAME_BYTES), b"", False
    while not last:
        data = session.recv(1 << 20)
        if not data:
            raise ConnectionError("the client has left in the middle of its walk")
        for kind, flags, stream, payload in parser.feed(data):
            if kind == Kind.DATA and stream == _STREAM:
                rest += payload
            elif kind in (Kind.SETTINGS, Kind.PING) and not flags & frames.ACK:
                session.sendall(frames.frame(Kind(kind), frames.ACK, 0, payload if kind == Kind.PING else b""))
        position = 0
        while position + _PREFIX.size <= len(rest):
            _, length = _PREFIX.unpack_from(rest, position)
            if position + _PREFIX.size + length > len(rest):
                break
            last = length <= _LAST_BYTES
            position += _PREFIX.size + length
        rest = rest[position:]
        time.sleep(_PAUSE_S)
    session.sendall(frames.frame(Kind.DATA, 0, _STREAM, _PREFIX.pack(0, len(_FINISHED)) + _FINISHED))
    session.recv(_FRAME_BYTES)  # it has finished, too
