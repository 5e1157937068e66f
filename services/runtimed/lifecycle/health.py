"""Health checks: a probe run in the container from time to time, and what its results say about it."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from runtimed.conmon.conmon import Conmon, Stdio
from runtimed.conmon.stdio import StdioConnection
from runtimed.containers.links import present_variables
from runtimed.containers.memory_store import Entry, MemoryStore, utcnow
from runtimed.containers.paths import ExecPaths, Paths
from runtimed.events import UNSEEN_EXIT, Events
from runtimed.lifecycle.background import Background
from runtimed.lifecycle.runner import Runner
from runtimed.metrics import Metrics
from runtimed.protocol import Bundles, ExecProcess
from sampan.docker.durations import duration_ns, go_duration
from sampan.errors import SampanError
from sampan.resource.container import Health, HealthStatus, Probe, Status
from sampan.resource.container_spec import HealthCheck, Process
from sampan.sys.processes import open_process
from sampan.sys.trees import remove_tree

_INTERVAL_S: Final = 30.0
_TIMEOUT_S: Final = 30.0
_START_INTERVAL_S: Final = 5.0
_RETRIES: Final = 3

_KEPT_PROBES: Final = 5
_MAX_OUTPUT_BYTES: Final = 4096
_TIMED_OUT: Final = -1


def is_checked(check: HealthCheck | None) -> bool:
    """Whether there is a probe to run."""
    return check is not None and bool(check.test) and check.test[0] != "NONE"


def command_of(check: HealthCheck) -> tuple[str, ...]:
    """Return the probe's command line: ``CMD`` and its arguments, or ``CMD-SHELL`` and one for the shell."""
    kind, *rest = check.test
    if kind == "CMD":
        return tuple(rest)
    return ("/bin/sh", "-c", " ".join(rest) if kind == "CMD-SHELL" else " ".join(check.test))


def judge(health: Health, probe: Probe, check: HealthCheck, *, starting_up: bool) -> Health:
    """Return what ``probe`` makes of ``health``.

    While the container is ``starting_up`` a failure does not count; the first success ends that.
    """
    log = (*health.log, probe)[-_KEPT_PROBES:]
    if probe.exit_code == 0:
        return Health(HealthStatus.HEALTHY, 0, log)
    if starting_up and health.status is HealthStatus.STARTING:
        return replace(health, log=log)
    streak = health.failing_streak + 1
    status = HealthStatus.UNHEALTHY if streak >= (check.retries or _RETRIES) else health.status
    return Health(status, streak, log)


def unwatched(health: Health | None) -> Health | None:
    """Return what is known of a container that has ended: nobody probes it, which Docker calls unhealthy."""
    return None if health is None else replace(health, status=HealthStatus.UNHEALTHY)


@dataclass(frozen=True, slots=True)
class _Result:
    exit_code: int
    output: bytes


class HealthChecks:
    """Probes running containers that ask for it."""

    def __init__(
        self,
        memory: MemoryStore,
        runner: Runner,
        bundles: Bundles,
        conmon: Conmon,
        events: Events,
        background: Background,
        paths: Paths,
        metrics: Metrics,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self._memory = memory
        self._runner = runner
        self._bundles = bundles
        self._conmon = conmon
        self._events = events
        self._background = background
        self._paths = paths
        self._metrics = metrics
        self._now = now

    def watch(self, entry: Entry) -> None:
        """Probe the container until this run of it ends, if it has a health check."""
        check = entry.container.spec.health_check
        if check is not None and is_checked(check):
            self._background.watch(self._watch(entry, check), f"health of {entry.id}")

    async def _watch(self, entry: Entry, check: HealthCheck) -> None:
        run = entry.container.state.started_at
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s(entry, check)):
                    await entry.down.wait()
            if entry.container.state.started_at != run or entry.down.is_set():
                return
            if entry.status is not Status.RUNNING:  # frozen: ask later
                continue
            begin = self._now()
            result = await self._probe(entry, check)
            self._metrics.probed(failed=result.exit_code != 0)
            probe = Probe(begin, self._now(), result.exit_code, result.output.decode(errors="replace"))
            await self._record(entry, check, probe, run)

    def _pause_s(self, entry: Entry, check: HealthCheck) -> float:
        usual_s = check.interval_s or _INTERVAL_S
        if self._starting_up(entry, check):
            return check.start_interval_s or min(usual_s, _START_INTERVAL_S)
        return usual_s

    def _starting_up(self, entry: Entry, check: HealthCheck) -> bool:
        state = entry.container.state
        if state.started_at is None or state.health is None or state.health.status is not HealthStatus.STARTING:
            return False
        return (self._now() - state.started_at).total_seconds() < check.start_period_s

    async def _record(self, entry: Entry, check: HealthCheck, probe: Probe, run: datetime | None) -> None:
        async with entry.lock:
            state = entry.container.state
            if state.started_at != run or state.status not in (Status.RUNNING, Status.PAUSED):
                return  # it ended while it was probed
            old = state.health or Health()
            new = judge(old, probe, check, starting_up=self._starting_up(entry, check))
            await self._memory.set_state(entry, replace(state, health=new), happened=True)
        if new.status is not old.status:
            self._events.container(entry.container, f"health_status: {new.status.value}")

    async def _probe(self, entry: Entry, check: HealthCheck) -> _Result:
        paths = self._paths.exec(secrets.token_hex(32))
        self._events.exec_created(entry.container, paths.id, command_of(check))
        try:
            return await self._run(entry, check, paths)
        except (SampanError, OSError) as error:
            return _Result(_TIMED_OUT, str(error).encode())
        finally:
            await asyncio.to_thread(remove_tree, paths.bundle)
            (self._paths.sockets / paths.token).unlink(missing_ok=True)

    async def _run(self, entry: Entry, check: HealthCheck, paths: ExecPaths) -> _Result:
        begin = time.perf_counter()
        linked = present_variables(entry.container, lambda name: self._memory.find(name).container)
        document = await asyncio.to_thread(self._write_spec, entry, check, paths, linked)
        runtime = self._runner.command(entry.container)
        self._events.exec_started(entry.container, paths.id, command_of(check))
        pending = await self._conmon.exec_attached(entry.id, paths, runtime, Stdio(tty=False, stdin=False), document)
        try:
            connection = StdioConnection.connect(paths.attach_socket)
            try:
                with _signalled(await pending.start()) as kill:
                    self._metrics.probe_started(time.perf_counter() - begin)
                    result = await self._result(connection, kill, pending.exit_code, check)
                self._events.exec_died(
                    entry.container, paths.id, UNSEEN_EXIT if result.exit_code < 0 else result.exit_code
                )
                return result
            finally:
                connection.close()
        finally:
            pending.close()

    async def _result(
        self,
        connection: StdioConnection,
        kill: Callable[[], None],
        exit_code: Callable[[], Awaitable[int | None]],
        check: HealthCheck,
    ) -> _Result:
        timeout_s = check.timeout_s or _TIMEOUT_S
        output = bytearray()
        try:
            async with asyncio.timeout(timeout_s):
                while frames := await connection.read():
                    output += b"".join(frame.data for frame in frames)
                    del output[_MAX_OUTPUT_BYTES:]
                code = await exit_code()
                return _Result(_TIMED_OUT if code is None else code, bytes(output))
        except TimeoutError:
            kill()
            return _Result(_TIMED_OUT, timed_out(timeout_s, bytes(output)))

    def _write_spec(self, entry: Entry, check: HealthCheck, paths: ExecPaths, linked: tuple[str, ...]) -> Path:
        paths.exits.mkdir(mode=0o700, parents=True, exist_ok=True)
        root = Path(f"/proc/{entry.container.state.pid}/root")
        request = ExecProcess(Process(cmd=command_of(check)), linked=linked)
        process = self._bundles.exec_process(entry.container, root, request)
        document = paths.bundle / "process.json"
        document.write_text(json.dumps(process))
        return document


def timed_out(timeout_s: float, output: bytes) -> bytes:
    """Say that a probe took too long, and what it had said until then: where it hangs, mostly."""
    sentence = f"Health check exceeded timeout ({go_duration(duration_ns(timeout_s))})".encode()
    return b": ".join((sentence, output)) if output else sentence


@contextlib.contextmanager
def _signalled(pid: int) -> Iterator[Callable[[], None]]:
    """Give a way to kill ``pid`` that never meets another process; a quick probe may have ended already."""
    try:
        pidfd = open_process(pid)
    except ProcessLookupError:
        yield lambda: None
        return

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    try:
        yield kill
    finally:
        os.close(pidfd)
