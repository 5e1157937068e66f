import base64
import hashlib
import zlib

import pytest

from crid.streaming import spdy_frames as frames
from crid.streaming.spdy_frames import DICTIONARY, Data, Frame, FrameReader, FrameWriter, Kind, ResetStatus
from sampan.errors import InvalidArgumentError
from tests.fakes.streaming import MemoryPipe

# What client-go 0.37 with spdystream 0.5.1 sends for an exec with stdin and a terminal: four streams, two sizes, a line
# of input and its end; and, when the server has said all, three streams taken back.
RECORDED = base64.b64decode(
    "gAMAAQAAACkAAAABAAAAAAAAePnjxqfCYmBgYASns5Ki1MRcaFHCmgoKaAAAAAD//4ADAAEAAAAXAAAAAwAAAAAAAMIuVVySkpkHAAAA//+AAwAB"
    "AAAAGQAAAAUAAAAAAADCKsVWXJKSX1oCAAAA//+AAwABAAAAGAAAAAcAAAAAAADCLleUWpxZlQoAAAD//wAAAAcAAAAZeyJXaWR0aCI6ODAsIkhl"
    "aWdodCI6MjR9CgAAAAcAAAAaeyJXaWR0aCI6MTAwLCJIZWlnaHQiOjMwfQoAAAADAAAABWV4aXQKAAAAAwEAAACAAwADAAAACAAAAAcAAAAFgAMA"
    "AwAAAAgAAAABAAAABYADAAMAAAAIAAAABQAAAAU="
)


async def _read(data: bytes) -> list[Frame | Data | None]:
    pipe = MemoryPipe()
    pipe.incoming.feed_data(data)
    pipe.incoming.feed_eof()
    reader = FrameReader(pipe)
    found = []
    try:
        while True:
            found.append(await reader.read())
    except EOFError:
        return found


def test_dictionary_is_that_of_the_specification() -> None:
    assert len(DICTIONARY) == 1423
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2  # what a client's first header block begins with
    assert hashlib.sha256(DICTIONARY).hexdigest()[:16] == "51d27341373f923f"


async def test_what_a_real_client_sends_is_read() -> None:
    opened = [
        Frame(Kind.SYN_STREAM, stream, {"streamtype": name})
        for stream, name in ((1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize"))
    ]
    said = [
        Data(7, b'{"Width":80,"Height":24}\n', fin=False),
        Data(7, b'{"Width":100,"Height":30}\n', fin=False),
        Data(3, b"exit\n", fin=False),
        Data(3, b"", fin=True),
    ]
    over = [Frame(Kind.RST_STREAM, stream, status=ResetStatus.CANCEL) for stream in (7, 1, 5)]
    assert await _read(RECORDED) == opened + said + over


async def test_frames_that_are_made_are_read() -> None:
    writer = FrameWriter()
    headers = {"streamtype": "data", "port": "80", "requestid": "0"}
    made = (
        writer.syn_stream(1, headers)
        + writer.syn_reply(1)
        + writer.syn_stream(3, headers, fin=True)
        + frames.ping(7)
        + frames.go_away(3)
        + frames.reset(3, ResetStatus.REFUSED_STREAM)
    )
    assert await _read(made) == [
        Frame(Kind.SYN_STREAM, 1, headers),
        Frame(Kind.SYN_REPLY, 1, {}),
        Frame(Kind.SYN_STREAM, 3, headers, fin=True),
        Frame(Kind.PING, 7),
        Frame(Kind.GOAWAY, 3),
        Frame(Kind.RST_STREAM, 3, status=ResetStatus.REFUSED_STREAM),
    ]


async def test_large_data_frame_comes_in_pieces_and_ends_once() -> None:
    data = bytes(range(256)) * 4096
    found = await _read(frames.data_head(5, len(data), fin=True) + data)
    assert len(found) == 4
    pieces = [frame for frame in found if isinstance(frame, Data)]
    assert b"".join(piece.payload for piece in pieces) == data
    assert [piece.fin for piece in pieces] == [False, False, False, True]


async def test_settings_and_windows_are_read_past() -> None:
    settings = bytes.fromhex("80030004 0000000c 00000001 00000004 00000064".replace(" ", ""))
    window = bytes.fromhex("80030009 00000008 00000001 00010000".replace(" ", ""))
    unknown = bytes.fromhex("80030063 00000001 00".replace(" ", ""))
    assert await _read(settings + window + unknown + frames.ping(1)) == [None, None, None, Frame(Kind.PING, 1)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes.fromhex("8002000100000004") + b"\0" * 4, "not a frame of SPDY/3"),
        (bytes.fromhex("8003000100100000"), "a control frame of 1048576 bytes"),
        (bytes.fromhex("8003000300000002") + b"\0\0", "a frame is cut off"),
        (bytes.fromhex("800300010000000e") + b"\0" * 14, "headers that cannot be inflated"),
    ],
)
async def test_what_is_no_frame_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        await _read(data)


def _syn_stream(block: bytes) -> bytes:
    compressor = zlib.compressobj(zdict=DICTIONARY)
    packed = compressor.compress(block) + compressor.flush(zlib.Z_SYNC_FLUSH)
    payload = (1).to_bytes(4, "big") + bytes(6) + packed
    return bytes.fromhex("80030001") + len(payload).to_bytes(4, "big") + payload


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (b"\0" * (1 << 20), "headers of more than 65536 bytes"),
        (b"\0\1\0\0", "65536 headers: the most is 100"),
        (b"\0\0\0\1\0\0\0\xffab", "a header is cut off"),
        (b"\0\0", "a frame is cut off"),
    ],
)
async def test_headers_that_would_fill_the_memory_or_are_broken_are_refused(block: bytes, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        await _read(_syn_stream(block))
