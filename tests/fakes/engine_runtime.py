"""runtimed's part of the fake engine. A command called ``missing`` is not in the image."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from runtimed.events import matches
from sampan.api.runtime.v1 import containers_pb2, execs_pb2, execs_pb2_grpc, spec_pb2
from sampan.docker.times import zoned
from sampan.errors import CommandNotFoundError, ConflictError, NotFoundError, UnavailableError
from sampan.resource.event import Event
from sampan.resource.listing import EVERYONE, NO_FILTERS, Filters
from sampan.resource.stats import HostInfo, OciRuntimeInfo
from sampan.wire.metadata import ATTACHES_STDIN
from tests.fakes.archives import FakeArchives
from tests.fakes.engine_containers import FakeContainers, Held, State, now
from tests.fakes.engine_process import Process
from tests.fakes.networks import FakeNetworks
from tests.fakes.volumes import FakeVolumes


class FakeExecs(execs_pb2_grpc.ExecsServicer):
    """Execs by ID."""

    def __init__(self, containers: FakeContainers) -> None:
        self._containers = containers
        self.records: dict[str, execs_pb2.Exec] = {}
        self.processes: dict[str, Process] = {}
        self.somebody_started = asyncio.Event()

    async def Create(self, request: execs_pb2.CreateExecRequest, context: Any) -> execs_pb2.CreateExecResponse:
        held = self._containers.find(request.spec.container)
        if held.record.state.status != State.RUNNING:
            raise ConflictError(f"container {held.record.id} is not running")
        exec_id = secrets.token_hex(32)
        self.records[exec_id] = execs_pb2.Exec(id=exec_id, container_id=held.record.id, spec=request.spec)
        return execs_pb2.CreateExecResponse(id=exec_id)

    async def Get(self, request: execs_pb2.GetExecRequest, context: Any) -> execs_pb2.Exec:
        if request.id not in self.records:
            raise NotFoundError(f"No such exec instance: {request.id}")
        return self.records[request.id]

    async def Start(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[containers_pb2.StreamOutput]:
        start = (await anext(requests)).start
        record = await self.Get(execs_pb2.GetExecRequest(id=start.id), context)
        if record.running or record.HasField("exit_code"):
            done = "is already running" if record.running else "has already run"
            raise ConflictError(f"Error: Exec command {record.id} {done}")
        await context.send_initial_metadata(((ATTACHES_STDIN, str(int(record.spec.attach_stdin))),))
        args = list(record.spec.args)
        if args == ["missing"]:
            record.exit_code = 127
            raise CommandNotFoundError('exec failed: "missing": executable file not found in $PATH')
        if args == ["gone"]:
            raise UnavailableError("runtimed does not answer")
        process = self.processes[start.id] = Process(args)
        self.somebody_started.set()
        record.running = True
        yield containers_pb2.StreamOutput(attached=True, tty=record.spec.tty)
        if start.detach:
            return

        async def feed() -> None:
            async for request in requests:
                await process.input.put(request.stdin)
            await process.input.put(None)

        feeding = asyncio.create_task(feed())
        try:
            async for output in process.frames():
                yield output
            await process.ended.wait()
            record.running = False
            record.exit_code = process.exit_code or 0
        finally:
            feeding.cancel()

    async def Resize(self, request: execs_pb2.ResizeExecRequest, context: Any) -> execs_pb2.ResizeExecResponse:
        return execs_pb2.ResizeExecResponse()

    async def Kill(self, request: execs_pb2.KillExecRequest, context: Any) -> execs_pb2.KillExecResponse:
        await self.Get(execs_pb2.GetExecRequest(id=request.id), context)
        process = self.processes.get(request.id)
        if process is not None:
            process.kill()
        return execs_pb2.KillExecResponse()


class FakeEvents:
    """Satisfies ``resource.protocols.Events``: everything since the beginning is kept."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[Event]] = set()
        self._last_ns = 0
        self.published: list[Event] = []
        self.subscriptions: list[Filters] = []
        self.kept_since_s = 0

    async def subscribe(
        self, *, since_ns: int = 0, until_ns: int = 0, filters: Filters = NO_FILTERS, owner: str = ""
    ) -> AsyncGenerator[Event | None, None]:
        """With an end it ends at once: nothing that is still to happen is waited for."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        for event in self.published if since_ns or until_ns else ():
            if event.time_ns >= since_ns and (not until_ns or event.time_ns <= until_ns):
                queue.put_nowait(event)
        self._listeners.add(queue)
        self.subscriptions.append(filters)
        try:
            yield None
            while not (until_ns and queue.empty()):
                event = await queue.get()
                if owner in (event.owner, EVERYONE) and matches(event, filters):
                    yield event
        finally:
            self._listeners.discard(queue)

    async def kept_since_ns(self) -> int:
        return self.kept_since_s * 10**9

    async def publish(self, events: Iterable[Event]) -> None:
        for event in events:
            told = replace(event, time_ns=event.time_ns or max(time.time_ns(), self._last_ns + 1))
            self._last_ns = max(told.time_ns, self._last_ns)
            self.published.append(told)
            for queue in self._listeners:
                queue.put_nowait(told)


class FakeHost:
    """Satisfies ``resource.protocols.Host``: a host with one runtime."""

    def __init__(self, events: FakeEvents) -> None:
        self._events = events
        self.seccomp_profile = "builtin"
        self.system_time = ""  # empty: what this process has

    async def info(self) -> HostInfo:
        return HostInfo(
            default_runtime="runc",
            runtimes=(
                OciRuntimeInfo("runc", "/usr/bin/runc", "1.1", usable=True, features='{"ociVersionMin":"1.0.0"}'),
            ),
            cgroup_version=2,
            security_options=(f"name=seccomp,profile={self.seccomp_profile}",),
            containers_running=1,
            containers_stopped=2,
            conmon_version="2.1.6",
            log_drivers=("json-file",),
            network_drivers=("bridge", "host", "null"),
            volume_drivers=("local",),
            events=len(self._events.published),
            limits=("memory", "swap", "cpu_quota", "cpu_shares", "cpuset", "pids"),
            ipv4_forwarding=True,
            system_time=self.system_time or zoned(datetime.now(UTC)),
        )


class FakeRuntime:
    """All of runtimed."""

    def __init__(self) -> None:
        self.containers = FakeContainers()
        self.execs = FakeExecs(self.containers)
        self.events = FakeEvents()
        self.networks = FakeNetworks()
        self.volumes = FakeVolumes()
        self.host = FakeHost(self.events)
        self.archives = FakeArchives(lambda name: str(self.containers.find(name).record.id))

    def create(self, *args: str, name: str = "", owner: str = "", **process: Any) -> str:
        """Put a container there without asking anybody, and return its ID."""
        container_id = secrets.token_hex(32)
        spec = spec_pb2.ContainerSpec(
            name=name or container_id[:8], owner=owner, process=spec_pb2.Process(cmd=args, **process)
        )
        record = containers_pb2.Container(id=container_id, spec=spec, created=now(), driver="overlayfs", runtime="runc")
        self.containers.held[container_id] = Held(record)
        return container_id
