"""Streams that are sent in calls, and break off."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sampan.engine.archives import Feed
from sampan.errors import InvalidArgumentError, NotFoundError


async def broken() -> AsyncIterator[bytes]:
    yield b"a"
    raise InvalidArgumentError("open /nonexistent: no such file or directory")


async def whole() -> AsyncIterator[bytes]:
    yield b"a"


async def call(feed: Feed) -> None:
    """Send it as gRPC does: a failure of the requests cancels the call, and is forgotten."""
    try:
        async for _ in feed:
            pass
    except InvalidArgumentError:
        raise asyncio.CancelledError from None


async def test_what_breaks_a_stream_is_what_the_call_ends_with() -> None:
    feed = Feed(broken())
    with pytest.raises(InvalidArgumentError, match="open /nonexistent"), feed.told():
        await call(feed)


async def test_a_stream_that_is_whole_hides_no_error() -> None:
    feed = Feed(whole())
    await call(feed)
    with pytest.raises(NotFoundError), feed.told():
        raise NotFoundError("x")


async def test_being_cancelled_is_not_taken_for_a_broken_stream() -> None:
    feed = Feed(broken())
    begun = asyncio.Event()

    async def work() -> None:
        with feed.told():
            with pytest.raises(asyncio.CancelledError):
                await call(feed)
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
