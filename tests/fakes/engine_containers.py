"""Containers of the fake engine."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.api.runtime.v1 import containers_pb2, containers_pb2_grpc
from sampan.errors import (
    CommandNotFoundError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    NotModifiedError,
)
from sampan.resource.listing import EVERYONE
from sampan.wire.pages import pages
from tests.fakes.engine_process import Frame, Process

State = containers_pb2.ContainerState


def now() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


@dataclass
class Held:
    """A container, and the process it runs."""

    record: containers_pb2.Container
    process: Process | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    removed: asyncio.Event = field(default_factory=asyncio.Event)


def _has(owner: str, held: Held) -> bool:
    return owner in (held.record.spec.owner, EVERYONE)


class FakeContainers(containers_pb2_grpc.ContainersServicer):
    """Containers by ID."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.resized: list[tuple[int, int]] = []
        self.usage = containers_pb2.StatsResponse(  # of each of them
            cpu=containers_pb2.StatsResponse.Cpu(usage_ns=100, system_ns=1000, online_cpus=2),
            memory=containers_pb2.StatsResponse.Memory(usage_bytes=4096, limit_bytes=8192),
            pids=1,
        )
        self.somebody_attached = asyncio.Event()
        self.attach_cancelled = asyncio.Event()
        self.wait_cancelled = asyncio.Event()
        self.list_cancelled = asyncio.Event()
        self.list_fails: Exception | None = None  # at its end
        self.warns: list[str] = []  # of whatever is created
        self.listed: list[containers_pb2.ListContainersRequest] = []
        self.reopened: list[str] = []
        self.updated: list[containers_pb2.UpdateContainerRequest] = []
        self.unlinked: list[tuple[str, str]] = []

    def find(self, name: str) -> Held:
        named = [held for held in self.held.values() if not held.record.spec.owner and held.record.spec.name == name]
        begun = [held for container_id, held in self.held.items() if name and container_id.startswith(name)]
        for held in (*named, *begun):
            return held
        raise NotFoundError(f"No such container: {name}")

    async def Create(self, request: containers_pb2.CreateContainerRequest, context: Any) -> Any:
        spec = request.spec
        name = spec.name or f"fake_{len(self.held)}"
        for held in self.held.values():
            if (held.record.spec.owner, held.record.spec.name) == (spec.owner, name):
                raise ConflictError(
                    f'Conflict. The container name "/{name}" is already in use by container "{held.record.id}". '
                    "You have to remove (or rename) that container to be able to reuse that name."
                )
        container_id = secrets.token_hex(32)
        record = containers_pb2.Container(id=container_id, spec=spec, created=now(), driver="overlayfs", runtime="runc")
        record.spec.name = name
        self.held[container_id] = Held(record)
        return containers_pb2.CreateContainerResponse(id=container_id, warnings=self.warns)

    async def Get(self, request: containers_pb2.GetContainerRequest, context: Any) -> containers_pb2.Container:
        record = self.find(request.container).record
        if request.size:
            record.size_rw_bytes = 7
        return record

    async def List(self, request: containers_pb2.ListContainersRequest, context: Any) -> AsyncIterator[Any]:
        self.listed.append(request)
        records = [one.record for one in reversed(self.held.values()) if _has(request.owner, one)]
        if not request.all:
            records = [record for record in records if record.state.status == State.RUNNING]
        try:
            for page in pages(containers_pb2.ListContainersResponse, "containers", records[: request.limit or None]):
                yield page
        except (asyncio.CancelledError, GeneratorExit):
            self.list_cancelled.set()
            raise
        if self.list_fails is not None:
            raise self.list_fails

    async def Start(self, request: containers_pb2.StartContainerRequest, context: Any) -> Any:
        held = self.find(request.container)
        if held.record.state.status == State.RUNNING:
            raise NotModifiedError(f"container {held.record.spec.name} is already running")
        args = [*held.record.spec.process.entrypoint, *held.record.spec.process.cmd]
        if args == ["missing"]:
            held.record.state.exit_code = 127
            raise CommandNotFoundError('exec: "missing": executable file not found in $PATH')
        held.process = Process(args)
        held.record.state.status = State.RUNNING
        held.record.state.pid = 4242
        held.record.state.started_at.GetCurrentTime()
        held.stopped.clear()
        held.started.set()
        asyncio.create_task(self._reap(held, held.process))  # noqa: RUF006 - ends with its process
        return containers_pb2.StartContainerResponse()

    async def _reap(self, held: Held, process: Process) -> None:
        await process.ended.wait()
        held.record.state.status = State.EXITED
        held.record.state.pid = 0
        held.record.state.exit_code = process.exit_code or 0
        held.record.state.finished_at.GetCurrentTime()
        held.stopped.set()
        if held.record.spec.auto_remove:
            self.held.pop(held.record.id, None)
            held.removed.set()

    async def Stop(self, request: containers_pb2.StopContainerRequest, context: Any) -> Any:
        held = self.find(request.container)
        if held.process is None or held.record.state.status != State.RUNNING:
            raise NotModifiedError(f"container {held.record.spec.name} is not running")
        held.process.kill()
        await held.stopped.wait()
        return containers_pb2.StopContainerResponse()

    async def Restart(self, request: containers_pb2.RestartContainerRequest, context: Any) -> Any:
        held = self.find(request.container)
        if held.process is not None and held.record.state.status == State.RUNNING:
            held.process.kill()
            await held.stopped.wait()
        await self.Start(containers_pb2.StartContainerRequest(container=request.container), context)
        return containers_pb2.RestartContainerResponse()

    async def Pause(self, request: containers_pb2.PauseContainerRequest, context: Any) -> Any:
        held = self.find(request.container)
        if held.record.state.status != State.RUNNING:
            raise ConflictError(f"container {held.record.id} is not running")
        held.record.state.status = State.PAUSED
        return containers_pb2.PauseContainerResponse()

    async def Unpause(self, request: containers_pb2.UnpauseContainerRequest, context: Any) -> Any:
        held = self.find(request.container)
        if held.record.state.status != State.PAUSED:
            raise ConflictError(f"Container {held.record.id} is not paused")
        held.record.state.status = State.RUNNING
        return containers_pb2.UnpauseContainerResponse()

    async def Hold(
        self, request_iterator: AsyncIterator[containers_pb2.HoldContainerRequest], context: Any
    ) -> AsyncIterator[containers_pb2.HoldContainerResponse]:
        held = self.find((await anext(request_iterator)).container)
        running = held.record.state.status == State.RUNNING
        if running:
            held.record.state.status = State.PAUSED
        try:
            yield containers_pb2.HoldContainerResponse()
            async for _ in request_iterator:
                pass
        finally:
            if running:
                held.record.state.status = State.RUNNING

    async def Kill(self, request: containers_pb2.KillContainerRequest, context: Any) -> Any:
        try:
            held = self.find(request.container)
        except NotFoundError as error:
            raise NotFoundError(f"Cannot kill container: {request.container}: {error}") from error
        if held.process is None or held.record.state.status != State.RUNNING:
            raise ConflictError(
                f"Cannot kill container: {request.container}: Container {held.record.id} is not running"
            )
        held.process.kill()
        return containers_pb2.KillContainerResponse()

    async def Remove(self, request: containers_pb2.RemoveContainerRequest, context: Any) -> Any:
        held = self.find(request.container)
        if request.link:
            self.unlinked.append((held.record.spec.name, request.link))
            return containers_pb2.RemoveContainerResponse()
        if held.record.state.status == State.RUNNING:
            if not request.force or held.process is None:
                raise ConflictError(
                    f'cannot remove container "/{held.record.spec.name}": container is running: stop the container '
                    "before removing or force remove"
                )
            held.process.kill()
            await held.stopped.wait()
        self.held.pop(held.record.id, None)
        held.removed.set()
        return containers_pb2.RemoveContainerResponse()

    async def Rename(self, request: containers_pb2.RenameContainerRequest, context: Any) -> Any:
        if not request.name:
            raise InvalidArgumentError("Neither old nor new names may be empty")
        self.find(request.container).record.spec.name = request.name
        return containers_pb2.RenameContainerResponse()

    async def Update(self, request: containers_pb2.UpdateContainerRequest, context: Any) -> Any:
        self.find(request.container)
        self.updated.append(request)
        return containers_pb2.UpdateContainerResponse(warnings=[])

    async def Wait(self, request: containers_pb2.WaitContainerRequest, context: Any) -> AsyncIterator[Any]:
        held = self.find(request.container)
        yield containers_pb2.WaitContainerResponse(waiting=True)
        try:
            await self._wait(held, request.condition)
        except asyncio.CancelledError:
            self.wait_cancelled.set()
            raise
        yield containers_pb2.WaitContainerResponse(exit_code=held.record.state.exit_code)

    async def _wait(self, held: Held, condition: containers_pb2.WaitContainerRequest.Condition.ValueType) -> None:
        if condition == containers_pb2.WaitContainerRequest.NEXT_EXIT:
            await held.started.wait()
        if condition == containers_pb2.WaitContainerRequest.REMOVED:
            await held.removed.wait()
        elif held.started.is_set():
            await held.stopped.wait()

    async def Attach(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[containers_pb2.StreamOutput]:
        start = (await anext(requests)).start
        held = self.find(start.container)
        yield containers_pb2.StreamOutput(attached=True, tty=held.record.spec.process.tty)
        self.somebody_attached.set()
        feeding = asyncio.create_task(self._feed(held, requests, wanted=start.stdin))
        try:
            await held.started.wait()
            assert held.process is not None
            async for output in held.process.frames():
                yield output
        except (asyncio.CancelledError, GeneratorExit):
            self.attach_cancelled.set()
            raise
        finally:
            feeding.cancel()

    async def _feed(self, held: Held, requests: AsyncIterator[Any], *, wanted: bool) -> None:
        await held.started.wait()
        assert held.process is not None
        async for request in requests:
            if wanted:
                await held.process.input.put(request.stdin)
        if wanted:
            await held.process.input.put(None)

    async def Resize(self, request: containers_pb2.ResizeContainerRequest, context: Any) -> Any:
        self.find(request.container)
        self.resized.append((request.size.height, request.size.width))
        return containers_pb2.ResizeContainerResponse()

    async def Logs(self, request: containers_pb2.LogsRequest, context: Any) -> AsyncIterator[Any]:
        held = self.find(request.container)
        wanted = {Frame.STDOUT: request.stdout, Frame.STDERR: request.stderr}
        lines = [(Frame.STDOUT, b"one\n"), (Frame.STDERR, b"two\n"), (Frame.STDOUT, b"three\n")]
        entries = [
            (stream, line)
            for stream, line in lines[-request.tail if request.HasField("tail") else 0 :]
            if wanted[stream]
        ]
        yield containers_pb2.LogsResponse(tty=held.record.spec.process.tty)
        yield containers_pb2.LogsResponse(
            streams=bytes(stream for stream, _ in entries),
            times_ns=[1_700_000_000_000_001_000] * len(entries),
            lines=[line for _, line in entries],
        )
        if request.follow:
            await held.stopped.wait()

    async def Top(self, request: containers_pb2.TopRequest, context: Any) -> AsyncIterator[Any]:
        row = containers_pb2.TopResponse.Row(values=["1", "sh"])
        yield containers_pb2.TopResponse(titles=["PID", "CMD"])
        yield containers_pb2.TopResponse(processes=[row])

    async def Stats(self, request: containers_pb2.StatsRequest, context: Any) -> AsyncIterator[Any]:
        held = self.find(request.container)
        for _ in range(2 if request.stream else 1):
            sample = containers_pb2.StatsResponse(id=held.record.id, name=held.record.spec.name, read=now())
            sample.MergeFrom(self.usage)
            yield sample

    async def Prune(self, request: containers_pb2.PruneContainersRequest, context: Any) -> AsyncIterator[Any]:
        gone = [
            key
            for key, held in self.held.items()
            if held.record.state.status != State.RUNNING and _has(request.owner, held)
        ]
        for key in gone:
            del self.held[key]
        yield containers_pb2.PruneContainersResponse(removed=gone, reclaimed_bytes=len(gone))

    async def ReopenLog(self, request: containers_pb2.ReopenLogRequest, context: Any) -> Any:
        held = self.find(request.container)
        if held.record.spec.log.driver != "cri":
            raise InvalidArgumentError(f"the log of container {held.record.id} is not opened anew: its driver is ''")
        if held.record.state.status != State.RUNNING:
            raise ConflictError(f"container {held.record.id} is not running")
        self.reopened.append(held.record.id)
        return containers_pb2.ReopenLogResponse()

    async def Samples(self, request: containers_pb2.SamplesRequest, context: Any) -> AsyncIterator[Any]:
        wanted = set(request.containers)
        running = [
            held.record
            for held in self.held.values()
            if held.record.state.status == State.RUNNING and _has(request.owner, held)
        ]
        yield containers_pb2.SamplesResponse(
            samples=[
                containers_pb2.SamplesResponse.Sample(
                    id=one.id, read=now(), pids=1, details=_details(one.id) if request.detailed else None
                )
                for one in running
                if not wanted or one.id in wanted
            ]
        )


def _details(container: str) -> containers_pb2.SamplesResponse.Details:
    return containers_pb2.SamplesResponse.Details(cgroup_path=f"/fake/{container}", processes=1)
