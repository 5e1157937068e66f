"""Files of containers as archives, in and out: ``docker cp``. The work itself is done by ``archiver``."""

import asyncio
import json
import os
import posixpath
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from runtimed.archives.view import ArchiveJob, Bind
from runtimed.archives.worker import Place, Worker, Workers
from runtimed.containers.memory_store import Entry, MemoryStore
from runtimed.containers.paths import Paths
from runtimed.lifecycle.staging import image_views
from runtimed.protocol import SnapshotMount, Snapshots
from runtimed.volumes.lending import Lender
from sampan.docker.options.mounts import normal
from sampan.errors import InvalidArgumentError
from sampan.resource.container import Container, PathStat, Status
from sampan.resource.container_spec import MountType
from sampan.resource.streams import OpenBody, Outlet

_PIECE_BYTES: Final = 1 << 20
_GIVEN: Final = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts")  # the engine's own files, see ContainerPaths.files
_ALIVE: Final = frozenset({Status.RUNNING, Status.PAUSED})


class Archives:
    """Reads and writes files of containers."""

    def __init__(
        self,
        memory: MemoryStore,
        snapshots: Snapshots,
        paths: Paths,
        lender: Lender,
        tell: Callable[[Container, str], None],
    ) -> None:
        """``tell`` publishes that something was done to a container."""
        self._tell = tell
        self._memory = memory
        self._snapshots = snapshots
        self._paths = paths
        self._lender = lender
        self._workers = Workers()

    async def close(self) -> None:
        """End what workers are forked from; nothing is asked any more."""
        await self._workers.close()

    @property
    def takes_descriptors(self) -> bool:
        """It does."""
        return True

    async def stat(self, container: str, path: str) -> PathStat:
        """Return what a path is; a link is not followed.

        Raises:
            NotFoundError: in Docker's words, no such container, or no such path in it.
        """
        async with self._job(container, "stat", path) as job:
            with _nothing() as nothing:
                async with self._workers.working(job, nothing, nothing) as worker:
                    return PathStat(**(await worker.answer(Place(container, path)))["stat"])

    async def read(self, container: str, path: str, to: Outlet | None = None) -> AsyncGenerator[PathStat | bytes, None]:
        """Yield what a path is, and then its tar in pieces. Closing the iterator ends the work. Raises as ``stat``.

        With ``to`` the tar goes where that leads, and nothing more is yielded.
        """
        entry = self._memory.find(container)
        async with (
            self._job(container, "read", path) as job,
            self._reading(replace(job, handed=to is not None)) as (worker, out, line),
        ):
            if first := await out.readline():
                self._tell(entry.container, "archive-path")
                yield PathStat(**json.loads(first))
                if to is not None:
                    socket.send_fds(line, [b"0"], [await to()])
            while piece := await out.read(_PIECE_BYTES):
                yield piece
            await worker.answer(Place(container, path))

    async def read_volume(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield all that is in a volume as a tar, in pieces. Closing the iterator ends the work."""
        async with (
            self._lender.lent(name) as place,
            self._reading(self._on_volume("read", place)) as (worker, out, _),
        ):
            await out.readline()  # what the root is
            while piece := await out.read(_PIECE_BYTES):
                yield piece
            await worker.answer(Place(name, "/", "volume"))

    async def write_volume(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Unpack an archive, plain or packed, into a volume. What is there in part stays if this fails."""
        async with self._lender.lent(name) as place:
            await self._fed(self._on_volume("write", place), chunks, Place(name, "/", "volume"))

    def _on_volume(self, action: str, place: Path) -> ArchiveJob:
        where = (("", str(place), ("rbind",)),)
        return ArchiveJob(action, "/." if action == "read" else "/", root=str(self._paths.archives), root_mounts=where)

    async def write(
        self, container: str, path: str, chunks: AsyncIterator[bytes] | OpenBody, *, keep_kinds: bool = False
    ) -> None:
        """Unpack an archive, plain or packed, into the directory ``path``. What is there in part stays if this fails.

        Raises:
            NotFoundError: no such container, or no such directory in it.
            InvalidArgumentError: not a directory, or not a tar.
            ConflictError: with ``keep_kinds``, a file in the place of a directory or the other way round.
            PermissionDeniedError: a read-only file system.
        """
        entry = self._memory.find(container)
        async with self._job(container, "write", path) as job:
            job = replace(job, keep_kinds=keep_kinds)
            if not isinstance(chunks, OpenBody):
                await self._fed(job, chunks, Place(container, path))
            else:
                job = replace(job, handed=True, begun=chunks.begun)
                with _nothing() as nothing:
                    async with self._workers.working(job, chunks.fd, nothing) as worker:
                        await worker.answer(Place(container, path))
            self._tell(entry.container, "extract-to-dir")

    @asynccontextmanager
    async def _reading(self, job: ArchiveJob) -> AsyncIterator[tuple[Worker, asyncio.StreamReader, socket.socket]]:
        """Start a worker; give it, what it writes, and the socket at which it waits for a descriptor."""
        with ExitStack() as stack:
            (ours, stdout), (line, stdin) = _pair(stack), _pair(stack)
            out, transport = await asyncio.open_connection(sock=ours, limit=_PIECE_BYTES)
            stack.callback(transport.transport.abort)
            async with self._workers.working(job, stdin.fileno(), stdout.fileno()) as worker:
                stdin.close()
                stdout.close()
                yield worker, out, line

    async def _fed(self, job: ArchiveJob, chunks: AsyncIterator[bytes], place: Place) -> None:
        """Send an archive to a worker; when it has heard enough its answer says why."""
        with ExitStack() as stack:
            ours, stdin = _pair(stack)
            _, sending = await asyncio.open_connection(sock=ours)
            stack.callback(sending.transport.abort)
            nothing = stack.enter_context(_nothing())
            async with self._workers.working(job, stdin.fileno(), nothing) as worker:
                stdin.close()
                with suppress(BrokenPipeError, ConnectionResetError):
                    async for chunk in chunks:
                        sending.write(chunk)
                        await sending.drain()
                    sending.write_eof()
                await worker.answer(place)

    @asynccontextmanager
    async def _job(self, container: str, action: str, path: str) -> AsyncIterator[ArchiveJob]:
        """Say what a worker is to do. A container that does not run is not started before the worker has left it."""
        entry = self._memory.find(container)
        if "\0" in path:
            raise InvalidArgumentError(f"the path {path!r} has a NUL byte in it")
        async with AsyncExitStack() as stack:
            if entry.status not in _ALIVE:
                await stack.enter_async_context(entry.lock)
            yield await self._make_job(entry, action, path)

    async def _make_job(self, entry: Entry, action: str, path: str) -> ArchiveJob:
        container = entry.container
        places = self._paths.container(entry.id)
        job = ArchiveJob(
            action,
            path,
            root=str(self._paths.archives),
            read_only=container.spec.security.read_only_root,
        )
        if entry.status in _ALIVE:
            binds = tuple(Bind("", target, read_only=False) for target in _targets(container))
            mapped = bool(container.spec.namespaces.uid_mappings)
            users = f"/proc/{container.state.pid}/ns/user" if mapped else ""
            return replace(job, live_root=str(places.root), pid=container.state.pid, binds=binds, users=users)
        root_mounts = await self._snapshots.mounts(entry.id)
        images = {
            normal(mount.target): await self._snapshots.mounts(key)
            for key, mount in image_views(container.id, container.spec).items()
        }
        return replace(
            job,
            root_mounts=_plain(root_mounts),
            binds=await asyncio.to_thread(_binds, container, places.files, images),
            working_dir=(container.spec.process.working_dir or "/") if container.state.started_at is None else "",
        )


def _targets(container: Container) -> tuple[str, ...]:
    """Return where a running container has files that are not its root's; what is in /dev is no file of anyone's."""
    asked = (normal(mount.target) for mount in container.spec.mounts)
    return tuple(dict.fromkeys((*_GIVEN, *(point.target for point in container.mounts), *asked)))


def _plain(found: Iterable[SnapshotMount]) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    return tuple((mount.fstype, mount.source, tuple(mount.options)) for mount in found)


def _binds(container: Container, files: Path, images: Mapping[str, tuple[SnapshotMount, ...]]) -> tuple[Bind, ...]:
    """Return what a start would mount, but for what is empty then."""
    given = {
        target: Bind(str(files / posixpath.basename(target)), target, read_only=False)
        for target in _GIVEN
        if (files / posixpath.basename(target)).exists()
    }
    parts = {normal(mount.target): mount.subpath for mount in container.spec.mounts}
    own = {
        point.target: Bind(
            point.source,
            point.target,
            not point.read_write,
            parts.get(point.target, ""),
            _plain(images.get(point.target, ())),
        )
        for point in container.mounts
        if point.type is not MountType.TMPFS
    }
    return tuple((given | own).values())


def _pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    return stack.enter_context(ours), stack.enter_context(theirs)


@contextmanager
def _nothing() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
