"""Files of containers, in memory: each container that somebody asks about has ``/tmp``."""

import asyncio
import io
import posixpath
import stat
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field

from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from sampan.handing.chunks import ChunkedReader, ChunkedWriter
from sampan.resource.container import PathStat
from sampan.resource.streams import OpenBody, Outlet

DIRECTORY = None  # in place of a file's bytes


@dataclass(slots=True)
class FakeArchives:
    """Satisfies ``resource.protocols.Archives``; there are no links."""

    find: Callable[[str], str]  # a container's ID; raises NotFoundError
    trees: dict[str, dict[str, bytes | None]] = field(default_factory=dict)  # files by path, by container
    volumes: dict[str, dict[str, bytes | None]] = field(default_factory=dict)  # likewise

    def tree(self, container: str) -> dict[str, bytes | None]:
        """Return the files of a container; they may be changed."""
        return self.trees.setdefault(self.find(container), {"/": DIRECTORY, "/tmp": DIRECTORY})

    def _look(self, container: str, path: str) -> tuple[str, bytes | None]:
        tree, path = self.tree(container), posixpath.normpath("/" + path.lstrip("/"))
        if path not in tree:
            raise NotFoundError(f"Could not find the file {path} in container {container}")
        return path, tree[path]

    async def stat(self, container: str, path: str) -> PathStat:
        path, data = self._look(container, path)
        mode = stat.S_IFDIR | 0o755 if data is DIRECTORY else stat.S_IFREG | 0o644
        return PathStat(posixpath.basename(path) or "/", len(data or b""), mode, 10**18)

    def _volume(self, name: str) -> "FakeArchives":
        if name not in self.volumes:
            raise NotFoundError(f"get {name}: no such volume")
        return FakeArchives(str, {name: self.volumes[name]})

    async def read_volume(self, name: str) -> AsyncGenerator[bytes, None]:
        async for part in self._volume(name).read(name, "/"):
            if isinstance(part, bytes):
                yield part

    async def write_volume(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        await self._volume(name).write(name, "/", chunks)

    @property
    def takes_descriptors(self) -> bool:
        return True

    async def read(self, container: str, path: str, to: Outlet | None = None) -> AsyncGenerator[PathStat | bytes, None]:
        yield await self.stat(container, path)
        path, _ = self._look(container, path)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, data in sorted(self.tree(container).items()):
                if name == path or name.startswith(f"{path.rstrip('/')}/"):
                    member = tarfile.TarInfo(posixpath.relpath(name, posixpath.dirname(path)))
                    member.type = tarfile.DIRTYPE if data is DIRECTORY else tarfile.REGTYPE
                    member.mode, member.size = 0o755 if data is DIRECTORY else 0o644, len(data or b"")
                    archive.addfile(member, io.BytesIO(data or b""))
        if to is None:
            yield packed.getvalue()
            return
        await asyncio.to_thread(_send, packed.getvalue(), ChunkedWriter(await to()))

    async def write(
        self, container: str, path: str, chunks: AsyncIterator[bytes] | OpenBody, *, keep_kinds: bool = False
    ) -> None:
        path, data = self._look(container, path)
        if data is not DIRECTORY:
            raise InvalidArgumentError("extraction point is not a directory")
        if isinstance(chunks, OpenBody):
            sent = io.BytesIO(await asyncio.to_thread(_whole, ChunkedReader(chunks.fd, chunks.begun)))
        else:
            sent = io.BytesIO(b"".join([chunk async for chunk in chunks]))
        try:
            with tarfile.open(fileobj=sent) as archive:
                members = {each.name: archive.extractfile(each) for each in archive}
                new = {name: file.read() if file else DIRECTORY for name, file in members.items()}
        except tarfile.TarError as error:
            raise InvalidArgumentError(f"no archive: {error}") from error
        tree = self.tree(container)
        for name, content in new.items():
            target = posixpath.normpath(f"{path}/{name}")
            if keep_kinds and target in tree and (tree[target] is DIRECTORY) != (content is DIRECTORY):
                raise ConflictError(f'cannot overwrite "{target}" with what is of another kind')
            tree[target] = content


def _whole(body: ChunkedReader) -> bytes:
    whole = bytearray()
    while piece := body.read(1 << 16):
        whole += piece
    return bytes(whole)


def _send(whole: bytes, out: ChunkedWriter) -> None:
    out.write(whole)
    out.flush()
