"""The content store over gRPC."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Final

import grpc

from sampan.client.storage.content import ContentClient as Content
from sampan.client.storage.images import ImagesClient
from sampan.disk import Root
from sampan.errors import (
    AlreadyExistsError,
    NotFoundError,
    ResourceExhaustedError,
    SampanError,
    ServiceGoneError,
    UnavailableError,
)
from sampan.handing import passing
from sampan.log import log
from sampan.oci.digest import Digest
from sampan.resource.content import Action, WriteStep
from sampan.services import RESTART_S
from sampan.wire.channel import back, reach

_PIECE_BYTES: Final = 1 << 20
_ABORT_S: Final = 5.0
_OPEN_S: Final = 5.0
_ANSWER_BYTES: Final = 1024
_WRITE: Final = b"write "
_PASS: Final = b"pass "
_FULL: Final = b"full "
_ROOTS_S: Final = 30.0


class ContentClient:
    """Satisfies ``content.ContentStore``."""

    def __init__(self, channel: grpc.aio.Channel, files: Path | None = None) -> None:
        """Ask over ``channel``; ``files`` is the socket where the store hands out open files, if it does."""
        self._channel = channel
        self._files = files
        self._content = Content(channel)
        self._taken: dict[str, socket.socket] = {}  # what the store keeps for as long as the connection is there

    async def open(self, digest: Digest) -> int | None:
        """See ``content.ContentStore``."""
        if self._files is None:
            return None
        try:
            async with asyncio.timeout(_OPEN_S):
                return await _ask_for_file(self._files, digest)
        except (OSError, TimeoutError) as error:
            log.debug("no file is handed out", digest=digest, error=str(error))
            return None

    async def read(self, digest: Digest) -> AsyncGenerator[bytes, None]:
        """See ``content.ContentStore``."""
        await self._reach()
        with _answering():
            async with aclosing(self._content.read(digest)) as pieces:
                async for piece in pieces:
                    yield piece

    async def write(self, path: Path, digest: Digest, ref: str, labels: Mapping[str, str]) -> None:
        """See ``content.ContentStore``."""
        await self._reach()
        try:
            with _answering():
                async with self._content.write(resumable=False) as conversation:
                    async for step in _steps(path, digest, ref, labels):
                        await conversation.ask(step)
                    await conversation.hang_up()
        except AlreadyExistsError:
            return

    async def take(self, pipe: int, ref: str, *, read_soon: bool) -> None:
        """See ``content.ContentStore``."""
        if self._files is None:
            raise UnavailableError("the content store takes no pipes")
        await self._reach()
        answer, asker = b"", _asker()
        try:
            with suppress(OSError):
                answer, _ = await _exchange(asker, self._files, (_WRITE if read_soon else _PASS) + ref.encode(), pipe)
            if answer.startswith(_FULL):
                raise ResourceExhaustedError(answer.removeprefix(_FULL).decode(errors="replace"))
            if answer != b"taken":
                raise ServiceGoneError("the content store, imaged, does not answer: it has broken off a write")
        except BaseException:
            asker.close()
            raise
        self._taken[ref] = asker  # with its end the store forgets what was taken

    def lost(self, ref: str) -> bool:
        """See ``content.ContentStore``."""
        asker = self._taken.get(ref)
        try:
            return asker is not None and not asker.recv(1)
        except OSError as error:
            return not isinstance(error, BlockingIOError)

    async def returned(self) -> None:
        """See ``content.ContentStore``."""
        await back(self._channel, "imaged")

    async def commit(self, ref: str, labels: Mapping[str, str], lease: str = "") -> tuple[Digest, int]:
        """See ``content.ContentStore``."""
        committed = False
        try:
            with _answering():
                async with self._content.write(lease=lease) as conversation:
                    taken = await conversation.ask(WriteStep(Action.STAT, ref))
                    with suppress(AlreadyExistsError):
                        await conversation.ask(
                            WriteStep(Action.COMMIT, ref, taken.offset, offset=taken.offset, labels=labels)
                        )
                        await conversation.hang_up()
                committed = True
            return taken.digest, taken.offset
        except NotFoundError as error:
            if self.lost(ref):
                raise ServiceGoneError("the content store, imaged, went away with what it had taken") from error
            raise
        finally:
            if committed:
                self._let_go(ref)
            else:
                await self.abort(ref)

    def _let_go(self, ref: str) -> None:
        if (asker := self._taken.pop(ref, None)) is not None:
            asker.close()

    async def abort(self, ref: str) -> None:
        """See ``content.ContentStore``."""
        self._let_go(ref)
        with suppress(SampanError):
            await self._content.abort(ref, _ABORT_S)

    async def _reach(self) -> None:
        """Wait for the store if it is being restarted. Raises UnavailableError if that takes too long."""
        await reach(self._channel, "imaged", RESTART_S)


class RootsClient:
    """Satisfies ``gc.usage.RootSource``."""

    def __init__(self, channel: grpc.aio.Channel, files: Path | None = None) -> None:
        """Ask over ``channel``; ``files`` is the socket where the store hands out open files, if it does."""
        self._channel = channel
        self._files = files
        self._images = ImagesClient(channel, deadline_s=_ROOTS_S)

    async def roots(self) -> tuple[Root, ...]:
        """See ``gc.usage.RootSource``."""
        await reach(self._channel, "imaged", RESTART_S)
        with _answering():
            return tuple(await self._images.roots())


async def _ask_for_file(path: Path, digest: Digest) -> int | None:
    """Return the descriptor that the store sends, None if it sends none. Raises OSError."""
    with _asker() as asker:
        _, fds = await _exchange(asker, path, digest.encode())
    for fd in fds:
        os.set_inheritable(fd, False)
    return fds[0] if fds else None


def _asker() -> socket.socket:
    asker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asker.setblocking(False)
    return asker


async def _exchange(asker: socket.socket, path: Path, message: bytes, fd: int | None = None) -> tuple[bytes, list[int]]:
    """Send the store a message, with a descriptor or without; return its answer, an empty one if it goes away.

    Raises:
        OSError: there is no store.
    """
    loop = asyncio.get_running_loop()
    await loop.sock_connect(asker, str(path))
    socket.send_fds(asker, [message], [] if fd is None else [fd])
    await passing.readable(asker)
    return passing.receive(asker, _ANSWER_BYTES, 1)


@contextmanager
def _answering() -> Iterator[None]:
    """Say who does not answer: gRPC's own words name a socket at best."""
    try:
        yield
    except ServiceGoneError as error:
        raise ServiceGoneError(f"the content store, imaged, does not answer: {error}") from error
    except UnavailableError as error:
        raise UnavailableError(f"the content store, imaged, does not answer: {error}") from error


async def _steps(path: Path, digest: Digest, ref: str, labels: Mapping[str, str]) -> AsyncIterator[WriteStep]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        total = os.fstat(fd).st_size
        offset = 0
        while offset < total:
            data = os.pread(fd, _PIECE_BYTES, offset)
            yield WriteStep(Action.WRITE, ref, total, digest, offset, data)
            offset += len(data)
        yield WriteStep(Action.COMMIT, ref, total, digest, offset, labels=labels)
    finally:
        os.close(fd)
