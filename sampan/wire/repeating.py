"""Calls that are made once more when their service goes away under them: those of ``REPEATABLE``, and no others.

A service that was killed is back within a second or two, and who asked it something need not learn of that. It is not
known how far the first call came. So only such calls are here as lead to the same by being made twice: questions, and
changes that name the state to be reached. Not here are those of which two are more than one (create, start, restart,
exec), those whose second answer would be another one (pause, kill, rename, prune), and conversations (attach).

A call on a channel that was never connected is not made again: where no engine runs, that is told at once.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc

from sampan.errors import NotFoundError, NotModifiedError, SampanError, ServiceGoneError
from sampan.wire.channel import back, rpc_errors

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A method that may be called again: ``package.Service/Method``."""

    method: str
    done: type[SampanError] | None = None  # what the second call ends with when the first one had its effect


_RUNTIME: Final = "sampan.runtime.v1"
_SNAPSHOTS: Final = "containerd.services.snapshots.v1.Snapshots"

GET_CONTAINER: Final = Repeatable(f"{_RUNTIME}.Containers/Get")
LIST_CONTAINERS: Final = Repeatable(f"{_RUNTIME}.Containers/List")
TOP: Final = Repeatable(f"{_RUNTIME}.Containers/Top")
UPDATE: Final = Repeatable(f"{_RUNTIME}.Containers/Update")
RESIZE: Final = Repeatable(f"{_RUNTIME}.Containers/Resize")
STOP: Final = Repeatable(f"{_RUNTIME}.Containers/Stop", NotModifiedError)
REMOVE_CONTAINER: Final = Repeatable(f"{_RUNTIME}.Containers/Remove", NotFoundError)
REOPEN_LOG: Final = Repeatable(f"{_RUNTIME}.Containers/ReopenLog")
SAMPLES: Final = Repeatable(f"{_RUNTIME}.Containers/Samples")
STAT: Final = Repeatable(f"{_RUNTIME}.Archives/Stat")
GET_EXEC: Final = Repeatable(f"{_RUNTIME}.Execs/Get")
RESIZE_EXEC: Final = Repeatable(f"{_RUNTIME}.Execs/Resize")
KILL_EXEC: Final = Repeatable(f"{_RUNTIME}.Execs/Kill")  # what has ended by then is none that it would have to kill
GET_NETWORK: Final = Repeatable(f"{_RUNTIME}.Networks/Get")
LIST_NETWORKS: Final = Repeatable(f"{_RUNTIME}.Networks/List")
REMOVE_NETWORK: Final = Repeatable(f"{_RUNTIME}.Networks/Remove", NotFoundError)
CREATE_VOLUME: Final = Repeatable(f"{_RUNTIME}.Volumes/Create")  # of a name that is there it returns that one
GET_VOLUME: Final = Repeatable(f"{_RUNTIME}.Volumes/Get")
LIST_VOLUMES: Final = Repeatable(f"{_RUNTIME}.Volumes/List")
REMOVE_VOLUME: Final = Repeatable(f"{_RUNTIME}.Volumes/Remove", NotFoundError)
INFO: Final = Repeatable(f"{_RUNTIME}.Host/Info")
GET_IMAGE: Final = Repeatable("sampan.image.v1.Images/Get")
LIST_IMAGES: Final = Repeatable("sampan.image.v1.Images/List")
FORMS: Final = Repeatable("sampan.image.v1.Images/Forms")
PUT_LEASE: Final = Repeatable("sampan.image.v1.Leases/Put")
STACK: Final = Repeatable("sampan.snapshot.v1.Layers/Stack")
PACK: Final = Repeatable("sampan.snapshot.v1.Layers/Pack")
FREEZE: Final = Repeatable("sampan.snapshot.v1.Layers/Freeze")  # what a key became is kept for who asks again
STAT_SNAPSHOT: Final = Repeatable(f"{_SNAPSHOTS}/Stat")
MOUNTS: Final = Repeatable(f"{_SNAPSHOTS}/Mounts")
USAGE: Final = Repeatable(f"{_SNAPSHOTS}/Usage")
LIST_SNAPSHOTS: Final = Repeatable(f"{_SNAPSHOTS}/List")
REMOVE_SNAPSHOT: Final = Repeatable(f"{_SNAPSHOTS}/Remove", NotFoundError)
CHECK: Final = Repeatable("sampan.check.v1.Check/Check")
# By one whose keys are made up for one container each: a snapshot that is there is the one it asked for.
PREPARE_OWN: Final = Repeatable(f"{_SNAPSHOTS}/Prepare")

REPEATABLE: Final = (
    GET_CONTAINER, LIST_CONTAINERS, TOP, UPDATE, RESIZE, STOP, REMOVE_CONTAINER, STAT, GET_EXEC, RESIZE_EXEC,
    REOPEN_LOG, SAMPLES, KILL_EXEC,
    GET_NETWORK, LIST_NETWORKS, REMOVE_NETWORK, CREATE_VOLUME, GET_VOLUME, LIST_VOLUMES, REMOVE_VOLUME, INFO,
    GET_IMAGE, LIST_IMAGES, FORMS, PUT_LEASE, STACK, FREEZE, PACK, STAT_SNAPSHOT, MOUNTS, USAGE, LIST_SNAPSHOTS,
    REMOVE_SNAPSHOT, PREPARE_OWN, CHECK,
)  # fmt: skip


class Repeating:
    """Makes such calls over one channel. All errors are ``SampanError``."""

    def __init__(self, channel: grpc.aio.Channel, service: str, *, waits: bool = False) -> None:
        """With ``waits`` every call waits for a connection: one that was broken off had come through."""
        self._channel = channel
        self._service = service
        self._met = waits

    async def ask(self, _method: Repeatable, call: Callable[[], Awaitable[T]]) -> T:
        """Return what ``call`` returns.

        Raises:
            UnavailableError: the service does not come back, or goes away once more.
            SampanError: what the other side raised.
        """
        if (answer := await self._first(call)) is not None:
            return answer
        return await self._last(call)

    async def do(self, method: Repeatable, call: Callable[[], Awaitable[object]]) -> None:
        """Make ``call``. What the second one is told when the first one had its effect is success.

        Raises: as ``ask``.
        """
        if await self._first(call) is not None:
            return
        try:
            await self._last(call)
        except SampanError as error:
            if method.done is None or not isinstance(error, method.done):
                raise

    async def read(self, _method: Repeatable, begin: Callable[[], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """Yield what ``begin()`` yields, begun again only if nothing had come yet. Raises as ``ask``."""
        known, told = self._is_met(), False
        try:
            async with aclosing(begin()) as messages:
                async for message in messages:
                    self._met = told = True
                    yield message
            return
        except ServiceGoneError:
            if told or not known:
                raise
        await back(self._channel, self._service)
        async with aclosing(begin()) as messages:
            async for message in messages:
                yield message

    def _is_met(self) -> bool:
        return self._met or self._channel.get_state() is grpc.ChannelConnectivity.READY

    async def _first(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Return the answer; None, which no call of gRPC's answers with, when it is to be made again."""
        known = self._is_met()
        try:
            with rpc_errors():
                answer = await call()
        except ServiceGoneError:
            if not known:
                raise
            return None
        self._met = True
        return answer

    async def _last(self, call: Callable[[], Awaitable[T]]) -> T:
        await back(self._channel, self._service)
        with rpc_errors():
            return await call()
