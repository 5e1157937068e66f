"""``sampan.runtime.v1.Containers`` over the core."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import repeat
from typing import Any

import grpc

from runtimed.containers.filters import Selection
from runtimed.containers.memory_store import Registry
from runtimed.containers.operations import Containers
from runtimed.containers.paths import Paths
from runtimed.execs.operations import Execs
from runtimed.lifecycle.lifecycle import Lifecycle
from runtimed.lifecycle.waits import Condition, Waits
from runtimed.logs.reader import LogQuery
from runtimed.stats.observation import Observation
from runtimed.streams.streams import AttachOptions, Streams
from runtimed.wire import convert
from runtimed.wire.stats_convert import sample_to_proto
from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.api.runtime.v1 import containers_pb2_grpc
from sampan.errors import InvalidArgumentError
from sampan.resource.container import Container, Stream
from sampan.resource.container_spec import ConsoleSize
from sampan.wire.pages import pages

Context = grpc.aio.ServicerContext[Any, Any]


class ContainersServicer(containers_pb2_grpc.ContainersServicer):
    """Decodes, makes one call, encodes."""

    def __init__(
        self,
        registry: Registry,
        containers: Containers,
        lifecycle: Lifecycle,
        waits: Waits,
        streams: Streams,
        execs: Execs,
        observation: Observation,
        paths: Paths,
    ) -> None:
        self._registry = registry
        self._containers = containers
        self._lifecycle = lifecycle
        self._waits = waits
        self._streams = streams
        self._execs = execs
        self._observation = observation
        self._paths = paths

    def _encoded(self, container: Container, size_bytes: int | None) -> pb.Container:
        return convert.container_to_proto(
            container, self._paths.container(container.id), self._execs.ids_of(container.id), size_bytes
        )

    async def Create(self, request: pb.CreateContainerRequest, context: Context) -> pb.CreateContainerResponse:
        """Make a container."""
        container, warnings = await self._containers.create(convert.spec_from_proto(request.spec))
        return pb.CreateContainerResponse(id=container.id, warnings=warnings)

    async def Get(self, request: pb.GetContainerRequest, context: Context) -> pb.Container:
        """Return one."""
        container = self._registry.find(request.container).container
        return self._encoded(container, await self._containers.size_bytes(container) if request.size else None)

    async def List(
        self, request: pb.ListContainersRequest, context: Context
    ) -> AsyncIterator[pb.ListContainersResponse]:
        """Return those asked for."""
        selection = Selection(request.all, request.limit, request.latest)
        chosen = self._containers.list(selection, convert.filters_from_proto(request.filters))
        sizes: Iterable[int | None] = repeat(None)
        if request.size:
            sizes = await asyncio.gather(*map(self._containers.size_bytes, chosen))
        encoded = map(self._encoded, chosen, sizes)
        for page in pages(pb.ListContainersResponse, "containers", encoded):
            yield page

    async def Start(self, request: pb.StartContainerRequest, context: Context) -> pb.StartContainerResponse:
        """Start it."""
        await self._lifecycle.start(self._registry.find(request.container))
        return pb.StartContainerResponse()

    async def Stop(self, request: pb.StopContainerRequest, context: Context) -> pb.StopContainerResponse:
        """Stop it."""
        await self._lifecycle.stop(self._registry.find(request.container), _timeout_s(request), request.signal)
        return pb.StopContainerResponse()

    async def Restart(self, request: pb.RestartContainerRequest, context: Context) -> pb.RestartContainerResponse:
        """Stop and start it."""
        await self._lifecycle.restart(self._registry.find(request.container), _timeout_s(request), request.signal)
        return pb.RestartContainerResponse()

    async def Kill(self, request: pb.KillContainerRequest, context: Context) -> pb.KillContainerResponse:
        """Send a signal."""
        await self._lifecycle.kill(self._registry.find(request.container), request.signal)
        return pb.KillContainerResponse()

    async def Pause(self, request: pb.PauseContainerRequest, context: Context) -> pb.PauseContainerResponse:
        """Freeze it."""
        await self._lifecycle.pause(self._registry.find(request.container))
        return pb.PauseContainerResponse()

    async def Unpause(self, request: pb.UnpauseContainerRequest, context: Context) -> pb.UnpauseContainerResponse:
        """Thaw it."""
        await self._lifecycle.unpause(self._registry.find(request.container))
        return pb.UnpauseContainerResponse()

    async def Hold(
        self, request_iterator: AsyncIterator[pb.HoldContainerRequest], context: Context
    ) -> AsyncIterator[pb.HoldContainerResponse]:
        """Keep it frozen until the client half-closes, or is gone."""
        request = await anext(request_iterator, None)
        if request is None:
            raise InvalidArgumentError("the first message must name a container")
        async with self._lifecycle.held(self._registry.find(request.container)):
            yield pb.HoldContainerResponse()
            async for _ in request_iterator:
                pass

    async def Remove(self, request: pb.RemoveContainerRequest, context: Context) -> pb.RemoveContainerResponse:
        """Remove it."""
        entry = self._registry.find(request.container)
        await self._containers.remove(entry, force=request.force, volumes=request.volumes)
        return pb.RemoveContainerResponse()

    async def Rename(self, request: pb.RenameContainerRequest, context: Context) -> pb.RenameContainerResponse:
        """Give it another name."""
        await self._containers.rename(self._registry.find(request.container), request.name)
        return pb.RenameContainerResponse()

    async def Update(self, request: pb.UpdateContainerRequest, context: Context) -> pb.UpdateContainerResponse:
        """Change limits or restart policy."""
        warnings = await self._containers.update(
            self._registry.find(request.container),
            convert.resources_from_proto(request.resources) if request.HasField("resources") else None,
            convert.restart_policy_from_proto(request.restart_policy) if request.HasField("restart_policy") else None,
        )
        return pb.UpdateContainerResponse(warnings=warnings)

    async def Wait(self, request: pb.WaitContainerRequest, context: Context) -> AsyncIterator[pb.WaitContainerResponse]:
        """Tell that the wait is in place, then the exit."""
        condition = Condition[pb.WaitContainerRequest.Condition.Name(request.condition)]
        wait = self._waits.place(self._registry.find(request.container), condition)
        try:
            yield pb.WaitContainerResponse(waiting=True)
            end = await wait.exit()
            yield pb.WaitContainerResponse(exit_code=end.code, error=end.error)
        finally:
            wait.close()

    async def Attach(
        self, request_iterator: AsyncIterator[pb.AttachRequest], context: Context
    ) -> AsyncIterator[pb.StreamOutput]:
        """Connect a client with its streams."""
        start = (await first(request_iterator)).start
        options = AttachOptions(
            stdin=start.stdin,
            streams=_wanted(stdout=start.stdout, stderr=start.stderr),
            live=start.stream,
            logs=start.logs,
            detach_keys=start.detach_keys,
        )
        attachment = self._streams.attach(self._registry.find(start.container), options)
        try:
            yield pb.StreamOutput(attached=True, tty=attachment.tty)
            output = self._streams.converse(attachment, input_of(request_iterator))
            async for frames in output:
                yield convert.output_to_proto(frames)
            if attachment.detached:
                yield pb.StreamOutput(detached=True)
        finally:
            self._streams.leave(attachment)

    async def Resize(self, request: pb.ResizeContainerRequest, context: Context) -> pb.ResizeContainerResponse:
        """Set its terminal's size."""
        self._streams.resize(self._registry.find(request.container), convert.console_size_from_proto(request.size))
        return pb.ResizeContainerResponse()

    async def Logs(self, request: pb.LogsRequest, context: Context) -> AsyncIterator[pb.LogsResponse]:
        """Return what was logged."""
        entry = self._registry.find(request.container)
        query = LogQuery(
            stdout=request.stdout,
            stderr=request.stderr,
            follow=request.follow,
            tail=request.tail if request.HasField("tail") and request.tail >= 0 else None,
            since_ns=convert.time_ns(request.since),
            until_ns=convert.time_ns(request.until),
        )
        entries = self._streams.logs(entry, query)
        yield pb.LogsResponse(tty=entry.container.spec.process.tty)
        async for batch in entries:
            yield convert.log_to_proto(batch)

    async def Top(self, request: pb.TopRequest, context: Context) -> AsyncIterator[pb.TopResponse]:
        """Return its processes."""
        table = await self._observation.top(self._registry.find(request.container), request.ps_args)
        yield pb.TopResponse(titles=table.titles)
        for page in pages(pb.TopResponse, "processes", (pb.TopResponse.Row(values=row) for row in table.rows)):
            yield page

    async def Stats(self, request: pb.StatsRequest, context: Context) -> AsyncIterator[pb.StatsResponse]:
        """Return what it uses."""
        entry = self._registry.find(request.container)
        async for sample in self._observation.stats(entry, stream=request.stream, one_shot=request.one_shot):
            yield sample_to_proto(entry.container, sample)

    async def Prune(
        self, request: pb.PruneContainersRequest, context: Context
    ) -> AsyncIterator[pb.PruneContainersResponse]:
        """Remove all that do not run."""
        pruned = await self._containers.prune(convert.filters_from_proto(request.filters))
        total = pruned.reclaimed_bytes
        for page in pages(pb.PruneContainersResponse, "removed", pruned.ids, reclaimed_bytes=total):
            yield page


def _timeout_s(request: pb.StopContainerRequest | pb.RestartContainerRequest) -> float | None:
    return float(request.timeout_s) if request.HasField("timeout_s") else None


def _wanted(*, stdout: bool, stderr: bool) -> frozenset[Stream]:
    return frozenset(s for s, wanted in ((Stream.STDOUT, stdout), (Stream.STDERR, stderr)) if wanted)


async def first(requests: AsyncIterator[Any]) -> Any:
    """Return the first request of a stream.

    Raises:
        InvalidArgumentError: there is none, or it is not ``start``.
    """
    async for request in requests:
        if request.WhichOneof("input") == "start":
            return request
        break
    raise InvalidArgumentError("the first message must be `start`")


async def input_of(requests: AsyncIterator[Any]) -> AsyncIterator[bytes | ConsoleSize]:
    """Yield a client's input."""
    async for request in requests:
        match request.WhichOneof("input"):
            case "stdin":
                yield request.stdin
            case "resize":
                yield convert.console_size_from_proto(request.resize)
