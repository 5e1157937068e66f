"""From start to exit and what follows: the part of a container's life in which it has a process.

Every change of state is recorded before anybody is told, under the container's lock; no lock is held while waiting
for a process to end. What a crash interrupts is found by ``recovery``.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from runtimed.conmon.process import ended
from runtimed.conmon.running import find_conmon, find_first_process, read_exit_code, read_exit_time
from runtimed.containers.memory_store import UP, Entry, MemoryStore, is_waited_for, utcnow
from runtimed.containers.paths import Paths
from runtimed.containers.store import Intent
from runtimed.events import Events
from runtimed.lifecycle.background import Background
from runtimed.lifecycle.health import is_checked, unwatched
from runtimed.lifecycle.oom import OomKills
from runtimed.lifecycle.pauses import Pauses
from runtimed.lifecycle.removal import Removal
from runtimed.lifecycle.restart import means_full, next_backoff_s, restarts
from runtimed.lifecycle.runner import Runner, Started
from runtimed.metrics import Metrics
from runtimed.oci.errors import exit_code as exit_code_for
from runtimed.oci.signals import parse_signal
from sampan.errors import ConflictError, NotModifiedError, SampanError, StartError
from sampan.log import log
from sampan.resource.container import ContainerState, Exit, Health, Status

_STOP_TIMEOUT_S: Final = 10.0
# After SIGKILL the kernel needs a moment; a process in uninterruptible sleep may take for ever, its client need not.
KILL_TIMEOUT_S: Final = 30.0

UNKNOWN_EXIT: Final = 255  # conmon was killed, or the machine rebooted: nobody saw the exit


class Lifecycle:
    """Starts, stops and watches containers."""

    def __init__(
        self,
        memory: MemoryStore,
        runner: Runner,
        removal: Removal,
        events: Events,
        metrics: Metrics,
        background: Background,
        paths: Paths,
        watch_health: Callable[[Entry], None],
        oom: OomKills,
    ) -> None:
        self._memory = memory
        self._runner = runner
        self._removal = removal
        self._events = events
        self._metrics = metrics
        self._background = background
        self._paths = paths
        self._watch_health = watch_health
        self.pauses: Final = Pauses(memory, runner, events, background, paths)
        self._oom = oom

    async def start(self, entry: Entry) -> None:
        """Start it. A caller who leaves meanwhile changes nothing.

        Raises:
            NotModifiedError: it runs.
            ConflictError: it is paused or being removed, or a host port is taken.
            StartError: its process could not be started; it is as before, with the error in its state.
        """
        with entry.start_under_way():
            await self._background.finish(self._start(entry), f"start {entry.id}")

    async def _start(self, entry: Entry) -> None:
        async with entry.lock:
            self._memory.check_known(entry)
            if entry.status is Status.PAUSED:
                raise ConflictError("cannot start a paused container, try unpause instead")
            if entry.status is Status.RUNNING:
                raise NotModifiedError(f"Container {entry.container.name} is already running")
            if entry.status in (Status.REMOVING, Status.DEAD):
                raise ConflictError("container is marked for removal and cannot be started")
            await self._start_anew(entry)

    async def _start_locked(self, entry: Entry, count: int) -> None:
        again = entry.status is Status.RESTARTING  # if killed meanwhile it is still restarting
        entry.cleared = False
        # With the machine's power goes all that the intent is to find, and what is recorded next waits for the disk.
        await self._memory.set_state(entry, intent=Intent.STARTING, restart_count=count, happened=again, durable=False)
        try:
            with self._metrics.phase("total"):
                started = await self._runner.start(entry)
                await self._started(entry, started)
        except Exception as error:
            await self._start_failed(entry, error)
            raise

    async def _started(self, entry: Entry, started: Started) -> None:
        health = Health() if is_checked(entry.container.spec.health_check) else None
        state = ContainerState(Status.RUNNING, pid=started.pid, started_at=started.at, health=health, user=started.user)
        with self._events.recording(entry.container, "start") as telling:
            durable = is_waited_for(entry.container)
            await self._memory.set_state(entry, state, network=started.network, telling=telling, durable=durable)
        self._up(entry)
        self._oom.watch(entry)

    def _up(self, entry: Entry) -> None:
        entry.down.clear()
        paths = self._paths.container(entry.id)
        pidfd = find_conmon(paths.conmon_pid, entry.id)
        entry.init_pidfd = find_first_process(paths.conmon_pid, entry.container.state.pid)
        if entry.init_pidfd >= 0:
            self._background.watch(self._watch_init(entry, entry.init_pidfd), f"first process of {entry.id}")
        self._background.watch(self._watch(entry, pidfd), f"conmon of {entry.id}")
        self._watch_health(entry)

    def adopt(self, entry: Entry) -> None:
        """Watch a container that was started by an earlier process of ours."""
        self._runner.adopt(entry.container)
        self._up(entry)
        self._oom.watch(entry)

    async def _watch(self, entry: Entry, pidfd: int) -> None:
        if pidfd >= 0:
            try:
                await ended(pidfd)
            finally:
                os.close(pidfd)
        await self._background.finish(self.exited(entry), f"exit of {entry.id}")

    async def _watch_init(self, entry: Entry, pidfd: int) -> None:
        """When the process has ended, let conmon get rid of its last output though a client may not read it."""
        try:
            await ended(pidfd)
            self._runner.process_ended(entry)
        finally:
            if entry.init_pidfd == pidfd:
                entry.init_pidfd = -1
            os.close(pidfd)

    async def exited(self, entry: Entry, *, unseen: bool = False) -> None:
        """Record that its process has ended, clear up, tell, and do what its policy says; if it ended ``unseen``, while
        the engine was away, that is an engine's start, with its own rule, and not a restart. It shows as restarting."""
        async with entry.lock:
            if entry.status not in UP:
                return
            end, again = await self._record_exit(entry)
            # What is not recorded yet is to be found again, should this process end before it is.
            await self._clear(entry, keep_exit=not self._memory.is_recorded(entry))
            self._tell(entry, end, restarting=again)
        if again and unseen:
            await self.start_by_policy(entry)
        elif again:
            self._background.watch(self._restart_later(entry), f"restart of {entry.id}")
        elif entry.container.spec.auto_remove and not entry.restarting:
            await self._removal.remove_entry(entry, volumes=True)

    async def _record_exit(self, entry: Entry) -> tuple[Exit, bool]:
        container = entry.container
        paths = self._paths.container(entry.id)
        found = read_exit_code(self._paths.exits, entry.id)
        oom_killed = self._oom.end(entry)
        code = found if found is not None else (128 + signal.SIGKILL if oom_killed else UNKNOWN_EXIT)
        again = not entry.stop_requested and restarts(
            container.spec.restart_policy,
            code,
            container.restart_count,
            manually_stopped=entry.stopped_by_request,
        )
        ended_at = read_exit_time(paths.exit_file) or utcnow()
        started_at = container.state.started_at or ended_at
        ended_at = max(ended_at, started_at)  # the clock that file systems have goes in steps of some milliseconds
        state = ContainerState(
            Status.RESTARTING if again else Status.EXITED,
            exit_code=code,
            oom_killed=oom_killed,
            started_at=started_at,
            finished_at=ended_at,
            health=unwatched(container.state.health),
            user=container.state.user,
        )
        if again:
            entry.backoff_s = next_backoff_s(entry.backoff_s, (ended_at - started_at).total_seconds())
        told = {"exitCode": str(code), "execDuration": _whole_s(started_at, ended_at)}
        with self._events.recording(container, "die", **told) as telling:
            await self._memory.set_state(entry, state, happened=True, telling=telling)
        self._metrics.exited(code, oom_killed=oom_killed)
        return Exit(code), again

    async def _clear(self, entry: Entry, *, keep_exit: bool = False) -> None:
        try:
            await self._runner.clear(entry.container, keep_exit=keep_exit)
            entry.cleared = not keep_exit
        except (SampanError, OSError) as error:
            # Whatever is left is tried again at the next start, at removal and when the service starts.
            log.warning("container not cleared", container=entry.id, error=str(error))

    def _tell(self, entry: Entry, end: Exit, *, restarting: bool) -> None:
        if not restarting:
            entry.down.set()
        for waiter in entry.exit_waiters:
            if not waiter.done():
                waiter.set_result(end)
        entry.exit_waiters.clear()

    async def _start_failed(self, entry: Entry, error: Exception) -> None:
        await self._clear(entry)
        self._metrics.start_failed()
        if entry.status is Status.RESTARTING and means_full(error):
            await self._memory.set_state(entry, replace(entry.container.state, error=str(error)), happened=True)
            return  # its policy tries again: there will be space some time
        code = exit_code_for(error) if isinstance(error, StartError) else 128
        old = entry.container.state
        status = Status.CREATED if old.started_at is None else Status.EXITED
        state = replace(old, status=status, pid=0, exit_code=code, error=str(error))
        await self._memory.set_state(entry, state, happened=True)
        for waiting in entry.pending:
            if not waiting.done():
                waiting.set_result(None)
        entry.pending.clear()
        self._tell(entry, Exit(code, str(error)), restarting=False)
        if entry.container.spec.auto_remove:
            self._background.watch(self._removal.remove_entry(entry, volumes=True), f"remove {entry.id}")

    async def _restart_later(self, entry: Entry) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(entry.backoff_s):
                await entry.down.wait()  # somebody stopped it before it came back
                return
        await self._background.finish(self._restart_now(entry), f"restart {entry.id}")

    async def _restart_now(self, entry: Entry) -> None:
        async with entry.lock:
            if entry.status is not Status.RESTARTING:
                return
            self._metrics.restarted()
            await self._or_later(entry, self._start_locked(entry, entry.container.restart_count + 1))

    async def _or_later(self, entry: Entry, start: Awaitable[None]) -> None:
        try:
            await start
        except Exception as error:
            if entry.status is not Status.RESTARTING:
                raise
            log.warning("restart waits for space on the disk", container=entry.id, error=str(error))
            self.restart_by_policy(entry)

    def restart_by_policy(self, entry: Entry) -> None:
        """Go on waiting for the next start of a container that was to be restarted by an earlier process of ours."""
        entry.backoff_s = next_backoff_s(entry.backoff_s, 0)
        self._background.watch(self._restart_later(entry), f"restart of {entry.id}")

    async def start_by_policy(self, entry: Entry) -> None:
        """Start a container because the engine was started; it counts as one that was never stopped or restarted."""
        await self._background.finish(self._start_by_policy(entry, entry.status), f"start {entry.id}")

    async def _start_by_policy(self, entry: Entry, status: Status) -> None:
        async with entry.lock:
            # Somebody may have started, stopped or removed it meanwhile.
            if entry.status is status and self._memory.by_id(entry.id) is entry:
                await self._or_later(entry, self._start_anew(entry))

    async def _start_anew(self, entry: Entry) -> None:
        entry.stop_requested = entry.stopped_by_request = False
        await self._start_locked(entry, 0)

    async def stop(self, entry: Entry, timeout_s: float | None, signal_name: str) -> None:
        """Signal, wait, SIGKILL; returns when its exit is recorded. A caller who leaves changes nothing.

        A negative ``timeout_s`` waits for ever; None takes the container's own.

        Raises:
            NotModifiedError: it does not run.
            InvalidArgumentError: no such signal.
            ConflictError: it could not be killed.
        """
        number = parse_signal(signal_name or entry.container.spec.stop_signal or "SIGTERM")
        await entry.settled()
        if entry.status not in (*UP, Status.RESTARTING):
            raise NotModifiedError(f"container {entry.container.name} is already stopped")
        await self._background.finish(self._stop(entry, self._grace_s(entry, timeout_s), number), f"stop {entry.id}")

    def _grace_s(self, entry: Entry, timeout_s: float | None) -> float | None:
        own = entry.container.spec.stop_timeout_s
        grace_s = timeout_s if timeout_s is not None else own if own is not None else _STOP_TIMEOUT_S
        return None if grace_s < 0 else grace_s

    async def _request_stop(self, entry: Entry, *, ends: bool = True, told: str = "stop") -> bool:
        """Say that it is not to come back; return whether that was all, since it waited for its next start.

        With ``ends`` false a signal is sent that is not meant to end it: its policy goes on to apply in this run.
        ``told`` is the event of one that waited for its next start; empty: none.
        """
        async with entry.lock:
            if entry.status in UP:
                entry.stop_requested = entry.stop_requested or ends
                entry.stopped_by_request = True
                await self._memory.set_state(entry, happened=True)
            if entry.status is not Status.RESTARTING:
                return False
            if not ends:
                return True  # there is nothing to send it to
            entry.stop_requested = entry.stopped_by_request = True
            await self._memory.set_state(entry, replace(entry.container.state, status=Status.EXITED), happened=True)
            self._tell(entry, Exit(entry.container.state.exit_code), restarting=False)
        if told:
            self._events.container(entry.container, told)
        if entry.container.spec.auto_remove:
            await self._removal.remove_entry(entry, volumes=True)
        return True

    async def _stop(self, entry: Entry, grace_s: float | None, number: int) -> None:
        if not await self._request_stop(entry):
            await self.end(entry, grace_s, number)

    async def end(self, entry: Entry, grace_s: float | None, number: int) -> None:
        """Signal it, wait, SIGKILL. Raises ConflictError if it could not be killed."""
        await self._signal(entry, number)
        if not await self._down_within(entry, grace_s):
            await self._signal(entry, signal.SIGKILL)
            if not await self._down_within(entry, KILL_TIMEOUT_S):
                raise ConflictError(f"container {entry.container.name} did not end after SIGKILL")
        self._events.container(entry.container, "stop")

    async def _down_within(self, entry: Entry, seconds: float | None) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await entry.down.wait()
        return entry.down.is_set()

    async def kill(self, entry: Entry, signal_name: str) -> None:
        """Send a signal to its first process; SIGKILL if empty, and then return when the exit is recorded.

        One that waits for its next start has no process: what is meant to end it keeps it from coming back.

        Raises:
            ConflictError: it does not run, Docker's words; or it does not end after SIGKILL.
            InvalidArgumentError: no such signal.
        """
        number = parse_signal(signal_name or "SIGKILL")
        await entry.settled()
        if entry.status not in (*UP, Status.RESTARTING):
            raise ConflictError(f"Cannot kill container: {entry.container.name}: Container {entry.id} is not running")
        own = entry.container.spec.stop_signal
        # As with Docker: where no signal is named for stopping, every one may be meant to end it.
        ends = number == signal.SIGKILL or not own or number == parse_signal(own)
        if await self._request_stop(entry, ends=ends, told=""):
            return
        await self._signal(entry, number)
        if number == signal.SIGKILL:
            await self._killed(entry)

    async def kill_and_wait(self, entry: Entry) -> None:
        """SIGKILL it and return when its exit is recorded. Raises ConflictError if it does not end."""
        await entry.settled()
        if entry.status not in (*UP, Status.RESTARTING) or await self._request_stop(entry):
            return
        await self._signal(entry, signal.SIGKILL)
        await self._killed(entry)

    async def _killed(self, entry: Entry) -> None:
        if not await self._down_within(entry, KILL_TIMEOUT_S):
            raise ConflictError(f"Could not kill container {entry.id}: it did not end after SIGKILL")

    async def _signal(self, entry: Entry, number: int) -> None:
        """Send ``number``; one that has just ended is no error."""
        self._events.container(entry.container, "kill", signal=str(number))
        with contextlib.suppress(ProcessLookupError):
            if entry.init_pidfd >= 0:
                signal.pidfd_send_signal(entry.init_pidfd, number)
        if entry.status is Status.PAUSED:
            # A frozen process takes no signal before it thaws.
            async with entry.lock:
                if entry.status is Status.PAUSED:
                    await self.pauses.resume(entry)

    async def restart(self, entry: Entry, timeout_s: float | None, signal_name: str) -> None:
        """Stop it if it runs, and start it. Raises what ``stop`` and ``start`` do."""
        await self._background.finish(self._restart(entry, timeout_s, signal_name), f"restart {entry.id}")

    async def _restart(self, entry: Entry, timeout_s: float | None, signal_name: str) -> None:
        entry.restarting += 1  # with auto-remove as well: this is not its end
        try:
            with contextlib.suppress(NotModifiedError):
                await self.stop(entry, timeout_s, signal_name)
            with contextlib.suppress(NotModifiedError), entry.start_under_way():
                await self._start(entry)
        finally:
            entry.restarting -= 1
        self._events.container(entry.container, "restart")


def _whole_s(begin: datetime, end: datetime) -> str:
    return str(max(0, int((end - begin).total_seconds())))
