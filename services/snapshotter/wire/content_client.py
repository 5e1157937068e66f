"""The content store over gRPC."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import grpc

from sampan.api.containerd.content.v1 import content_pb2 as content_pb
from sampan.api.containerd.content.v1 import content_pb2_grpc as content_grpc
from sampan.api.image.v1 import images_pb2 as images_pb
from sampan.api.image.v1 import images_pb2_grpc as images_grpc
from sampan.client.convert.images import ROOT
from sampan.disk import Root
from sampan.errors import AlreadyExistsError, ResourceExhaustedError, SampanError, UnavailableError
from sampan.log import log
from sampan.oci.digest import Digest
from sampan.wire.channel import reach, rpc_errors
from sampan.wire.metadata import LEASE
from sampan.wire.pages import whole

_PIECE_BYTES: Final = 1 << 20
_ABORT_S: Final = 5.0
_RESTART_S: Final = 10.0
_OPEN_S: Final = 5.0
_ANSWER_BYTES: Final = 1024
_FULL: Final = b"full "
_ROOTS_S: Final = 30.0


class ContentClient:
    """Satisfies ``content.ContentStore``."""

    def __init__(self, channel: grpc.aio.Channel, files: Path | None = None) -> None:
        """Ask over ``channel``; ``files`` is the socket where the store hands out open files, if it does."""
        self._channel = channel
        self._files = files
        self._stub: content_grpc.ContentAsyncStub = content_grpc.ContentStub(channel)
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
        with _answering(), rpc_errors():
            call = self._stub.Read(content_pb.ReadContentRequest(digest=digest))
            try:
                async for piece in call:
                    yield piece.data
            finally:
                call.cancel()

    async def write(self, path: Path, digest: Digest, ref: str, labels: Mapping[str, str]) -> None:
        """See ``content.ContentStore``."""
        await self._reach()
        try:
            with _answering(), rpc_errors():
                call = self._stub.Write()
                try:
                    # One piece, one answer: a store that has it already ends the call at the first, and to send on
                    # into a call that has ended fails without saying why it ended.
                    async for request in _requests(path, digest, ref, labels):
                        await call.write(request)
                        if await call.read() is grpc.aio.EOF:
                            break
                    await call.done_writing()
                    await call.read()  # raises how it ended
                finally:
                    call.cancel()
        except AlreadyExistsError:
            return

    async def take(self, pipe: int, ref: str) -> None:
        """See ``content.ContentStore``."""
        if self._files is None:
            raise UnavailableError("the content store takes no pipes")
        await self._reach()
        answer, asker = b"", _asker()
        try:
            with suppress(OSError):
                answer, _ = await _exchange(asker, self._files, b"write " + ref.encode(), pipe)
            if answer.startswith(_FULL):
                raise ResourceExhaustedError(answer.removeprefix(_FULL).decode(errors="replace"))
            if answer != b"taken":
                raise UnavailableError("the content store, imaged, does not answer: it has broken off a write")
        except BaseException:
            asker.close()
            raise
        self._taken[ref] = asker  # with its end the store forgets what was taken

    async def commit(self, ref: str, labels: Mapping[str, str], lease: str = "") -> tuple[Digest, int]:
        """See ``content.ContentStore``."""
        call = self._stub.Write(metadata=((LEASE, lease),) if lease else None)
        committed = False
        try:
            with _answering(), rpc_errors():
                await call.write(content_pb.WriteContentRequest(action=content_pb.WriteAction.STAT, ref=ref))
                digest, size = await _so_far(call)
                commit = content_pb.WriteContentRequest(
                    action=content_pb.WriteAction.COMMIT,
                    ref=ref,
                    offset=size,
                    total=size,
                    labels=labels,
                )
                await call.write(commit)
                with suppress(AlreadyExistsError), rpc_errors():
                    await _so_far(call)
                    await call.done_writing()
                    await call.read()  # raises how it ended
                committed = True
            return digest, size
        finally:
            call.cancel()
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
        with suppress(SampanError), rpc_errors():
            await self._stub.Abort(content_pb.AbortRequest(ref=ref), timeout=_ABORT_S)

    async def _reach(self) -> None:
        """Wait for the store if it is being restarted. Raises UnavailableError if that takes too long."""
        await reach(self._channel, "imaged", _RESTART_S)


class RootsClient:
    """Satisfies ``roots.RootSource``."""

    def __init__(self, channel: grpc.aio.Channel, files: Path | None = None) -> None:
        """Ask over ``channel``; ``files`` is the socket where the store hands out open files, if it does."""
        self._channel = channel
        self._files = files
        self._stub: images_grpc.ImagesAsyncStub = images_grpc.ImagesStub(channel)

    async def roots(self) -> tuple[Root, ...]:
        """See ``roots.RootSource``."""
        await reach(self._channel, "imaged", _RESTART_S)
        with _answering(), rpc_errors():
            answer = await whole(self._stub.Roots(images_pb.RootsRequest(), timeout=_ROOTS_S))
        return ROOT.decode_all(answer.roots)


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
    answered = asyncio.Event()
    loop.add_reader(asker, answered.set)
    try:
        await answered.wait()
    finally:
        loop.remove_reader(asker)
    answer, fds, _, _ = socket.recv_fds(asker, _ANSWER_BYTES, 1)
    return answer, fds


async def _so_far(
    call: grpc.aio.StreamStreamCall[content_pb.WriteContentRequest, content_pb.WriteContentResponse],
) -> tuple[Digest, int]:
    """Return digest and size of all that was written so far."""
    answer = await call.read()
    if isinstance(answer, content_pb.WriteContentResponse):
        return Digest(answer.digest), answer.offset
    raise UnavailableError("the write has ended early")


@contextmanager
def _answering() -> Iterator[None]:
    """Say who does not answer: gRPC's own words name a socket at best."""
    try:
        yield
    except UnavailableError as error:
        raise UnavailableError(f"the content store, imaged, does not answer: {error}") from error


async def _requests(
    path: Path, digest: Digest, ref: str, labels: Mapping[str, str]
) -> AsyncIterator[content_pb.WriteContentRequest]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        total = os.fstat(fd).st_size
        offset = 0
        while offset < total:
            data = os.pread(fd, _PIECE_BYTES, offset)
            yield content_pb.WriteContentRequest(
                action=content_pb.WriteAction.WRITE, ref=ref, total=total, expected=digest, offset=offset, data=data
            )
            offset += len(data)
        yield content_pb.WriteContentRequest(
            action=content_pb.WriteAction.COMMIT, ref=ref, total=total, expected=digest, offset=offset, labels=labels
        )
    finally:
        os.close(fd)
