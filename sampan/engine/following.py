"""Logs, events and waits that go on when runtimed is killed under them: what it writes down outlives it.

Each asks again once the service is back, from just behind what was told already, so that nothing is told twice and
nothing is left out. Attachments and execs are not here: what they carry is nowhere written down.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from sampan.api.runtime.v1 import containers_pb2, events_pb2
from sampan.errors import NotFoundError, UnavailableError
from sampan.wire.channel import reach, rpc_errors

if TYPE_CHECKING:
    from sampan.engine.engine import Engine

M = TypeVar("M")

_SERVICE: Final = "runtimed"
_RESTART_S: Final = 10.0
_GONE_S: Final = 0.5

# A service that ends this soon, this often in a row, does not bear what it is asked for: asking on would only hurt.
_SOON_S: Final = 0.2
_PATIENCE: Final = 3

_WAIT: Final = containers_pb2.WaitContainerRequest


async def logs(
    engine: "Engine", request: containers_pb2.LogsRequest
) -> AsyncGenerator[containers_pb2.LogsResponse, None]:
    """Yield what ``Containers.Logs`` yields.

    Raises:
        UnavailableError: the service does not come back.
        SampanError: what it refuses with.
    """
    place = _LogPlace(request)
    async with aclosing(_persistent(engine, lambda: _read(engine.containers.Logs(place.rest())))) as answers:
        async for answer in answers:
            yield place.new(answer)


class _LogPlace:
    """How far a log has been read: its last line's time, and how many lines of that time were seen."""

    def __init__(self, request: containers_pb2.LogsRequest) -> None:
        self._request = request
        self._begun = _now()
        self._asked = False
        self._last: tuple[int, int] | None = None
        self._seen = 0
        self._again = 0  # of what comes next: seen before

    def rest(self) -> containers_pb2.LogsRequest:
        """Return the request for what was not read yet."""
        rest = containers_pb2.LogsRequest()
        rest.CopyFrom(self._request)
        self._again = self._seen
        if self._last is not None:
            rest.since.CopyFrom(Timestamp(seconds=self._last[0], nanos=self._last[1]))
            rest.ClearField("tail")
        elif self._asked and rest.HasField("tail") and rest.tail == 0:  # only what is new
            rest.since.CopyFrom(self._begun)
            rest.ClearField("tail")
        self._asked = True
        return rest

    def new(self, answer: containers_pb2.LogsResponse) -> containers_pb2.LogsResponse:
        """Return ``answer`` without what was read before, and take note of the rest."""
        if self._again:
            kept = list(self._unseen(answer.entries))
            answer = containers_pb2.LogsResponse(entries=kept, tty=answer.tty)
        for entry in answer.entries[-1:]:
            last = (entry.time.seconds, entry.time.nanos)
            same = sum((one.time.seconds, one.time.nanos) == last for one in answer.entries)
            self._seen = same + (self._seen if last == self._last else 0)
            self._last = last
        return answer

    def _unseen(self, entries: Iterable[containers_pb2.LogEntry]) -> Iterable[containers_pb2.LogEntry]:
        for entry in entries:
            if self._again and (entry.time.seconds, entry.time.nanos) == self._last:
                self._again -= 1
            else:
                yield entry


async def events(
    engine: "Engine", request: events_pb2.SubscribeRequest
) -> AsyncGenerator[events_pb2.Event | None, None]:
    """Yield None when the subscription is in place, so that nothing is missed from there on; then the events.

    Raises:
        UnavailableError: the service does not come back.
        SampanError: what it refuses with.
    """
    asked = events_pb2.SubscribeRequest()
    asked.CopyFrom(request)
    begun = _now()

    async def subscribe() -> AsyncGenerator[events_pb2.Event | None, None]:
        call = engine.events.Subscribe(asked)
        try:
            await call.initial_metadata()
            if not call.done():
                yield None
            async for event in call:
                yield event
        finally:
            call.cancel()

    placed = False
    async with aclosing(_persistent(engine, subscribe)) as told:
        async for event in told:
            if event is not None:
                # No two events have one time.
                asked.since.FromNanoseconds(event.time.ToNanoseconds() + 1)
                yield event
            elif not placed:
                placed = True
                if not asked.HasField("since"):
                    asked.since.CopyFrom(begun)  # should the service be gone before the first event
                yield None


async def dropped_events(engine: "Engine", since: Timestamp) -> str:
    """Return a sentence if events from ``since`` on are asked for of which the oldest are not kept, else empty."""
    try:
        with rpc_errors():
            kept = (await engine.events.Kept(events_pb2.KeptRequest())).since
    except UnavailableError:
        return ""  # it is being started again, and who follows waits for that
    if since.ToNanoseconds() >= kept.ToNanoseconds():
        return ""
    return f"events before {kept.ToDatetime():%Y-%m-%dT%H:%M:%S}Z are not kept any more"


def stats(engine: "Engine", request: containers_pb2.StatsRequest) -> AsyncGenerator[containers_pb2.StatsResponse, None]:
    """Yield what ``Containers.Stats`` yields; the first sample after a gap has nothing to compare with.

    Raises:
        UnavailableError: the service does not come back.
        SampanError: what it refuses with.
    """
    return _persistent(engine, lambda: _read(engine.containers.Stats(request)))


async def wait(
    engine: "Engine", request: containers_pb2.WaitContainerRequest
) -> AsyncGenerator[containers_pb2.WaitContainerResponse, None]:
    """Yield one answer that says that the wait is in place, then the exit, even one that came while nobody watched.

    Raises:
        UnavailableError: the service does not come back, or the container is gone and nobody knows how it ended.
        SampanError: what it refuses with.
    """
    begun = _now()
    placed = False

    async def place() -> AsyncGenerator[containers_pb2.WaitContainerResponse, None]:
        try:
            with rpc_errors():
                async with aclosing(_read(engine.containers.Wait(request))) as told:
                    async for answer in told:
                        if answer.waiting and placed and request.condition != _WAIT.REMOVED:
                            # The new wait is in place, so the exit cannot fall between it and this look back.
                            missed = await _missed_exit(engine, request.container, begun)
                            if missed is not None:
                                yield missed
                                return
                        yield answer
        except NotFoundError:
            if not placed:
                raise
            yield await _last_exit(engine, request.container, begun)

    async with aclosing(_persistent(engine, place)) as answers:
        async for answer in answers:
            if not (answer.waiting and placed):
                yield answer
            placed = True


async def _missed_exit(
    engine: "Engine", container: str, begun: Timestamp
) -> containers_pb2.WaitContainerResponse | None:
    """Return how the container ended since ``begun``; None if it did not."""
    code = await _told_exit(engine, container, begun)
    if code is not None:
        return containers_pb2.WaitContainerResponse(exit_code=code)
    # A service that was killed may have written down the end and not yet the event.
    state = (await engine.containers.Get(containers_pb2.GetContainerRequest(container=container))).state
    if state.finished_at.ToNanoseconds() >= begun.ToNanoseconds():
        return containers_pb2.WaitContainerResponse(exit_code=state.exit_code, error=state.error)
    return None


async def _last_exit(engine: "Engine", container: str, begun: Timestamp) -> containers_pb2.WaitContainerResponse:
    code = await _told_exit(engine, container, begun)
    if code is None:
        raise UnavailableError(f"container {container} was removed while the engine restarted: its exit code is lost")
    return containers_pb2.WaitContainerResponse(exit_code=code)


async def _told_exit(engine: "Engine", container: str, begun: Timestamp) -> int | None:
    """Return the exit code of the container's last ``die`` event since ``begun``."""
    filters = {
        key: containers_pb2.FilterValues(values=[value])
        for key, value in (("type", "container"), ("event", "die"), ("container", container))
    }
    code = None
    request = events_pb2.SubscribeRequest(since=begun, until=_now(), filters=filters)
    async for event in engine.events.Subscribe(request):
        code = int(event.attributes["exitCode"])
    return code


async def _persistent(engine: "Engine", call: Callable[[], AsyncGenerator[M, None]]) -> AsyncGenerator[M, None]:
    """Yield what ``call`` yields, and call again, as soon as there is somebody to call, if the service goes away."""
    short = 0
    while True:
        began = time.monotonic()
        try:
            with rpc_errors():
                async with aclosing(call()) as messages:
                    async for message in messages:
                        yield message
            return
        except UnavailableError:
            short = short + 1 if time.monotonic() - began < _SOON_S else 0
            if short >= _PATIENCE:
                raise
        await _back(engine.channels[_SERVICE])


async def _read(call: "grpc.aio.UnaryStreamCall[Any, M]") -> AsyncGenerator[M, None]:
    """Yield a call's messages; closing the iterator ends the call."""
    try:
        async for message in call:
            yield message
    finally:
        call.cancel()


async def _back(channel: grpc.aio.Channel) -> None:
    """Return when the service can be called again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_GONE_S):  # one that stops in order refuses calls for a moment before it goes
            await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
    await reach(channel, _SERVICE, _RESTART_S)


def _now() -> Timestamp:
    now = Timestamp()
    now.FromNanoseconds(time.time_ns())
    return now
