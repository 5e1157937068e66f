"""Work whose end somebody else relies on."""

import asyncio

import pytest

from sampan.cancellation import both


async def test_both_waits_for_the_second_before_the_first_error_is_raised() -> None:
    ended = asyncio.Event()

    async def fails() -> None:
        raise ValueError("first")

    async def slow() -> None:
        await asyncio.sleep(0.01)
        ended.set()

    with pytest.raises(ValueError, match="first"):
        await both(fails(), slow())
    assert ended.is_set()
