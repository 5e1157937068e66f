"""``local://``: directories of clients, of which the builder keeps copies, so that only changes are sent.

A build needs its client's context when its Dockerfile and what it stands on are read, and then waits for the client to
walk it. So whatever the last build of the same client's directory asked for is brought up to date as the next one
begins. One that asks for something else has it brought then, as if there had been nothing.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buildd.files.index import give_stamp, take_stamp
from buildd.llb.ops import SourceOp
from buildd.meter import UNMETERED, Meter, Phase
from buildd.protocol import Directory, Output, Pinned, StepContext
from buildd.session.clients import Clients
from buildd.session.protocol import LocalFiles, Progress, Session
from buildd.sources.attributes import check_attributes, texts
from buildd.sources.directories import LocalDirectories
from sampan.cancellation import to_the_end
from sampan.errors import InvalidArgumentError, SampanError
from sampan.fsutil.receiver import SyncReport

SCHEME: Final = "local"

_ATTRIBUTES: Final = (
    "local.session",
    "local.sessionid",
    "local.unique",
    "local.includepattern",
    "local.excludepatterns",
    "local.followpaths",
    "local.sharedkeyhint",
    "local.differ",
    "local.metadatatransfer",
)
_DIFFERS: Final = {"": True, "metadata": True, "none": False}
_REPORT_BYTES: Final = 64 << 10
_REMEMBERED: Final = 64  # clients' directories, and what the last build of each has asked for
_EARLY: Final = 8  # transfers that are begun with a build
_FEW: Final = 64  # files that the client sends beside others without being late with either

# What a build asks for of its client, and how many files that came to, by the keys of the copies.
_Asked = dict[str, tuple[LocalFiles, int]]


@dataclass(frozen=True, slots=True)
class _Brought:
    """A copy that is up to date. ``held`` keeps others from it, and is the holder's to close."""

    path: Path
    report: SyncReport
    held: AsyncExitStack


class _Early:
    """A transfer that was begun before a step asked for it: ``end`` it, unless what it brings was taken."""

    def __init__(self, wanted: LocalFiles) -> None:
        self.wanted = wanted
        self.turn = asyncio.Event()  # to talk to the client
        self.show: Progress | None = None  # of the step that waits for it
        self.task: asyncio.Task[_Brought] | None = None

    def progress(self, received: int) -> None:
        """Tell the step, once there is one."""
        if self.show is not None:
            self.show(received)

    async def end(self) -> None:
        """Break it off, or let go of what it has brought."""
        if self.task is None:
            return
        self.task.cancel()
        await asyncio.wait((self.task,))
        if not self.task.cancelled() and self.task.exception() is None:
            await self.task.result().held.aclose()


class _Build:
    """What a build that goes on has asked for, and what was begun before it did."""

    def __init__(self) -> None:
        self.asked: _Asked = {}
        self.early: dict[str, _Early] = {}  # by the keys of the copies
        self.begun = asyncio.Event()  # all of them, if there are any

    async def end(self, beginning: "asyncio.Task[None]") -> None:
        """End what begins transfers, and those that nobody has asked for; who still waits for one finds none."""
        beginning.cancel()
        await asyncio.wait((beginning,))
        self.begun.set()
        for each in list(self.early.values()):
            await each.end()


class LocalSource:
    """Brings clients' directories up to date."""

    def __init__(self, directories: LocalDirectories, clients: Clients, meter: Meter = UNMETERED) -> None:
        self._directories = directories
        self._clients = clients
        self._meter = meter
        self._last: OrderedDict[str, _Asked] = OrderedDict()  # by the sessions' shared keys
        self._builds: dict[str, _Build] = {}  # by session

    @asynccontextmanager
    async def ahead(self, session: str) -> AsyncIterator[None]:
        """Within, bring up to date what the last build of the same client's directory asked for.

        What is small first, such as the Dockerfile: everything waits for it, and beside the walk of a large context it
        would take as long as that. Then one after another. A session that does not attach, or whose client fails, is
        for whoever asks for its files to find out.
        """
        if not session or session in self._builds:
            yield
            return
        build = self._builds[session] = _Build()
        beginning = asyncio.create_task(self._begin(session, build), name=f"bring files ahead of build {session}")
        try:
            yield
        finally:
            del self._builds[session]
            await to_the_end(build.end(beginning))

    async def _begin(self, id: str, build: _Build) -> None:
        small, large = list[_Early](), list[_Early]()
        try:
            session = await self._clients.of(id)
            for key, (wanted, files) in self._last.get(session.info.shared_key, {}).items():
                build.early[key] = each = _Early(wanted)
                transfer = self._bring(key, wanted, session, each.progress, each.turn)
                each.task = asyncio.create_task(transfer, name=f"transfer {wanted.name} ahead")
                (small if files <= _FEW else large).append(each)
        except SampanError:
            pass  # whoever asks for the files finds out
        finally:
            build.begun.set()
        for some in (small, *([each] for each in large)):
            for each in some:
                each.turn.set()
            if tasks := [each.task for each in some if each.task is not None]:
                await asyncio.wait(tasks)

    async def pin(self, op: SourceOp) -> Pinned:
        """See ``Sources.pin``: only the files tell."""
        _wanted(op)
        return Pinned("")

    async def fetch(self, op: SourceOp, context: StepContext) -> Output:
        """See ``Sources.fetch``: the copy stays as it is while the context holds it."""
        wanted = _wanted(op)
        session = await self._clients.first(
            context, op.attrs.get("local.sessionid") or op.attrs.get("local.session") or ""
        )
        return await context.hold(self._synced(op, wanted, session, context))

    @asynccontextmanager
    async def _synced(
        self, op: SourceOp, wanted: LocalFiles, session: Session, context: StepContext
    ) -> AsyncGenerator[Output, None]:
        key = f"{wanted.name}:{op.attrs.get('local.sharedkeyhint', '')}:{session.info.shared_key}"
        name = f"transferring {wanted.name}:"
        context.status(name)
        last = 0

        def progress(received: int) -> None:
            nonlocal last
            if received >= last + _REPORT_BYTES:
                last = received
                context.status(name, current=received)

        brought = await self._taken(key, wanted, session, progress)
        if brought is None:
            brought = await self._bring(key, wanted, session, progress)
        async with brought.held:
            self._remember(key, wanted, brought.report.files, session)
            self._meter.context(brought.report.bytes_sent, brought.report.bytes_saved)
            context.status(name, current=brought.report.bytes_sent, done=True)
            yield Directory(brought.path)

    async def _taken(self, key: str, wanted: LocalFiles, session: Session, show: Progress) -> _Brought | None:
        """Return what was brought ahead; None: nothing was, or not this."""
        build = self._builds.get(session.info.id)
        if build is None:
            return None
        await build.begun.wait()  # else two would bring the same
        early = build.early.pop(key, None)
        if early is None or early.task is None:
            return None
        if early.wanted != wanted:
            await to_the_end(early.end())
            return None
        early.show = show
        early.turn.set()
        try:
            await asyncio.wait((early.task,))
        except asyncio.CancelledError:
            await to_the_end(early.end())
            raise
        if early.task.cancelled() or early.task.exception() is not None:
            return None  # asked once more, the client says what is wrong
        return early.task.result()

    async def _bring(
        self, key: str, wanted: LocalFiles, session: Session, progress: Progress, turn: asyncio.Event | None = None
    ) -> _Brought:
        """Bring a copy up to date; what needs no client is done before its ``turn``."""
        async with AsyncExitStack() as stack:
            path = await stack.enter_async_context(self._directories.use(key, f"local source for {wanted.name}"))
            # Whoever remembers something of these files, remembers their stamp.
            stamp = await asyncio.to_thread(take_stamp, path)
            if turn is not None:
                try:
                    await turn.wait()
                except asyncio.CancelledError:
                    await to_the_end(asyncio.to_thread(give_stamp, path, stamp))
                    raise
            with self._meter.timed(Phase.CONTEXT):
                report = await session.sync(wanted, path, progress)
            await asyncio.to_thread(give_stamp, path, "" if report.changed else stamp)
            return _Brought(path, report, stack.pop_all())

    def _remember(self, key: str, wanted: LocalFiles, files: int, session: Session) -> None:
        """Note what a build has asked for, for the next one."""
        build = self._builds.get(session.info.id)
        if build is None or not session.info.shared_key or len(build.asked) >= _EARLY:
            return
        build.asked[key] = wanted, files
        self._last[session.info.shared_key] = build.asked
        self._last.move_to_end(session.info.shared_key)
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)


def _wanted(op: SourceOp) -> LocalFiles:
    check_attributes(SCHEME, op.attrs, _ATTRIBUTES)
    name = op.identifier.partition("://")[2]
    if not name:
        raise InvalidArgumentError(f"invalid source {op.identifier!r}: it names no directory")
    differ = op.attrs.get("local.differ", "")
    if differ not in _DIFFERS:
        raise InvalidArgumentError(f"invalid local.differ {differ!r}: expected none or metadata")
    if op.attrs.get("local.metadatatransfer"):
        raise InvalidArgumentError("local.metadatatransfer: files without their content cannot be had of a directory")
    return LocalFiles(
        name,
        include=texts(op.attrs, "local.includepattern"),
        exclude=texts(op.attrs, "local.excludepatterns"),
        follow=texts(op.attrs, "local.followpaths"),
        compare=_DIFFERS[differ],
    )
