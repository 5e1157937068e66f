"""Bodies in chunks, on sockets that do not block."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan.handing.chunks import ChunkedReader, ChunkedWriter, PlainWriter


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def read(reader: ChunkedReader, size: int = 1 << 20) -> bytes:
    whole = bytearray()
    while piece := reader.read(size):
        whole += piece
    return bytes(whole)


@pytest.mark.parametrize("begun", range(0, 40, 3))
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_chunks_are_read_wherever_they_were_divided(
    pair: tuple[socket.socket, socket.socket], begun: int, size: int
) -> None:
    body = b"5\r\nhello\r\n00a;name=value\r\n0123456789\r\n1 \r\n\n\r\n0\r\nTrailer: yes\r\n\r\n"
    pair[0].sendall(body[begun:])
    reader = ChunkedReader(pair[1].fileno(), body[:begun])
    assert read(reader, size) == b"hello0123456789\n"
    assert bytes(reader.read(1)) == b""


def test_a_reader_waits_for_its_client(pair: tuple[socket.socket, socket.socket]) -> None:
    content = os.urandom(3_000_000)

    def send() -> None:
        for start in range(0, len(content), 32 << 10):
            piece = content[start : start + (32 << 10)]
            pair[0].sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        pair[0].sendall(b"0\r\n\r\n")

    client = threading.Thread(target=send)
    client.start()
    try:
        assert read(ChunkedReader(pair[1].fileno())) == content
    finally:
        client.join()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "too early"),
        (b"5\r\nhel", "too early"),
        (b"5\r\nhello\r\n", "too early"),
        (b"5\r\nhello\r\n0\r\n", "too early"),
        (b"5\r\nhello!\r\n", "longer than it says"),
        (b"x\r\nhello\r\n", "without a size"),
        (b"-5\r\nhello\r\n", "without a size"),
        (b"\r\n", "without a size"),
        (b"5\nhello\r\n", "without a size"),
        (b"1" * 5000, "without a size"),
        (b"0\r\n" + b"a: b\r\n" * 1000, "too many trailers"),
    ],
)
def test_what_is_no_body_in_chunks_is_refused(pair: tuple[socket.socket, socket.socket], body: bytes, why: str) -> None:
    pair[0].sendall(body)
    pair[0].close()
    with pytest.raises(InvalidArgumentError, match=why):
        read(ChunkedReader(pair[1].fileno()))


def test_what_is_written_is_chunks_with_files_among_them(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    content = os.urandom(2_000_000)
    (tmp_path / "file").write_bytes(content)
    received: list[bytes] = []

    def receive() -> None:
        pair[0].setblocking(False)
        received.append(read(ChunkedReader(pair[0].fileno())))

    client = threading.Thread(target=receive)
    client.start()
    with (tmp_path / "file").open("rb") as file:
        writer = ChunkedWriter(pair[1].fileno())
        writer.write(b"before")
        writer.file(file.fileno(), len(content) + 100_000)  # it was longer when somebody looked
        writer.write(b"after")
        writer.flush()
        writer.flush()
    pair[1].sendall(b"0\r\n\r\n")
    client.join()
    assert received == [b"before" + content + bytes(100_000) + b"after"]


def test_a_file_that_cannot_be_passed_on_by_the_kernel_is_read(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, Path("/proc/self/status").open("rb") as file:
        writer = PlainWriter(out.fileno())
        writer.file(file.fileno(), 6)
        writer.write(b"after")
        writer.flush()
    assert (tmp_path / "out").read_bytes() == b"Name:\tafter"
