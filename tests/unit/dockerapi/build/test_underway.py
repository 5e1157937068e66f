"""Contexts that come with a request of their own."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from dockerapi.build.underway import Underway
from dockerapi.http.body import Body
from sampan.errors import ConflictError, InvalidArgumentError


class FakeBody:
    """A body of two pieces."""

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in (b"con", b"text"):
            yield piece


def body() -> Body:
    return cast("Body", FakeBody())


@pytest.mark.parametrize("given_first", [True, False])
async def test_whoever_comes_first_waits_for_the_other(given_first: bool) -> None:
    underway = Underway()
    taking = None if given_first else asyncio.create_task(underway.take("b"))
    await asyncio.sleep(0)
    giving = asyncio.create_task(underway.give("b", body()))
    await asyncio.sleep(0)
    upload = await (taking or underway.take("b"))
    assert not giving.done()
    assert b"".join([chunk async for chunk in upload.chunks()]) == b"context"
    await giving


async def test_a_context_that_no_build_takes_is_refused_in_time() -> None:
    underway = Underway(meet_s=0.01)
    with pytest.raises(InvalidArgumentError, match="no build b takes a context"):
        await underway.give("b", body())
    with pytest.raises(InvalidArgumentError, match="the context of build b was not sent"):
        await underway.take("b")


async def test_a_context_is_sent_once() -> None:
    underway = Underway()
    giving = asyncio.create_task(underway.give("b", body()))
    await asyncio.sleep(0)
    with pytest.raises(ConflictError, match="was sent before"):
        await underway.give("b", body())
    upload = await underway.take("b")
    upload.over.set()
    await giving
