"""How calls end whose input came too late."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from sampan.client.calls import read
from sampan.errors import NotFoundError, ServiceGoneError
from sampan.wire.status import REASON_KEY

GONE = (grpc.StatusCode.UNAVAILABLE, "Socket closed", ())
LATE = (grpc.StatusCode.INTERNAL, "Internal error from Core", ())
WELL = (grpc.StatusCode.OK, "", ())
NONE = (grpc.StatusCode.NOT_FOUND, "no such thing", ((REASON_KEY, "not_found"),))
End = tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]


class Call:
    """One message, then gRPC's own error for a message of ours, and ``end`` before it or once the loop comes to it."""

    def __init__(self, end: End | None, first: bool = False) -> None:
        self._said: End = LATE
        self._end, self._first = end, first
        self._tell: list[Callable[[Any], None]] = []
        self.cancelled = False

    def add_done_callback(self, tell: Callable[[Any], None]) -> None:
        self._tell.append(tell)

    async def __aiter__(self) -> AsyncIterator[int]:
        yield 1
        if self._end is not None and self._first:
            self._is(self._end)
        self._is(LATE)
        if self._end is not None:
            asyncio.get_running_loop().call_later(0.01, self._is, self._end)
        raise grpc.aio.AioRpcError(LATE[0], grpc.aio.Metadata(), grpc.aio.Metadata(), details=LATE[1])

    def _is(self, said: End) -> None:
        self._said = said
        for tell in self._tell:
            tell(self)

    async def code(self) -> grpc.StatusCode:
        return self._said[0]

    async def details(self) -> str:
        return self._said[1]

    async def initial_metadata(self) -> tuple[()]:
        return ()

    async def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._said[2]

    def cancel(self) -> None:
        self.cancelled = True


async def drained(call: Any) -> list[int]:
    return [one async for one in read(call, int)]


@pytest.mark.parametrize("first", [True, False])
async def test_input_that_came_too_late_does_not_make_a_good_end_a_bad_one(first: bool) -> None:
    call = Call(WELL, first)
    assert (await drained(call), call.cancelled) == ([1], True)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("end", "kind"), [(NONE, NotFoundError), (GONE, ServiceGoneError)])
async def test_it_does_not_hide_what_the_other_side_raised(end: End, kind: type[Exception], first: bool) -> None:
    with pytest.raises(kind):
        await drained(Call(end, first))


async def test_an_end_that_does_not_come_is_a_service_s_that_went_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sampan.client.calls._LAST_WORDS_S", 0.05)
    with pytest.raises(ServiceGoneError):
        await drained(Call(None))
