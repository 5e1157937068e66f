"""Client of ``sampan.runtime.v1.Archives``."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

import grpc

from sampan.api.runtime.v1 import archives_pb2 as pb
from sampan.api.runtime.v1.archives_pb2_grpc import ArchivesStub
from sampan.client.calls import read, requests
from sampan.client.convert.containers import PATH_STAT
from sampan.resource.container import PathStat
from sampan.wire.channel import rpc_errors
from sampan.wire.repeating import STAT, Repeating

if TYPE_CHECKING:
    from sampan.api.runtime.v1.archives_pb2_grpc import ArchivesAsyncStub


class ArchivesClient:
    """Satisfies ``resource.protocols.Archives``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: ArchivesAsyncStub = ArchivesStub(channel)
        self._again = Repeating(channel, "runtimed")

    async def stat(self, container: str, path: str) -> PathStat:
        """Return what a path is."""
        request = pb.PathRequest(container=container, path=path)
        return PATH_STAT.decode(await self._again.ask(STAT, lambda: self._stub.Stat(request)))

    def read(self, container: str, path: str) -> AsyncGenerator[PathStat | bytes, None]:
        """Yield what a path is, and then its tar in pieces."""
        return read(self._stub.Read(pb.PathRequest(container=container, path=path)), _part)

    async def write(self, container: str, path: str, chunks: AsyncIterator[bytes], *, keep_kinds: bool = False) -> None:
        """Unpack a tar into a directory."""
        options = pb.WriteArchiveRequest.Options(container=container, path=path, keep_kinds=keep_kinds)
        with rpc_errors():
            await self._stub.Write(requests(pb.WriteArchiveRequest(options=options), chunks, _chunk))

    def read_volume(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield all that is in a volume as a tar, in pieces."""
        return read(self._stub.Read(pb.PathRequest(volume=name)), lambda message: message.chunk)

    async def write_volume(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Unpack a tar into a volume."""
        options = pb.WriteArchiveRequest.Options(volume=name)
        with rpc_errors():
            await self._stub.Write(requests(pb.WriteArchiveRequest(options=options), chunks, _chunk))


def _part(message: pb.ReadArchiveResponse) -> PathStat | bytes:
    return PATH_STAT.decode(message.stat) if message.HasField("stat") else message.chunk


def _chunk(chunk: bytes) -> pb.WriteArchiveRequest:
    return pb.WriteArchiveRequest(chunk=chunk)
