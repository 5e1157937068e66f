"""Client of ``sampan.runtime.v1.Archives``."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from sampan.api.runtime.v1 import archives_pb2 as pb
from sampan.api.runtime.v1.archives_pb2_grpc import ArchivesStub
from sampan.client.calls import read, requests
from sampan.client.convert.containers import PATH_STAT
from sampan.errors import InvalidArgumentError
from sampan.handing.desk import handed, new_name
from sampan.resource.container import PathStat
from sampan.resource.streams import OpenBody, Outlet
from sampan.wire.channel import rpc_errors
from sampan.wire.repeating import STAT, Repeating

if TYPE_CHECKING:
    from sampan.api.runtime.v1.archives_pb2_grpc import ArchivesAsyncStub


class ArchivesClient:
    """Satisfies ``resource.protocols.Archives``."""

    def __init__(self, channel: grpc.aio.Channel, desk: Path | None = None) -> None:
        """``desk`` is the socket where the service takes descriptors; None: it is on another host."""
        self._stub: ArchivesAsyncStub = ArchivesStub(channel)
        self._again = Repeating(channel, "runtimed")
        self._desk = desk

    @property
    def takes_descriptors(self) -> bool:
        """Whether ``OpenBody`` and ``Outlet`` can be had."""
        return self._desk is not None

    async def stat(self, container: str, path: str) -> PathStat:
        """Return what a path is."""
        request = pb.PathRequest(container=container, path=path)
        return PATH_STAT.decode(await self._again.ask(STAT, lambda: self._stub.Stat(request)))

    async def read(self, container: str, path: str, to: Outlet | None = None) -> AsyncGenerator[PathStat | bytes, None]:
        """Yield what a path is, and then its tar in pieces, or have it sent ``to`` somewhere."""
        name = new_name() if to is not None else ""
        request = pb.PathRequest(container=container, path=path, handed=name)
        async with AsyncExitStack() as stack:
            async for part in await stack.enter_async_context(aclosing(read(self._stub.Read(request), _part))):
                yield part
                if to is not None and isinstance(part, PathStat):
                    await stack.enter_async_context(handed(self._known_desk(), name, await to()))

    async def write(
        self, container: str, path: str, chunks: AsyncIterator[bytes] | OpenBody, *, keep_kinds: bool = False
    ) -> None:
        """Unpack a tar into a directory."""
        options = pb.WriteArchiveRequest.Options(container=container, path=path, keep_kinds=keep_kinds)
        if not isinstance(chunks, OpenBody):
            with rpc_errors():
                await self._stub.Write(requests(pb.WriteArchiveRequest(options=options), chunks, _chunk))
            return
        options.handed, options.begun = new_name(), chunks.begun
        async with handed(self._known_desk(), options.handed, chunks.fd):
            with rpc_errors():
                await self._stub.Write(_alone(pb.WriteArchiveRequest(options=options)))

    def _known_desk(self) -> Path:
        if self._desk is None:
            raise InvalidArgumentError("descriptors cannot be handed over to another host")
        return self._desk

    def read_volume(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield all that is in a volume as a tar, in pieces."""
        return read(self._stub.Read(pb.PathRequest(volume=name)), lambda message: message.chunk)

    async def write_volume(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Unpack a tar into a volume."""
        options = pb.WriteArchiveRequest.Options(volume=name)
        with rpc_errors():
            await self._stub.Write(requests(pb.WriteArchiveRequest(options=options), chunks, _chunk))


async def _alone(request: pb.WriteArchiveRequest) -> AsyncIterator[pb.WriteArchiveRequest]:
    yield request


def _part(message: pb.ReadArchiveResponse) -> PathStat | bytes:
    return PATH_STAT.decode(message.stat) if message.HasField("stat") else message.chunk


def _chunk(chunk: bytes) -> pb.WriteArchiveRequest:
    return pb.WriteArchiveRequest(chunk=chunk)
