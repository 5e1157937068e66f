"""Files of containers as archives, in and out: ``docker cp``. The work itself is done by ``archiver``."""

import asyncio
import json
import posixpath
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from runtimed.archives.view import ArchiveJob, Bind
from runtimed.containers.memory_store import Entry, MemoryStore
from runtimed.containers.paths import Paths
from runtimed.lifecycle.staging import image_views
from runtimed.protocol import SnapshotMount, Snapshots
from runtimed.volumes.lending import Lender
from sampan import errors
from sampan.docker.options.mounts import normal
from sampan.errors import InvalidArgumentError, NotFoundError, SampanError, UnavailableError
from sampan.resource.container import Container, PathStat, Status
from sampan.resource.container_spec import MountType

_PIECE_BYTES: Final = 1 << 20
_GIVEN: Final = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts")  # the engine's own files, see ContainerPaths.files
_ALIVE: Final = frozenset({Status.RUNNING, Status.PAUSED})
_KINDS: Final = {
    kind.__name__: kind
    for kind in (
        errors.InvalidArgumentError,
        errors.ConflictError,
        errors.PermissionDeniedError,
        errors.ResourceExhaustedError,
        NotFoundError,
    )
}


class Archives:
    """Reads and writes files of containers."""

    def __init__(self, memory: MemoryStore, snapshots: Snapshots, paths: Paths, lender: Lender) -> None:
        self._memory = memory
        self._snapshots = snapshots
        self._paths = paths
        self._lender = lender

    async def stat(self, container: str, path: str) -> PathStat:
        """Return what a path is; a link is not followed.

        Raises:
            NotFoundError: in Docker's words, no such container, or no such path in it.
        """
        async with self._working(container, "stat", path) as process:
            assert process.stdout is not None
            answer = await process.stdout.read()
            await _finish(process, container, path)
        return PathStat(**json.loads(answer))

    async def read(self, container: str, path: str) -> AsyncGenerator[PathStat | bytes, None]:
        """Yield what a path is, and then its tar in pieces. Closing the iterator ends the work. Raises as ``stat``."""
        async with self._working(container, "read", path) as process:
            assert process.stdout is not None
            if first := await process.stdout.readline():
                yield PathStat(**json.loads(first))
            while piece := await process.stdout.read(_PIECE_BYTES):
                yield piece
            await _finish(process, container, path)

    async def read_volume(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield all that is in a volume as a tar, in pieces. Closing the iterator ends the work."""
        async with self._lender.lent(name) as place, self._worker(self._on_volume("read", place)) as process:
            assert process.stdout is not None
            await process.stdout.readline()  # what the root is
            while piece := await process.stdout.read(_PIECE_BYTES):
                yield piece
            await _finish(process, name, "/", "volume")

    async def write_volume(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Unpack an archive, plain or packed, into a volume. What is there in part stays if this fails."""
        async with self._lender.lent(name) as place, self._worker(self._on_volume("write", place)) as process:
            await _feed(process, chunks)
            await _finish(process, name, "/", "volume")

    def _on_volume(self, action: str, place: Path) -> ArchiveJob:
        where = (("", str(place), ("rbind",)),)
        return ArchiveJob(action, "/." if action == "read" else "/", root=str(self._paths.archives), root_mounts=where)

    async def write(self, container: str, path: str, chunks: AsyncIterator[bytes], *, keep_kinds: bool = False) -> None:
        """Unpack an archive, plain or packed, into the directory ``path``. What is there in part stays if this fails.

        Raises:
            NotFoundError: no such container, or no such directory in it.
            InvalidArgumentError: not a directory, or not a tar.
            ConflictError: with ``keep_kinds``, a file in the place of a directory or the other way round.
            PermissionDeniedError: a read-only file system.
        """
        async with self._working(container, "write", path, keep_kinds=keep_kinds) as process:
            await _feed(process, chunks)
            await _finish(process, container, path)

    @asynccontextmanager
    async def _working(
        self, container: str, action: str, path: str, *, keep_kinds: bool = False
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start a worker. A container that does not run is not started before the worker has left it."""
        entry = self._memory.find(container)
        if "\0" in path:
            raise InvalidArgumentError(f"the path {path!r} has a NUL byte in it")
        async with AsyncExitStack() as stack:
            if entry.status not in _ALIVE:
                await stack.enter_async_context(entry.lock)
            job = await self._job(entry, action, path, keep_kinds=keep_kinds)
            yield await stack.enter_async_context(self._worker(job))

    @asynccontextmanager
    async def _worker(self, job: ArchiveJob) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "runtimed.archives.archiver", job.to_json()),
            stdin=asyncio.subprocess.PIPE if job.action == "write" else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_PIECE_BYTES,
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(_ended(process))

    async def _job(self, entry: Entry, action: str, path: str, *, keep_kinds: bool) -> ArchiveJob:
        container = entry.container
        places = self._paths.container(entry.id)
        job = ArchiveJob(
            action,
            path,
            root=str(self._paths.archives),
            read_only=container.spec.security.read_only_root,
            keep_kinds=keep_kinds,
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


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait for the end of a process; asyncio does not see it as long as there is output that nobody has read."""
    assert process.stdout is not None
    assert process.stderr is not None
    for stream in (process.stdout, process.stderr):
        while await stream.read(_PIECE_BYTES):
            pass
    await process.wait()


async def _feed(process: asyncio.subprocess.Process, chunks: AsyncIterator[bytes]) -> None:
    """Send an archive to the worker; when it has heard enough its answer says why."""
    assert process.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        async for chunk in chunks:
            process.stdin.write(chunk)
            await process.stdin.drain()
    process.stdin.close()


async def _finish(process: asyncio.subprocess.Process, name: str, path: str, of: str = "container") -> None:
    """Wait for the worker's answer. Raises what it found."""
    assert process.stderr is not None
    lines = (await process.stderr.read()).strip().splitlines()
    await process.wait()
    try:
        answer = json.loads(lines[-1] if lines else b"")
    except ValueError:
        raise UnavailableError(f"the process that works in {of} {name} died") from None
    if not answer:
        return
    kind: type[SampanError] = _KINDS.get(answer["error"], SampanError)
    if kind is NotFoundError:
        raise NotFoundError(f"Could not find the file {path} in {of} {name}")
    raise kind(answer["message"])
