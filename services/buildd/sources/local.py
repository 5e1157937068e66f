"""``local://``: directories of clients, of which the builder keeps copies, so that only changes are sent."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from buildd.files.index import give_stamp, take_stamp
from buildd.llb.ops import SourceOp
from buildd.meter import UNMETERED, Meter, Phase
from buildd.protocol import Directory, Output, Pinned, StepContext
from buildd.session.clients import Clients
from buildd.session.protocol import LocalFiles, Session
from buildd.sources.attributes import check_attributes, texts
from buildd.sources.directories import LocalDirectories
from sampan.errors import InvalidArgumentError

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


class LocalSource:
    """Brings clients' directories up to date."""

    def __init__(self, directories: LocalDirectories, clients: Clients, meter: Meter = UNMETERED) -> None:
        self._directories = directories
        self._clients = clients
        self._meter = meter

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
        shared_key = f"{wanted.name}:{op.attrs.get('local.sharedkeyhint', '')}:{session.info.shared_key}"
        async with self._directories.use(shared_key, f"local source for {wanted.name}") as path:
            name = f"transferring {wanted.name}:"
            context.status(name)
            # Whoever remembers something of these files, remembers their stamp.
            stamp = await asyncio.to_thread(take_stamp, path)
            last = 0

            def progress(sent: int) -> None:
                nonlocal last
                if sent >= last + _REPORT_BYTES:
                    last = sent
                    context.status(name, current=sent)

            with self._meter.timed(Phase.CONTEXT):
                report = await session.sync(wanted, path, progress)
            self._meter.context(report.bytes_sent, report.bytes_saved)
            await asyncio.to_thread(give_stamp, path, "" if report.changed else stamp)
            context.status(name, current=report.bytes_sent, done=True)
            yield Directory(path)


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
