"""A runtimed in a process of its own, over its real socket, beside a fake snapshotter in this one."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from sampan.api.containerd.snapshots.v1 import snapshots_pb2_grpc
from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.api.runtime.v1 import containers_pb2_grpc, events_pb2_grpc, execs_pb2, execs_pb2_grpc, spec_pb2
from sampan.wire.channel import open_channel, rpc_errors
from sampan.wire.pages import whole
from tests.fakes.snapshotter import FakeSnapshotter

BUSYBOX = Path("/bin/busybox")
_APPLET_NAMES = """
sh cat echo true false sleep head yes seq ls id kill printf stty tr wc dd touch ps trap env hostname mv test
grep mkdir ln cp rm stat mount
"""
APPLETS = tuple(_APPLET_NAMES.split())


def make_busybox_root(root: Path) -> Path:
    """Make a root file system from the host's static busybox."""
    (root / "bin").mkdir(parents=True)
    for name in ("etc", "proc", "sys", "dev", "tmp", "root"):
        (root / name).mkdir()
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "bin/plain").write_text("not executable")
    return root


@dataclass(slots=True)
class Output:
    """What a stream gave."""

    stdout: bytes = b""
    stderr: bytes = b""
    frames: int = 0
    detached: bool = False

    def add(self, message: pb.StreamOutput) -> None:
        self.detached = message.detached
        for frame in message.frames:
            self.frames += 1
            if frame.stream == pb.Frame.STDERR:
                self.stderr += frame.data
            else:
                self.stdout += frame.data


@dataclass(slots=True)
class Runtimed:
    """The process, and stubs for its services."""

    roots: Path
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    channel: grpc.aio.Channel | None = None
    containers: "containers_pb2_grpc.ContainersAsyncStub" = field(init=False)
    execs: "execs_pb2_grpc.ExecsAsyncStub" = field(init=False)
    events: "events_pb2_grpc.EventsAsyncStub" = field(init=False)

    @property
    def run_root(self) -> Path:
        return self.roots / "run"

    async def start(self) -> None:
        """Start it and return when it serves."""
        log = (self.roots / "runtimed.log").open("ab")
        arguments = [
            "--data-root",
            str(self.roots / "data"),
            "--run-root",
            str(self.run_root),
            "--log-level",
            "debug",
            *self.options,
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runtimed", *arguments], stderr=log, stdout=log, start_new_session=True
        )
        log.close()
        self.channel = open_channel(self.run_root / "runtimed.sock")
        self.containers = containers_pb2_grpc.ContainersStub(self.channel)
        self.execs = execs_pb2_grpc.ExecsStub(self.channel)
        self.events = events_pb2_grpc.EventsStub(self.channel)
        await whole(self.containers.List(pb.ListContainersRequest(), wait_for_ready=True, timeout=60))

    async def stop(self, number: int = signal.SIGTERM) -> None:
        """End it with a signal."""
        if self.channel is not None:
            await self.channel.close()
        if self.process is not None:
            self.process.send_signal(number)
            await asyncio.to_thread(self.process.wait, 60)
            self.process = None

    async def restart(self, number: int = signal.SIGKILL) -> None:
        """End it with a signal and start another on the same roots."""
        await self.stop(number)
        await self.start()

    async def create(self, *args: str, **fields: object) -> str:
        """Create a container that runs ``args``; ``fields`` are the spec's, ``process_``… the process's."""
        process = {name.removeprefix("process_"): fields.pop(name) for name in list(fields) if "process_" in name}
        spec = spec_pb2.ContainerSpec(
            chain_id="busybox",
            image="busybox",
            process=spec_pb2.Process(cmd=args, env=["PATH=/bin"], **process),  # type: ignore[arg-type]
            namespaces=spec_pb2.Namespaces(
                network=str(fields.pop("network", "none")), user=str(fields.pop("user", ""))
            ),
            **fields,  # type: ignore[arg-type]
        )
        with rpc_errors():
            return (await self.containers.Create(pb.CreateContainerRequest(spec=spec))).id

    async def begin(self, *args: str, **fields: object) -> str:
        """Create and start a container."""
        container_id = await self.create(*args, **fields)
        await self.start_container(container_id)
        return container_id

    async def start_container(self, container_id: str) -> None:
        with rpc_errors():
            await self.containers.Start(pb.StartContainerRequest(container=container_id))

    async def get(self, container_id: str) -> pb.Container:
        with rpc_errors():
            return await self.containers.Get(pb.GetContainerRequest(container=container_id))

    async def until(self, container_id: str, holds: Callable[[pb.Container], bool]) -> pb.Container:
        """Return the container once ``holds`` of it; TimeoutError after a minute."""
        async with asyncio.timeout(60):
            while not holds(container := await self.get(container_id)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return container

    async def wait(self, container_id: str, condition: int = pb.WaitContainerRequest.NOT_RUNNING) -> int:
        """Return its exit code."""
        code = -1
        request = pb.WaitContainerRequest(container=container_id, condition=condition)  # type: ignore[arg-type]
        with rpc_errors():
            async for answer in self.containers.Wait(request):
                code = answer.exit_code
        return code

    async def remove(self, container_id: str, *, force: bool = True) -> None:
        with rpc_errors():
            await self.containers.Remove(pb.RemoveContainerRequest(container=container_id, force=force))

    async def attach(
        self, container_id: str, input: Iterable[bytes] | None = None, *, then: "asyncio.Future[None] | None" = None
    ) -> AsyncIterator[pb.StreamOutput]:
        """Attach, send ``input`` and half-close; without input stay open until the stream ends."""
        done = asyncio.Event()

        async def requests() -> AsyncIterator[pb.AttachRequest]:
            yield pb.AttachRequest(
                start=pb.AttachRequest.Start(
                    container=container_id, stdin=input is not None, stdout=True, stderr=True, stream=True
                )
            )
            for piece in input or ():
                yield pb.AttachRequest(stdin=piece)
            if input is None:
                await done.wait()

        try:
            with rpc_errors():
                async for message in self.containers.Attach(requests()):
                    yield message
        finally:
            done.set()

    async def run(self, *args: str, input: Iterable[bytes] | None = None, **fields: object) -> tuple[int, Output]:
        """What ``docker run`` does: create, attach, start, read everything, wait."""
        container_id = await self.create(*args, **fields)
        output = Output()
        stream = self.attach(container_id, input)
        await anext(stream)
        await self.start_container(container_id)
        async for message in stream:
            output.add(message)
        return await self.wait(container_id), output

    async def exec(
        self, container_id: str, *args: str, input: Iterable[bytes] | None = None, **fields: object
    ) -> tuple[int, Output]:
        """What ``docker exec`` does."""
        spec = execs_pb2.ExecSpec(
            container=container_id,
            args=args,
            attach_stdin=input is not None,
            attach_stdout=True,
            attach_stderr=True,
            **fields,  # type: ignore[arg-type]
        )
        output = Output()

        async def requests(exec_id: str) -> AsyncIterator[execs_pb2.StartExecRequest]:
            yield execs_pb2.StartExecRequest(start=execs_pb2.StartExecRequest.Start(id=exec_id))
            for piece in input or ():
                yield execs_pb2.StartExecRequest(stdin=piece)

        with rpc_errors():
            made = await self.execs.Create(execs_pb2.CreateExecRequest(spec=spec))
            async for message in self.execs.Start(requests(made.id)):
                output.add(message)
            return (await self.execs.Get(execs_pb2.GetExecRequest(id=made.id))).exit_code, output

    async def logs(self, container_id: str, **fields: object) -> list[tuple[int, bytes]]:
        """Return stream and text of what was logged."""
        request = pb.LogsRequest(container=container_id, stdout=True, stderr=True, **fields)  # type: ignore[arg-type]
        entries: list[tuple[int, bytes]] = []
        with rpc_errors():
            async for message in self.containers.Logs(request):
                entries += zip(message.streams, message.lines, strict=True)
        return entries

    async def until_logged(self, container_id: str, line: bytes) -> None:
        """Return once a container has said ``line``; TimeoutError after a minute."""
        async with asyncio.timeout(60):
            while line not in [said for _, said in await self.logs(container_id)]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running(directory: Path, *options: str) -> AsyncIterator[tuple[Runtimed, FakeSnapshotter]]:
    """Start a fake snapshotter and a runtimed with ``options``; leave no process and no mount behind."""
    runtimed = Runtimed(directory, options)
    (directory / "run").mkdir()
    (directory / "snapshots").mkdir()
    snapshotter = FakeSnapshotter(directory / "snapshots", {"busybox": make_busybox_root(directory / "busybox")})
    server = grpc.aio.server()
    snapshots_pb2_grpc.add_SnapshotsServicer_to_server(snapshotter, server)
    server.add_insecure_port(f"unix:{directory / 'run/snapshotter.sock'}")
    await server.start()
    try:
        await runtimed.start()
        yield runtimed, snapshotter
    finally:
        with contextlib.suppress(Exception):
            await _remove_all(runtimed)
        await runtimed.stop()
        await server.stop(None)


async def _remove_all(runtimed: Runtimed) -> None:
    for container in (await whole(runtimed.containers.List(pb.ListContainersRequest(all=True)))).containers:
        await runtimed.remove(container.id)


def mounts_below(directory: Path) -> list[str]:
    """Return what is mounted below ``directory``."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines if line.split()[1].startswith(f"{directory}/")]


def processes_of(container_id: str) -> list[str]:
    """Return the command lines of processes that name ``container_id``, such as its conmon."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes() if process.name.isdigit() else b""
            if container_id.encode() in command and int(process.name) != os.getpid():
                found.append(command.replace(b"\0", b" ").decode())
    return found
