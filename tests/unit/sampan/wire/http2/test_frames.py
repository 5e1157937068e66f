from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.wire.http2 import frames
from sampan.wire.http2.frames import ErrorCode, FrameParser, Kind, ProtocolError

FRAMES = st.lists(st.tuples(st.sampled_from([Kind.DATA, Kind.PING, Kind.SETTINGS]), st.binary(max_size=40)))


@given(FRAMES, st.lists(st.integers(1, 30)))
def test_frames_are_the_same_however_they_arrive(sent: list[tuple[Kind, bytes]], cuts: list[int]) -> None:
    data = b"".join(frames.frame(kind, 0, 7, payload) for kind, payload in sent)
    parser = FrameParser(1 << 14)
    found = []
    position = 0
    for length in [*cuts, len(data)]:
        found += parser.feed(data[position : position + length])
        position += length
    assert found == [(kind, 0, 7, payload) for kind, payload in sent]


def test_padding_is_taken_off() -> None:
    data = frames.frame(Kind.DATA, frames.PADDED, 1, b"\x03abc\0\0\0")
    assert FrameParser(100).feed(data) == [(Kind.DATA, frames.PADDED, 1, b"abc")]


def test_padding_larger_than_its_frame_is_refused() -> None:
    with pytest.raises(ProtocolError, match="padding") as raised:
        FrameParser(100).feed(frames.frame(Kind.DATA, frames.PADDED, 1, b"\x04abc"))
    assert raised.value.code is ErrorCode.PROTOCOL_ERROR


def test_frame_larger_than_allowed_is_refused_before_it_has_come() -> None:
    with pytest.raises(ProtocolError, match="101 bytes"):
        FrameParser(100).feed(frames.frame_header(Kind.DATA, 0, 1, 101))


def test_headers_too_long_for_a_frame_are_continued() -> None:
    found = FrameParser(100).feed(frames.header_frames(5, b"abcdefg", 3))
    assert found == [
        (Kind.HEADERS, 0, 5, b"abc"),
        (Kind.CONTINUATION, 0, 5, b"def"),
        (Kind.CONTINUATION, frames.END_HEADERS, 5, b"g"),
    ]


def test_priority_is_not_part_of_the_headers() -> None:
    assert frames.header_block(frames.PRIORITY_FLAG, b"\0\0\0\0\0block") == b"block"
    with pytest.raises(ProtocolError):
        frames.header_block(frames.PRIORITY_FLAG, b"\0\0")


@pytest.mark.parametrize(
    "read",
    [
        lambda: frames.word(b"\0\0\0", "RST_STREAM"),
        lambda: frames.goaway(b"\0" * 7),
        lambda: list(frames.settings(b"\0" * 5)),
    ],
)
def test_frame_of_a_wrong_size_is_refused(read: Callable[[], object]) -> None:
    with pytest.raises(ProtocolError) as raised:
        read()
    assert raised.value.code is ErrorCode.FRAME_SIZE_ERROR
