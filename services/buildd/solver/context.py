"""What steps tell the builds that wait for them, and what is held for those."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from typing import Final

from buildd.protocol import Output, Progress, Remains
from sampan.build.progress import Update, Vertex, VertexLog, VertexStatus
from sampan.cancellation import to_the_end
from sampan.errors import SampanError
from sampan.log import log
from sampan.oci.digest import Digest

# What a build that joins a running step is shown of what the step has said so far.
_MAX_REPLAYED_BYTES: Final = 256 << 10


class Unseen:
    """A ``Progress`` that nobody sees."""

    def report(self, update: Update) -> None:
        """Forget it."""


class VertexProgress:
    """One vertex as one build's clients see it."""

    def __init__(self, vertex: Vertex, progress: Progress, now_ns: Callable[[], int]) -> None:
        self._vertex = vertex
        self._progress = progress
        self._now_ns = now_ns
        self._statuses: dict[str, int] = {}  # when each began

    @property
    def digest(self) -> Digest:
        """What the clients call it."""
        return self._vertex.digest

    def announced(self) -> None:
        """It will be run, or found."""
        self._progress.report(self._vertex)

    def started(self) -> None:
        """It begins."""
        self._tell(replace(self._vertex, started_ns=self._now_ns()))

    def completed(self, *, cached: bool = False) -> None:
        """It has ended well."""
        self._tell(replace(self._vertex, completed_ns=self._now_ns(), cached=cached))

    def failed(self, error: str) -> None:
        """It has not."""
        self._tell(replace(self._vertex, completed_ns=self._now_ns(), error=error))

    def _tell(self, vertex: Vertex) -> None:
        self._vertex = vertex
        self._progress.report(vertex)

    def log(self, data: bytes, stream: int) -> None:
        """It has said something."""
        self._progress.report(VertexLog(self.digest, stream, data, self._now_ns()))

    def status(self, id: str, current: int, total: int, done: bool) -> None:
        """A part of it is that far."""
        now = self._now_ns()
        began = self._statuses.setdefault(id, now)
        update = VertexStatus(id, self.digest, current, total, now, began, now if done else 0)
        self._progress.report(update)


@contextmanager
def noted(what: str) -> Iterator[None]:
    """Go on with whatever else is to be let go of: what cannot be noted, as on a full disk, is not in use either."""
    try:
        yield
    except SampanError as error:
        log.warning("not noted that it was let go of", what=what, error=str(error))


class Holding:
    """What stays as it is for those who share it: contexts, each left by the task that has entered it, and the like."""

    def __init__(self) -> None:
        self._users = 0
        self._leave = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []
        self._last: list[Callable[[], Awaitable[None]]] = []

    def join(self) -> None:
        """Count one more who shares it."""
        self._users += 1

    async def at_last(self, do: Callable[[], Awaitable[None]]) -> None:
        """Have something done when nobody shares it any more; at once if that is so already."""
        if self._leave.is_set():
            await do()
        else:
            self._last.append(do)

    async def release(self) -> None:
        """Count one less; with the last one everything goes, also if the caller is cancelled meanwhile."""
        self._users -= 1
        if self._users <= 0:
            self._leave.set()
            await to_the_end(self._let_go())

    async def _let_go(self) -> None:
        if self._keepers:
            await asyncio.wait(self._keepers)
        last, self._last = self._last, []
        for do in last:
            with noted("what a build has used"):
                await do()

    async def enter(self, held: AbstractAsyncContextManager[Output]) -> Output:
        """Enter a context and return what it yields. Raises what it raises."""
        entered: asyncio.Future[Output] = asyncio.get_running_loop().create_future()
        keeper = asyncio.create_task(self._keep(held, entered), name="hold an output")
        try:
            await asyncio.wait((keeper, entered), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            keeper.cancel()
            await asyncio.wait((keeper,))
            raise
        self._keepers.append(keeper)
        return await entered

    async def _keep(self, held: AbstractAsyncContextManager[Output], entered: "asyncio.Future[Output]") -> None:
        try:
            async with held as output:
                entered.set_result(output)
                await self._leave.wait()
        except Exception as error:  # noqa: BLE001 - whoever enters raises it
            if entered.done():
                log.warning("an output was not let go of", error=str(error))
            else:
                entered.set_exception(error)


class Work:
    """A ``StepContext``: one vertex at work for the builds that have joined it."""

    def __init__(self) -> None:
        self.holding = Holding()
        self.remains: Sequence[Remains] = ()  # of a step that has failed
        self._views: dict[VertexProgress, Sequence[str]] = {}
        self._said: deque[tuple[bytes, int]] = deque()
        self._said_bytes = 0

    @property
    def vertex(self) -> Digest:
        """What the first of the builds calls it."""
        return next(iter(self._views)).digest

    def join(self, view: VertexProgress, sessions: Sequence[str]) -> None:
        """Tell a build from now on, and what was said so far; keep for it what is held."""
        self.holding.join()
        self._views[view] = sessions
        for data, stream in self._said:
            view.log(data, stream)

    async def leave(self, view: VertexProgress) -> None:
        """Tell it no more, and keep nothing for it. Whatever ends with the last one still has a vertex."""
        if len(self._views) > 1:
            self._views.pop(view, None)
        await self.holding.release()

    def forget(self) -> None:
        """Keep nothing of what was said: it has ended, and no build joins it any more."""
        self._said.clear()
        self._said_bytes = 0

    def sessions(self) -> Sequence[str]:
        """See ``StepContext``."""
        return list(dict.fromkeys(session for sessions in self._views.values() for session in sessions))

    def log(self, data: bytes, stream: int = 1) -> None:
        """See ``StepContext``."""
        self._said.append((data, stream))
        self._said_bytes += len(data)
        while self._said_bytes > _MAX_REPLAYED_BYTES:
            self._said_bytes -= len(self._said.popleft()[0])
        for view in self._views:
            view.log(data, stream)

    def status(self, id: str, *, current: int = 0, total: int = 0, done: bool = False) -> None:
        """See ``StepContext``."""
        for view in self._views:
            view.status(id, current, total, done)

    async def hold(self, held: AbstractAsyncContextManager[Output]) -> Output:
        """See ``StepContext``."""
        return await self.holding.enter(held)

    async def leave_behind(self, remains: Sequence[Remains], let_go: Callable[[], Awaitable[None]]) -> None:
        """See ``StepContext``."""
        self.remains = remains
        await self.holding.at_last(let_go)
