"""Answers that never end: silence is the socket's time limit, a trickle is this one's."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

from imaged.registry.errors import TransportError

if TYPE_CHECKING:
    import aiohttp

# Slower than the slowest line that anybody pulls an image over; a registry that sends less is not sending.
MIN_BYTES_PER_S: Final = 1024

DEFAULT_WINDOW_S: Final = 30.0

# A line that is silent for so long may be silent for long.
_SILENCE_S: Final = 0.1


async def paced(response: "aiohttp.ClientResponse", window_s: float = DEFAULT_WINDOW_S) -> AsyncGenerator[bytes, None]:
    """Yield a body's bytes as they come, and an empty piece once they stop coming for a moment.

    Only time spent waiting for them counts, not what the caller takes.

    Raises:
        TransportError: over ``window_s`` of waiting less than a kilobyte a second came.
    """
    waited_s, count, silent = 0.0, 0, False
    while True:
        begin_s = time.monotonic()
        silence = asyncio.timeout(None if silent else _SILENCE_S)
        try:
            async with silence:
                chunk = await response.content.readany()
        except TimeoutError:
            if not silence.expired():
                raise
            chunk, silent = b"", True
        else:
            if not chunk:
                return
            silent = False
        waited_s += time.monotonic() - begin_s
        count += len(chunk)
        if waited_s >= window_s:
            if count < MIN_BYTES_PER_S * waited_s:
                raise TransportError(
                    f'Get "{response.url.with_query(None)}": too slow: {count} bytes came in {waited_s:.0f} seconds'
                )
            waited_s, count = 0.0, 0
        yield chunk


async def read_limited(response: "aiohttp.ClientResponse", most: int, window_s: float = DEFAULT_WINDOW_S) -> bytes:
    """Return a body's first ``most`` bytes; one more means that it is longer."""
    pieces = bytearray()
    async for piece in paced(response, window_s):
        pieces += piece
        if len(pieces) > most:
            break
    return bytes(pieces[: most + 1])
