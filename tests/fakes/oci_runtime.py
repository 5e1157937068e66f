"""Conmon and an OCI runtime, whose processes are those of a fake machine."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from runtimed.conmon.conmon import RuntimeCommand, Stdio
from runtimed.conmon.process import ended
from runtimed.conmon.running import read_exit_code
from runtimed.containers.paths import ContainerPaths, ExecPaths
from sampan.errors import StartError
from tests.fakes.crashes import Steps
from tests.fakes.runtime_host import FakeProcess, Host


class FakeConmon:
    """Starts processes of the host, as conmon with an OCI runtime does."""

    def __init__(self, host: Host, steps: Steps) -> None:
        self._host, self._steps = host, steps

    async def create(self, paths: ContainerPaths, runtime: RuntimeCommand, stdio: Stdio, spool: Path | None) -> int:
        self._steps.step("fork conmon")
        paths.exit_file.unlink(missing_ok=True)
        process = self._host.begin(paths.id, paths.bundle, paths.exit_file)
        return await self._created(process)

    async def exec_detached(
        self, container_id: str, paths: ExecPaths, runtime: RuntimeCommand, stdio: Stdio, spec: Path
    ) -> int:
        self._steps.step("fork conmon of exec")
        process = self._host.begin(container_id, paths.bundle, paths.exits / container_id)
        process.started = True
        self._host.first(container_id).below.append(process)
        return await self._created(process)

    async def exec_attached(
        self,
        container_id: str,
        paths: ExecPaths,
        runtime: RuntimeCommand,
        stdio: Stdio,
        spec: Path,
        *,
        released: bool = False,
    ) -> "FakePendingExec":
        self._steps.step("fork conmon of exec")
        process = self._host.begin(container_id, paths.bundle, paths.exits / container_id)
        process.waits_for = self._steps
        self._host.first(container_id).below.append(process)
        (self._host.paths.sockets / paths.token).symlink_to(process.bundle)
        self._steps.step("write conmon.pid")
        (process.bundle / "conmon.pid").write_text(str(process.pid))
        return FakePendingExec(process, self._steps)

    async def _created(self, process: FakeProcess) -> int:
        link = self._host.paths.sockets / process.bundle.name[:16]
        if not link.is_symlink():
            link.symlink_to(process.bundle)
        self._steps.step("write conmon.pid")
        (process.bundle / "conmon.pid").write_text(str(process.pid))
        self._steps.step("create in runtime")
        if error := self._host.fails.get("create in runtime"):
            process.end(127)
            raise error
        process.created = True
        self._host.make_cgroup(f"/fake/{process.container_id}")
        (process.bundle / "pidfile").write_text(str(process.pid))
        self._steps.step("report pid")
        return process.pid


class FakePendingExec:
    """An exec whose runtime waits for its document."""

    def __init__(self, process: FakeProcess, steps: Steps) -> None:
        self._process, self._steps = process, steps

    async def started(self) -> int:
        self._steps.step("run the process")
        self._process.started, self._process.waits_for = True, None
        (self._process.bundle / "pidfile").write_text(str(self._process.pid))
        self._steps.step("report pid")
        return self._process.pid

    async def settled(self) -> None:
        """Its pid is written down already."""

    async def exit_code(self) -> int | None:
        fd = os.dup(self._process.done)
        try:
            await ended(fd)
        finally:
            os.close(fd)
        return read_exit_code(self._process.exit_file.parent, self._process.container_id)

    def close(self) -> None:
        """Nothing is open."""


class FakeOciRuntime:
    """An OCI runtime of the host."""

    def __init__(self, host: Host, steps: Steps) -> None:
        self._host, self._steps = host, steps
        self.name = "fake"
        self.command = RuntimeCommand(Path("/fake"), Path("/fake"))

    async def start(self, id: str, bundle: Path) -> None:
        self._steps.step("start in runtime")
        process = self._host.first(id)
        if not process.created:
            raise StartError(f"container {id} does not exist")
        process.started = True
        await self._host.passed("start in runtime")  # the process runs while the runtime still has something to say

    async def delete(self, id: str, bundle: Path) -> None:
        self._steps.step("delete in runtime")
        self._host.frozen.discard(id)
        for process in self._host.alive(id):
            # conmon writes the exit down in its own time, after the runtime has come back.
            asyncio.get_running_loop().call_later(0.002, process.end, 137)

    async def pause(self, id: str, bundle: Path) -> None:
        await self._host.passed("freeze")
        self._steps.step("freeze")
        self._host.frozen.add(id)

    async def resume(self, id: str, bundle: Path) -> None:
        self._steps.step("thaw")
        self._host.thaw(id)

    async def update(self, id: str, bundle: Path, resources: Mapping[str, object], scope: str = "") -> None:
        self._steps.step("set limits")
        self._host.limits[id] = resources
