"""``sampan.runtime.v1.Containers``: decode, one call, encode."""

import operator
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import grpc

from runtimed.wire.handing import Handing, tell
from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.api.runtime.v1 import containers_pb2_grpc
from sampan.client.convert import containers as convert
from sampan.client.convert import stats, streams
from sampan.errors import InvalidArgumentError
from sampan.resource.container import ContainerDetails
from sampan.resource.listing import Selection
from sampan.resource.protocols import Containers
from sampan.wire.pages import pages

Context = grpc.aio.ServicerContext[Any, Any]


# Rows that are kept as they were encoded: of most machines all, of containers out of the ordinary none.
_KEPT_ROWS: Final = 2048
_LARGEST_KEPT_BYTES: Final = 16 << 10
_KEPT_PAGES: Final = 4  # of a list


class ContainersServicer(containers_pb2_grpc.ContainersServicer):
    """Containers."""

    def __init__(self, containers: Containers, handing: Handing | None = None) -> None:
        """``handing`` is where clients on this host get a lot of output."""
        self._containers = containers
        self._handing = handing
        self._rows: dict[str, tuple[ContainerDetails, pb.Container]] = {}  # by ID, the oldest first
        # Last lists: of those that run, and of all.
        self._lists: deque[tuple[Sequence[ContainerDetails], Sequence[pb.ListContainersResponse]]] = deque(maxlen=2)

    async def Create(self, request: pb.CreateContainerRequest, context: Context) -> pb.CreateContainerResponse:
        """Make a container."""
        created = await self._containers.create(convert.SPEC.decode(request.spec))
        return pb.CreateContainerResponse(id=created.id, warnings=created.warnings)

    async def Get(self, request: pb.GetContainerRequest, context: Context) -> pb.Container:
        """Return one."""
        return convert.CONTAINER.encode(await self._containers.get(request.container, size=request.size))

    async def List(
        self, request: pb.ListContainersRequest, context: Context
    ) -> AsyncIterator[pb.ListContainersResponse]:
        """Return those asked for."""
        selection = Selection(request.all, request.limit, request.latest, request.owner)
        found = await self._containers.list(selection, convert.filters_from_proto(request.filters), size=request.size)
        for page in self._pages(found):
            yield page

    def _pages(self, found: Sequence[ContainerDetails]) -> Sequence[pb.ListContainersResponse]:
        """Encode a list; one of the same objects as one before it is the same messages."""
        for listed in self._lists:
            if len(listed[0]) == len(found) and all(map(operator.is_, listed[0], found)):
                return listed[1]
        made = tuple(pages(pb.ListContainersResponse, "containers", map(self._row, found)))
        if len(made) <= _KEPT_PAGES and not any(one.size_rw_bytes is not None for one in found):
            self._lists.appendleft((found, made))
        return made

    def _row(self, container: ContainerDetails) -> pb.Container:
        """Encode a container; the same object has the same encoding, which is most of the work of a list."""
        known = self._rows.get(container.id)
        if known is not None and known[0] is container:
            return known[1]
        message = convert.CONTAINER.encode(container)
        self._rows.pop(container.id, None)
        if container.size_rw_bytes is None and message.ByteSize() <= _LARGEST_KEPT_BYTES:
            self._rows[container.id] = container, message
            if len(self._rows) > _KEPT_ROWS:
                del self._rows[next(iter(self._rows))]
        return message

    async def Start(self, request: pb.StartContainerRequest, context: Context) -> pb.StartContainerResponse:
        """Start it."""
        await self._containers.start(request.container)
        return pb.StartContainerResponse()

    async def Stop(self, request: pb.StopContainerRequest, context: Context) -> pb.StopContainerResponse:
        """Stop it."""
        await self._containers.stop(request.container, _timeout_s(request), request.signal)
        return pb.StopContainerResponse()

    async def Restart(self, request: pb.RestartContainerRequest, context: Context) -> pb.RestartContainerResponse:
        """Stop and start it."""
        await self._containers.restart(request.container, _timeout_s(request), request.signal)
        return pb.RestartContainerResponse()

    async def Kill(self, request: pb.KillContainerRequest, context: Context) -> pb.KillContainerResponse:
        """Send a signal."""
        await self._containers.kill(request.container, request.signal)
        return pb.KillContainerResponse()

    async def Pause(self, request: pb.PauseContainerRequest, context: Context) -> pb.PauseContainerResponse:
        """Freeze it."""
        await self._containers.pause(request.container)
        return pb.PauseContainerResponse()

    async def Unpause(self, request: pb.UnpauseContainerRequest, context: Context) -> pb.UnpauseContainerResponse:
        """Thaw it."""
        await self._containers.unpause(request.container)
        return pb.UnpauseContainerResponse()

    async def Hold(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.HoldContainerRequest], context: Context
    ) -> None:
        """Keep it frozen until the client half-closes, or is gone.

        Not a generator: one that a client's death finds at its yield is closed at some later time.
        """
        request = await anext(request_iterator, None)
        if request is None:
            raise InvalidArgumentError("the first message must name a container")
        async with self._containers.held(request.container):
            await context.write(pb.HoldContainerResponse())
            async for _ in request_iterator:
                pass

    async def Remove(self, request: pb.RemoveContainerRequest, context: Context) -> pb.RemoveContainerResponse:
        """Remove it, or a link of it."""
        if request.link:
            await self._containers.unlink(request.container, request.link)
            return pb.RemoveContainerResponse()
        await self._containers.remove(request.container, force=request.force, volumes=request.volumes)
        return pb.RemoveContainerResponse()

    async def Rename(self, request: pb.RenameContainerRequest, context: Context) -> pb.RenameContainerResponse:
        """Give it another name."""
        await self._containers.rename(request.container, request.name)
        return pb.RenameContainerResponse()

    async def Update(self, request: pb.UpdateContainerRequest, context: Context) -> pb.UpdateContainerResponse:
        """Change limits or restart policy."""
        warnings = await self._containers.update(
            request.container,
            convert.RESOURCES.decode(request.resources) if request.HasField("resources") else None,
            convert.RESTART_POLICY.decode(request.restart_policy) if request.HasField("restart_policy") else None,
        )
        return pb.UpdateContainerResponse(warnings=warnings)

    async def Wait(self, request: pb.WaitContainerRequest, context: Context) -> AsyncIterator[pb.WaitContainerResponse]:
        """Tell that the wait is in place, then the exit."""
        condition = convert.condition_from_proto(request.condition)
        async with aclosing(self._containers.wait(request.container, condition)) as answers:
            async for answer in answers:
                yield convert.exit_to_proto(answer)

    async def Attach(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.AttachRequest], context: Context
    ) -> None:
        """Connect a client with its streams. Not a generator: a ticket is sent in the middle of one."""
        first = await anext(request_iterator, pb.AttachRequest())
        if not first.HasField("start"):
            raise InvalidArgumentError("the first message must be `start`")
        hand_over = self._handing.by(partial(tell, context)) if self._handing is not None else None
        options = streams.attach_from_proto(first.start, hand_over)
        given = streams.input_from_proto(request_iterator)
        async with aclosing(self._containers.attach(first.start.container, options, given)) as output:
            async for one in output:
                await context.write(streams.output_to_proto(one))

    async def Resize(self, request: pb.ResizeContainerRequest, context: Context) -> pb.ResizeContainerResponse:
        """Set its terminal's size."""
        await self._containers.resize(request.container, convert.CONSOLE_SIZE.decode(request.size))
        return pb.ResizeContainerResponse()

    async def Logs(self, request: pb.LogsRequest, context: Context) -> AsyncIterator[pb.LogsResponse]:
        """Return what was logged."""
        query = streams.query_from_proto(request)
        async with aclosing(self._containers.logs(request.container, query)) as batches:
            async for batch in batches:
                yield streams.logs_to_proto(batch)

    async def Top(self, request: pb.TopRequest, context: Context) -> AsyncIterator[pb.TopResponse]:
        """Return its processes."""
        table = await self._containers.top(request.container, request.ps_args)
        yield pb.TopResponse(titles=table.titles)
        for page in pages(pb.TopResponse, "processes", map(stats.row_to_proto, table.rows)):
            yield page

    async def Stats(self, request: pb.StatsRequest, context: Context) -> AsyncIterator[pb.StatsResponse]:
        """Return what it uses."""
        samples = self._containers.stats(request.container, stream=request.stream, one_shot=request.one_shot)
        async with aclosing(samples):
            async for sample in samples:
                yield stats.STATS.encode(sample)

    async def Prune(
        self, request: pb.PruneContainersRequest, context: Context
    ) -> AsyncIterator[pb.PruneContainersResponse]:
        """Remove all that do not run."""
        pruned = await self._containers.prune(convert.filters_from_proto(request.filters), owner=request.owner)
        total = pruned.reclaimed_bytes
        for page in pages(pb.PruneContainersResponse, "removed", pruned.removed, reclaimed_bytes=total):
            yield page

    async def ReopenLog(self, request: pb.ReopenLogRequest, context: Context) -> pb.ReopenLogResponse:
        """Have its log's file opened anew."""
        await self._containers.reopen_log(request.container)
        return pb.ReopenLogResponse()

    async def Samples(self, request: pb.SamplesRequest, context: Context) -> AsyncIterator[pb.SamplesResponse]:
        """Return what all use."""
        found = await self._containers.samples(
            request.owner, request.containers, detailed=request.detailed, parents=request.parents
        )
        for page in pages(pb.SamplesResponse, "samples", stats.SAMPLE.encode_all(found)):
            yield page


def _timeout_s(request: pb.StopContainerRequest | pb.RestartContainerRequest) -> float | None:
    return float(request.timeout_s) if request.HasField("timeout_s") else None
