"""Files between this machine and a container: where they end up, and the archives that they travel in.

The rules are those of cp(1), as Docker has them: into a directory that is there, under another name if there is none,
and ``/.`` means what is in a directory.
"""

import asyncio
import contextlib
import os
import posixpath
import stat
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.resource.container import PathStat

if TYPE_CHECKING:
    from sampan_cli.backend import ContainerBackend

_PIECE_BYTES: Final = 1 << 20


def goes_to(source: str, target: str, *, is_directory: bool, target_kind: str) -> tuple[str, str]:
    """Return the directory that a copy goes into, and the name that it has there, empty for contents alone.

    ``target_kind`` is ``directory``, ``file`` or empty, if nothing is there.

    Raises:
        InvalidArgumentError: a directory onto a file, or a file into a directory that is not there.
    """
    if target_kind == "directory":
        contents = is_directory and source.endswith("/.")
        return target, "" if contents else posixpath.basename(posixpath.normpath(source))
    if is_directory and target_kind == "file":
        raise InvalidArgumentError("cannot copy a directory to a file")
    if not is_directory and target.endswith("/"):
        raise InvalidArgumentError(f"{target}: no such directory")
    plain = posixpath.normpath(target)
    return posixpath.dirname(plain) or ".", posixpath.basename(plain)


async def stat_in(engine: "ContainerBackend", container: str, path: str, *, follow: bool) -> PathStat | None:
    """Return what a path in a container is, None if nothing is there."""
    try:
        found = await engine.archives.stat(container, path)
        if follow and found.link_target:
            found = await engine.archives.stat(container, found.link_target)
    except NotFoundError:
        await engine.archives.stat(container, "/")  # which of the two is not there?
        return None
    return found


async def copy_out(
    engine: "ContainerBackend", container: str, path: str, target: str, *, archive: bool, follow: bool
) -> None:
    """Copy from a container to a local path.

    Raises:
        NotFoundError: no such container, or no such path in it.
        InvalidArgumentError: it cannot go there.
    """
    found = await stat_in(engine, container, path, follow=False)
    if found is not None and follow and found.link_target:
        path, found = found.link_target, await stat_in(engine, container, found.link_target, follow=False)
    if found is None:
        raise NotFoundError(f"Could not find the file {path} in container {container}")
    directory, name = goes_to(
        path, target, is_directory=stat.S_ISDIR(found.mode), target_kind=await asyncio.to_thread(_kind, target)
    )
    base = "." if path.endswith("/.") else found.name.strip("/")
    pieces = pieces_of(engine, container, path)
    try:
        await _through_pipe(pieces, lambda file: unpack(file, Path(directory), base, name, archive=archive))
    except (OSError, tarfile.TarError) as error:
        raise InvalidArgumentError(f"cannot write to {directory}: {error}") from error


async def pieces_of(engine: "ContainerBackend", container: str, path: str) -> AsyncGenerator[bytes, None]:
    """Yield the tar of a path in a container."""
    async with contextlib.aclosing(engine.archives.read(container, path)) as parts:
        async for part in parts:
            if not isinstance(part, PathStat):
                yield part


async def copy_in(
    engine: "ContainerBackend", source: str, container: str, target: str, *, archive: bool, follow: bool
) -> None:
    """Copy a local path to a container.

    Raises:
        NotFoundError: no such container, or no directory to go into.
        InvalidArgumentError: the path cannot be read, or cannot go there.
    """
    kind = await asyncio.to_thread(_kind, source)
    if not kind:
        raise InvalidArgumentError(f"lstat {source}: no such file or directory")
    found = await stat_in(engine, container, target, follow=True)
    there = "" if found is None else "directory" if stat.S_ISDIR(found.mode) else "file"
    directory, name = goes_to(source, target, is_directory=kind == "directory", target_kind=there)
    await write_in(
        engine, container, directory, _packed(lambda file: _pack(file, source, name, archive=archive, follow=follow))
    )


async def write_in(engine: "ContainerBackend", container: str, path: str, pieces: AsyncIterator[bytes]) -> None:
    """Unpack a tar into a directory of a container."""
    await engine.archives.write(container, path, pieces, keep_kinds=True)


def _kind(path: str) -> str:
    """Return what a local path is, as ``goes_to`` calls it."""
    if not os.path.lexists(path):
        return ""
    return "directory" if Path(path).is_dir() else "file"


def _pack(file: IO[bytes], source: str, name: str, *, archive: bool, follow: bool) -> None:
    def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        if not archive:
            member.uid = member.gid = 0
            member.uname = member.gname = ""
        return member

    path = Path(source).resolve() if follow else Path(source)
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as packed:
        packed.add(path, arcname=name or ".", filter=owned)


def unpack(file: IO[bytes], directory: Path, base: str, name: str, *, archive: bool) -> None:
    """Unpack, with the first name ``base`` replaced by ``name``, and without owners unless they are asked for."""
    if not directory.is_dir():
        raise FileNotFoundError(2, os.strerror(2), str(directory))

    def renamed(path: str) -> str:
        rest = path.removeprefix("/").removeprefix(base).lstrip("/") if base != "." else path.removeprefix("./")
        return posixpath.normpath(posixpath.join(name, rest)) if name or rest else "."

    with tarfile.open(fileobj=file, mode="r|") as packed:
        packed.extraction_filter = lambda member, _: member  # ours, below, works with every Python
        for member in packed:
            member.name = renamed(member.name)
            if member.islnk():
                member.linkname = renamed(member.linkname)
            if not archive:
                member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
            if member.name != ".":
                _make_way(member, directory)
                packed.extract(member, directory, numeric_owner=True)


def _make_way(member: tarfile.TarInfo, directory: Path) -> None:
    """See that what is written lands inside, and on nothing; links lead where they lead in the container.

    Raises:
        tarfile.TarError: it would be elsewhere, or a file in the place of a directory.
    """
    place = directory / member.name
    for path in (place, directory / member.linkname) if member.islnk() else (place,):
        if not path.parent.resolve().is_relative_to(directory.resolve()):
            raise tarfile.TarError(f"{str(path)!r} is outside the destination")
    if place.is_symlink() or place.is_file():
        place.unlink()  # writing to it would follow the link
    elif place.is_dir() and not member.isdir():
        raise tarfile.TarError(f"cannot overwrite directory {str(place)!r} with non-directory")


async def _packed(pack: Callable[[IO[bytes]], None]) -> AsyncIterator[bytes]:
    """Yield what ``pack`` writes, in a thread."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as source:  # noqa: ASYNC230 - a pipe
        task = asyncio.create_task(asyncio.to_thread(_closing, writing, "wb", pack), name="pack")
        try:
            while piece := await asyncio.to_thread(source.read, _PIECE_BYTES):
                yield piece
        finally:
            source.close()  # ends the thread, if it is still writing
            with contextlib.suppress(BrokenPipeError):
                await task


async def _through_pipe(pieces: AsyncIterator[bytes], unpack: Callable[[IO[bytes]], None]) -> None:
    """Have ``unpack`` read what ``pieces`` yields, in a thread."""
    reading, writing = os.pipe()
    with open(writing, "wb", buffering=0) as sink:  # noqa: ASYNC230 - a pipe
        task = asyncio.create_task(asyncio.to_thread(_closing, reading, "rb", unpack), name="unpack")
        try:
            with contextlib.suppress(BrokenPipeError):
                async for piece in pieces:
                    await asyncio.to_thread(_write_all, sink, piece)
        finally:
            sink.close()
            await task


def _write_all(sink: IO[bytes], piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[sink.write(view) :]


def _closing(fd: int, mode: str, work: Callable[[IO[bytes]], None]) -> None:
    with open(fd, mode, buffering=_PIECE_BYTES) as file:
        work(file)
