"""How output travels over a raw connection: as it is from a terminal, framed otherwise.

A frame is one byte for the stream, three zeros, a big-endian length, and the data.
"""

import struct
from collections.abc import Sequence
from typing import Final

from sampan.resource.streams import Frame

RAW: Final = "application/vnd.docker.raw-stream"
MULTIPLEXED: Final = "application/vnd.docker.multiplexed-stream"

SYSTEM_ERROR: Final = 3  # a stream beside stdout and stderr: the engine's own last words, which clients fail with

_HEADER: Final = struct.Struct(">BxxxL")


def content_type(version: tuple[int, int], *, tty: bool) -> str:
    """Return the Content-Type; clients older than 1.42 know only the first one."""
    return RAW if tty or version < (1, 42) else MULTIPLEXED


def framed(stream: int, data: bytes) -> bytes:
    """Return one frame."""
    return _HEADER.pack(stream, len(data)) + data


def encode(output: Sequence[Frame], *, tty: bool) -> bytes:
    """Return the bytes for a batch of frames, in one piece: one write costs less than many."""
    if tty:
        return b"".join([frame.data for frame in output])
    parts: list[bytes] = []
    for frame in output:
        data = frame.data
        parts.append(_HEADER.pack(frame.stream.value, len(data)))
        parts.append(data)
    return b"".join(parts)
