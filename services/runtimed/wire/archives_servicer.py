"""sampan.runtime.v1.Archives: decode, call, encode."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from typing import Any

import grpc

from sampan.api.runtime.v1 import archives_pb2 as pb
from sampan.api.runtime.v1 import archives_pb2_grpc as pb_grpc
from sampan.client.convert.containers import PATH_STAT
from sampan.errors import InvalidArgumentError
from sampan.handing.desk import Desk
from sampan.resource.container import PathStat
from sampan.resource.protocols import Archives
from sampan.resource.streams import OpenBody

Context = grpc.aio.ServicerContext[Any, Any]


class ArchivesServicer(pb_grpc.ArchivesServicer):
    """Files of containers."""

    def __init__(self, archives: Archives, desk: Desk | None = None) -> None:
        """``desk`` is where descriptors are handed over, if they are."""
        self._archives = archives
        self._desk = desk

    async def Stat(self, request: pb.PathRequest, context: Context) -> pb.PathStat:
        """Say what a path is."""
        return PATH_STAT.encode(await self._archives.stat(request.container, request.path))

    async def Read(self, request: pb.PathRequest, context: Context) -> AsyncIterator[pb.ReadArchiveResponse]:
        """Send a path, or a volume, as a tar."""
        if request.volume:
            async with aclosing(self._archives.read_volume(request.volume)) as pieces:
                async for piece in pieces:
                    yield pb.ReadArchiveResponse(chunk=piece)
            return
        async with AsyncExitStack() as stack:

            async def handed() -> int:
                return await stack.enter_async_context(self._taken(request.handed))

            read = self._archives.read(request.container, request.path, handed if request.handed else None)
            async for part in await stack.enter_async_context(aclosing(read)):
                if isinstance(part, PathStat):
                    yield pb.ReadArchiveResponse(stat=PATH_STAT.encode(part))
                else:
                    yield pb.ReadArchiveResponse(chunk=part)

    async def Write(
        self, request_iterator: AsyncIterator[pb.WriteArchiveRequest], context: Context
    ) -> pb.WriteArchiveResponse:
        """Unpack a tar."""
        first = await anext(request_iterator, pb.WriteArchiveRequest())
        if not first.HasField("options"):
            raise InvalidArgumentError("the first message of an archive holds its options")
        options = first.options

        async def chunks() -> AsyncIterator[bytes]:
            async for request in request_iterator:
                yield request.chunk

        if options.volume:
            await self._archives.write_volume(options.volume, chunks())
            return pb.WriteArchiveResponse()
        if options.handed:
            async with self._taken(options.handed) as fd:
                body = OpenBody(fd, options.begun)
                await self._archives.write(options.container, options.path, body, keep_kinds=options.keep_kinds)
        else:
            await self._archives.write(options.container, options.path, chunks(), keep_kinds=options.keep_kinds)
        return pb.WriteArchiveResponse()

    def _taken(self, name: str) -> AbstractAsyncContextManager[int]:
        if self._desk is None:
            raise InvalidArgumentError("descriptors are not taken here")
        return self._desk.taken(name)
