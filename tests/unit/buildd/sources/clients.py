"""Clients, steps and file workers as sources see them."""

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from buildd.protocol import Directory, Output, Remains, Tree
from sampan.oci.descriptor import OCI_LAYER, Descriptor
from sampan.oci.digest import Digest
from sampan.resource.image import Layer


class FakeContext:
    """A step, for as long as it is entered."""

    def __init__(self, *sessions: str) -> None:
        self._sessions = sessions
        self.logged: list[bytes] = []
        self.statuses: dict[str, tuple[int, int, bool]] = {}
        self.remains: Sequence[Remains] = ()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "FakeContext":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    @property
    def vertex(self) -> Digest:
        return Digest.of(b"vertex")

    def sessions(self) -> Sequence[str]:
        return self._sessions

    def log(self, data: bytes, stream: int = 1) -> None:
        self.logged.append(data)

    def status(self, id: str, *, current: int = 0, total: int = 0, done: bool = False) -> None:
        self.statuses[id] = current, total, done

    async def hold(self, held: AbstractAsyncContextManager[Output]) -> Output:
        return await self._stack.enter_async_context(held)

    async def leave_behind(self, remains: Sequence[Remains], let_go: Callable[[], Awaitable[None]]) -> None:
        self.remains = remains
        self._stack.push_async_callback(let_go)


class FlattenedFiles:
    """Makes one layer of a directory, and remembers what was in it: content, mode and time in seconds."""

    def __init__(self) -> None:
        self.flat: dict[Digest, dict[str, tuple[bytes, int, int]]] = {}

    async def flatten(self, output: Output) -> Tree:
        assert isinstance(output, Directory)
        found = {}
        for path in sorted(output.path.rglob("*")):
            status = path.lstat()
            content = os.fsencode(path.readlink()) if path.is_symlink() else b"" if path.is_dir() else path.read_bytes()
            found[str(path.relative_to(output.path))] = content, status.st_mode & 0o7777, int(status.st_mtime)
        digest = Digest.of(repr(found).encode())
        self.flat[digest] = found
        return Tree((Layer(Descriptor(OCI_LAYER, digest, 1), digest),))

    def of(self, output: Output) -> dict[str, tuple[bytes, int, int]]:
        assert isinstance(output, Tree)
        return self.flat[output.layers[0].diff_id]

    def __getattr__(self, name: str) -> object:
        raise AttributeError(name)
