"""Client of ``sampan.runtime.v1.Containers``."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf.message import Message

from sampan import limits
from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.api.runtime.v1 import spec_pb2
from sampan.api.runtime.v1.containers_pb2_grpc import ContainersStub
from sampan.client.calls import read, requests
from sampan.client.convert import containers as convert
from sampan.client.convert import streams
from sampan.client.runtime.conversations import converse, takes_descriptors
from sampan.errors import InvalidArgumentError, UnavailableError
from sampan.resource.container import Condition, ContainerDetails, Created, Exit
from sampan.resource.container_spec import ConsoleSize, ContainerSpec, Resources, RestartPolicy
from sampan.resource.listing import NO_FILTERS, RUNNING_ONES, Filters, Pruned, Selection
from sampan.resource.stats import ContainerSample, ContainerStats, Top
from sampan.resource.streams import AttachOptions, Input, LogBatch, LogQuery, Output
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import items_of, whole
from sampan.wire.repeating import (
    GET_CONTAINER,
    LIST_CONTAINERS,
    REMOVE_CONTAINER,
    REOPEN_LOG,
    RESIZE,
    SAMPLES,
    STOP,
    TOP,
    UPDATE,
    Repeating,
)

if TYPE_CHECKING:  # the stubs' asynchronous types exist only for type checkers
    from sampan.api.runtime.v1.containers_pb2_grpc import ContainersAsyncStub

# Rows of lists that are kept as they were decoded, as runtimed keeps them as they were encoded.
_KEPT_ROWS: Final = 2048
_LARGEST_KEPT_BYTES: Final = 16 << 10
_LIST: Final = "/sampan.runtime.v1.Containers/List"

# In a message, frames cost a little.
_MAX_SPEC_BYTES: Final = 2 * limits.RECORD_BYTES


class ContainersClient:
    """Satisfies ``resource.protocols.Containers``."""

    def __init__(self, channel: grpc.aio.Channel, handing: Path | None = None) -> None:
        """``handing`` is where runtimed hands over output, if it is on this host."""
        self._handing = handing
        self._stub: ContainersAsyncStub = ContainersStub(channel)
        self._again = Repeating(channel, "runtimed")
        # Pages as bytes: most of what is in them is known, and needs no message.
        self._list: grpc.aio.UnaryStreamMultiCallable[Message, bytes] = channel.unary_stream(
            _LIST, request_serializer=pb.ListContainersRequest.SerializeToString
        )
        self._rows: dict[bytes, ContainerDetails] = {}  # by their messages, what was not used for longest first

    async def create(self, spec: ContainerSpec) -> Created:
        """Make a container."""
        message = convert.SPEC.encode(spec)
        _check_size(message)
        with rpc_errors():
            created = await self._stub.Create(pb.CreateContainerRequest(spec=message))
        return Created(created.id, tuple(created.warnings))

    async def get(self, container: str, *, size: bool = False) -> ContainerDetails:
        """Return one."""
        request = pb.GetContainerRequest(container=container, size=size)
        return convert.CONTAINER.decode(await self._again.ask(GET_CONTAINER, lambda: self._stub.Get(request)))

    async def list(
        self, selection: Selection = RUNNING_ONES, filters: Filters = NO_FILTERS, *, size: bool = False
    ) -> tuple[ContainerDetails, ...]:
        """Return those asked for, newest first."""
        async with aclosing(self.pages(selection, filters, size=size)) as pages:
            return tuple([container async for page in pages for container in page])

    def pages(
        self, selection: Selection = RUNNING_ONES, filters: Filters = NO_FILTERS, *, size: bool = False
    ) -> AsyncGenerator[Sequence[ContainerDetails], None]:
        """Yield those asked for, some at a time."""
        request = pb.ListContainersRequest(
            all=selection.all,
            limit=selection.limit,
            latest=selection.latest,
            filters=convert.filters_to_proto(filters),
            size=size,
            owner=selection.owner,
        )
        return self._again.read(LIST_CONTAINERS, lambda: read(self._list(request), self._page))

    def _page(self, page: bytes) -> Sequence[ContainerDetails]:
        items = items_of(page)
        if items is None:  # of a service that says more than is known here
            return tuple(map(convert.CONTAINER.decode, pb.ListContainersResponse.FromString(page).containers))
        return tuple(map(self._row, items))

    def _row(self, sent: bytes) -> ContainerDetails:
        """Decode a container; what has not changed since the last list is known, which is most of the work of one."""
        known = self._rows.pop(sent, None)
        if known is None:
            known = convert.CONTAINER.decode(pb.Container.FromString(sent))
        if len(sent) <= _LARGEST_KEPT_BYTES:
            self._rows[sent] = known
            if len(self._rows) > _KEPT_ROWS:
                del self._rows[next(iter(self._rows))]
        return known

    async def start(self, container: str) -> None:
        """Start it."""
        with rpc_errors():
            await self._stub.Start(pb.StartContainerRequest(container=container))

    async def stop(self, container: str, timeout_s: float | None = None, signal: str = "") -> None:
        """Stop it."""
        request = pb.StopContainerRequest(container=container, timeout_s=_whole(timeout_s), signal=signal)
        await self._again.do(STOP, lambda: self._stub.Stop(request))

    async def restart(self, container: str, timeout_s: float | None = None, signal: str = "") -> None:
        """Stop and start it."""
        request = pb.RestartContainerRequest(container=container, timeout_s=_whole(timeout_s), signal=signal)
        with rpc_errors():
            await self._stub.Restart(request)

    async def kill(self, container: str, signal: str = "") -> None:
        """Send a signal."""
        with rpc_errors():
            await self._stub.Kill(pb.KillContainerRequest(container=container, signal=signal))

    async def pause(self, container: str) -> None:
        """Freeze it."""
        with rpc_errors():
            await self._stub.Pause(pb.PauseContainerRequest(container=container))

    async def unpause(self, container: str) -> None:
        """Thaw it."""
        with rpc_errors():
            await self._stub.Unpause(pb.UnpauseContainerRequest(container=container))

    @asynccontextmanager
    async def held(self, container: str) -> AsyncGenerator[None, None]:
        """Keep it frozen within."""
        call = self._stub.Hold()
        try:
            with rpc_errors():
                await call.write(pb.HoldContainerRequest(container=container))
                if await call.read() is grpc.aio.EOF:
                    raise UnavailableError("runtimed has let the container go before it was held")
            try:
                yield
            finally:  # it goes on before anybody hears how this ended
                with rpc_errors():
                    await call.done_writing()
                    await call.read()  # raises how it ended
        finally:
            call.cancel()

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it."""
        request = pb.RemoveContainerRequest(container=container, force=force, volumes=volumes)
        await self._again.do(REMOVE_CONTAINER, lambda: self._stub.Remove(request))

    async def unlink(self, container: str, alias: str) -> None:
        """Take a legacy link from it."""
        with rpc_errors():
            await self._stub.Remove(pb.RemoveContainerRequest(container=container, link=alias))

    async def rename(self, container: str, name: str) -> None:
        """Give it another name."""
        with rpc_errors():
            await self._stub.Rename(pb.RenameContainerRequest(container=container, name=name))

    async def update(
        self, container: str, resources: Resources | None = None, restart_policy: RestartPolicy | None = None
    ) -> tuple[str, ...]:
        """Change limits and the restart policy; return warnings."""
        request = pb.UpdateContainerRequest(
            container=container,
            resources=None if resources is None else convert.RESOURCES.encode(resources),
            restart_policy=None if restart_policy is None else convert.RESTART_POLICY.encode(restart_policy),
        )
        return tuple((await self._again.ask(UPDATE, lambda: self._stub.Update(request))).warnings)

    def wait(self, container: str, condition: Condition = Condition.NOT_RUNNING) -> AsyncGenerator[Exit | None, None]:
        """Yield None when the wait is in place, then the exit."""
        request = pb.WaitContainerRequest(container=container, condition=convert.condition_to_proto(condition))
        return read(self._stub.Wait(request), convert.exit_from_proto)

    def attach(self, container: str, options: AttachOptions, input: Input) -> AsyncGenerator[Output, None]:
        """Connect a client with its streams."""
        takes = takes_descriptors(self._handing)
        first = streams.attach_to_proto(container, options, takes_descriptors=takes)
        return converse(self._stub.Attach(requests(first, input, _input)), self._handing, options.streams)

    async def resize(self, container: str, size: ConsoleSize) -> None:
        """Set its terminal's size."""
        request = pb.ResizeContainerRequest(container=container, size=convert.CONSOLE_SIZE.encode(size))
        await self._again.do(RESIZE, lambda: self._stub.Resize(request))

    def logs(self, container: str, query: LogQuery) -> AsyncGenerator[LogBatch, None]:
        """Yield what was logged."""
        return read(self._stub.Logs(streams.query_to_proto(container, query)), streams.logs_from_proto)

    async def top(self, container: str, ps_args: str = "") -> Top:
        """Return its processes."""
        from sampan.client.convert import stats  # here and below: few commands need it

        request = pb.TopRequest(container=container, ps_args=ps_args)
        return stats.top_from_proto(await self._again.ask(TOP, lambda: whole(self._stub.Top(request))))

    def stats(
        self, container: str, *, stream: bool = True, one_shot: bool = False
    ) -> AsyncGenerator[ContainerStats, None]:
        """Yield what it uses."""
        from sampan.client.convert import stats

        request = pb.StatsRequest(container=container, stream=stream, one_shot=one_shot)
        return read(self._stub.Stats(request), stats.STATS.decode)

    async def prune(self, filters: Filters = NO_FILTERS, *, owner: str = "") -> Pruned:
        """Remove all that do not run."""
        request = pb.PruneContainersRequest(filters=convert.filters_to_proto(filters), owner=owner)
        with rpc_errors():
            pruned = await whole(self._stub.Prune(request))
        return Pruned(tuple(pruned.removed), pruned.reclaimed_bytes)

    async def reopen_log(self, container: str) -> None:
        """Have its log's file opened anew."""
        request = pb.ReopenLogRequest(container=container)
        await self._again.do(REOPEN_LOG, lambda: self._stub.ReopenLog(request))

    async def samples(
        self,
        owner: str = "",
        containers: Sequence[str] = (),
        *,
        detailed: bool = False,
        parents: Sequence[str] = (),
    ) -> tuple[ContainerSample, ...]:
        """Return what those that run use."""
        from sampan.client.convert import stats

        request = pb.SamplesRequest(owner=owner, containers=containers, detailed=detailed, parents=parents)
        answer = await self._again.ask(SAMPLES, lambda: whole(self._stub.Samples(request)))
        return tuple(stats.SAMPLE.decode_all(answer.samples))


def _check_size(spec: spec_pb2.ContainerSpec) -> None:
    """Refuse what is more than a message to runtimed can hold, which would refuse it for its size anyway."""
    if spec.ByteSize() <= _MAX_SPEC_BYTES:
        return

    def alone(name: str) -> int:
        part = spec_pb2.ContainerSpec()
        part.CopyFrom(spec)
        for field, _ in spec.ListFields():
            if field.name != name:
                part.ClearField(field.name)  # type: ignore[arg-type]  # the stub lists the names
        return part.ByteSize()

    longest = max((field.name for field, _ in spec.ListFields() if field.name != limits.SENT), key=alone)
    raise InvalidArgumentError(
        f"container, most of it in {longest.replace('_', ' ')}: {spec.ByteSize()} bytes in all, "
        f"the most is {limits.RECORD_BYTES}"
    )


def _whole(timeout_s: float | None) -> int | None:
    return None if timeout_s is None else int(timeout_s)


def _input(item: bytes | ConsoleSize) -> pb.AttachRequest:
    if isinstance(item, ConsoleSize):
        return pb.AttachRequest(resize=convert.CONSOLE_SIZE.encode(item))
    return pb.AttachRequest(stdin=item)
