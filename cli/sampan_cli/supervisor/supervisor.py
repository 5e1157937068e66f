"""Keep an engine's services running: start all, tell when they are ready, restart what dies, stop in reverse order.

A plain select loop rather than asyncio, which alone would take 8 MB for the life of the engine.
"""

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sampan.errors import SampanError
from sampan.layout import Layout
from sampan.service.notify import EXTEND_TIMEOUT, notify
from sampan.services import LISTENER, STARTED, WHEN_ASKED
from sampan.sys.closed import make_closed
from sampan.sys.memory import drop_clean_pages, trim
from sampan_cli.supervisor import roots
from sampan_cli.supervisor.child import Backoff, Child, NotifySocket
from sampan_cli.supervisor.logs import LogWatcher
from sampan_cli.supervisor.starting import CommonCode, start
from sampan_cli.supervisor.warming import WarmStarts

if TYPE_CHECKING:
    from sampan_cli.supervisor.asked import Asked

# A service gets its own grace for calls in flight (5 s unless configured) and then as much again to close things.
STOP_TIMEOUT_S: Final = 10.0

# Two deaths before the engine was ever ready are a reason to give up; the first may be a peer that was not up yet.
_DEATHS_AT_START: Final = 2

# The harness's exit code for a configuration that cannot be read: another try reads the same.
_BAD_CONFIGURATION: Final = 2

_LOG_LINES: Final = 15


class ServiceFailedError(SampanError):
    """The engine could not be started because one of its services could not."""


@dataclass(slots=True)
class _Keeper:
    """One service and what is known about it."""

    name: str
    notify: NotifySocket
    backoff: Backoff = field(default_factory=Backoff)
    asked: "Asked | None" = None  # where, if it is to run only then
    waits: bool = False  # for somebody who asks
    child: Child | None = None  # None: between a death and the restart, and while it waits
    ready_at: float | None = None
    restart_at: float | None = None
    log_start: int = 0  # where in its log the present process began
    stops_by: float = 0.0  # by when it has to have ended, once it was told to

    @property
    def is_up(self) -> bool:
        """Whether who asks it for something gets an answer, soon at least."""
        return self.waits or self.ready_at is not None


class Supervisor:
    """The services of one engine. ``run`` is called once, in the main thread: it takes over the signal handlers."""

    def __init__(
        self,
        layout: Layout,
        *,
        start_timeout_s: float,
        terminal: int | None,
        on_ready: Callable[[], None],
        listeners: Sequence[int] = (),
        also: Sequence[str] = (),
    ) -> None:
        """``on_ready`` is called once, when every service has been ready; ``terminal`` gets the logs.

        ``also`` are services to keep besides those that every engine has.
        ``listeners`` are the descriptors that systemd has passed (sd_listen_fds(3)), from 3 on: the Docker API's.
        """
        self._layout = layout
        self._start_timeout_s = start_timeout_s
        self._terminal = terminal
        self._on_ready = on_ready
        self._listeners = listeners
        self._names = (*STARTED, *also)
        self._selector = selectors.DefaultSelector()
        self._keepers: list[_Keeper] = []
        self._engine_ready = False
        self._stopping = False
        self._hurry = False  # Ctrl-C while stopping: do not wait any longer
        self._wakeup: socket.socket

    def run(self) -> None:
        """Run the engine until SIGTERM or SIGINT; all services are gone when this returns or raises.

        SIGHUP has the services read their configurations again. From a terminal, which is about to go, it ends the
        engine.

        Raises:
            ConflictError: another engine holds a root.
            ServiceFailedError: a service could not be started; the message ends with the last lines of its log.
        """
        with contextlib.ExitStack() as stack:
            self._catch_signals(stack)
            stack.enter_context(roots.claim(self._layout))
            self._take_over()
            directory = self._layout.run_root / "logs"
            make_closed(directory)
            # Our own messages are among the files when we are in the background, and must not grow for ever either.
            self._logs = LogWatcher(directory, (*self._names, "sampan"), terminal=self._terminal)
            stack.callback(self._logs.close)
            self._selector.register(self._logs, selectors.EVENT_READ, self._logs.catch_up)
            self._open_notify_sockets(stack)
            self._code = CommonCode.load()
            self._warm_starts = WarmStarts(self._layout, self._code)
            stack.callback(self._warm_starts.close)
            self._listen(stack)
            self._await_command_lines()
            try:
                self._serve()
            finally:
                self._stop_all()

    def _catch_signals(self, stack: contextlib.ExitStack) -> None:
        receiver, sender = socket.socketpair()
        for end in (receiver, sender):
            end.setblocking(False)
            stack.callback(end.close)
        self._wakeup = receiver
        self._selector.register(receiver, selectors.EVENT_READ, self._on_signal)
        stack.callback(self._selector.close)
        signal.set_wakeup_fd(sender.fileno())
        stack.callback(signal.set_wakeup_fd, -1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # a handler must exist for the wakeup descriptor to be written

    def _on_signal(self) -> None:
        for number in self._wakeup.recv(64):
            if number == signal.SIGHUP and (self._terminal is None or not os.isatty(self._terminal)):
                self._reload()
                continue
            self._hurry = self._stopping and number == signal.SIGINT
            self._stopping = True

    def _reload(self) -> None:
        """Have every service that has started read its configuration again; one that has not reads it anyway."""
        for keeper in self._keepers:
            if keeper.child is not None and keeper.ready_at is not None:
                keeper.child.signal(signal.SIGHUP)

    def _take_over(self) -> None:
        """Stop the services that a killed supervisor left behind, in reverse order."""
        for process in reversed(roots.services(self._layout, self._names)):
            _say(f"stopping {process.name} (pid {process.pid}), left by an engine that was killed")
            process.signal(signal.SIGTERM)
            if not process.wait(STOP_TIMEOUT_S):
                process.signal(signal.SIGKILL)
                process.wait(STOP_TIMEOUT_S)
            process.close()

    def _open_notify_sockets(self, stack: contextlib.ExitStack) -> None:
        directory = self._layout.run_root / "notify"
        make_closed(directory)
        for name in self._names:
            keeper = _Keeper(name, NotifySocket(directory / name))
            stack.callback(keeper.notify.close)
            self._keepers.append(keeper)
            self._selector.register(keeper.notify, selectors.EVENT_READ, lambda keeper=keeper: self._on_notify(keeper))

    def _listen(self, stack: contextlib.ExitStack) -> None:
        """Listen for those services that run only while they are asked."""
        from sampan_cli.supervisor.asked import Asked  # among what was just loaded

        for keeper in self._keepers:
            if keeper.name in WHEN_ASKED:
                try:
                    keeper.asked = Asked(keeper.name, self._layout)
                except (SampanError, OSError) as error:
                    raise ServiceFailedError(f"{keeper.name} cannot be started: {error}") from error
                stack.callback(keeper.asked.close)
                for name, held in keeper.asked.held.items():
                    keeper.notify.hold(name, held)

    def _wait(self, keeper: _Keeper, asked: "Asked") -> None:
        """Have a service not run until somebody asks."""
        keeper.waits = True
        asked.tell()
        for held in asked.held.values():
            self._selector.register(held, selectors.EVENT_READ, lambda: self._on_asked(keeper, asked))

    def _wait_no_more(self, keeper: _Keeper, asked: "Asked") -> None:
        keeper.waits = False
        for held in asked.held.values():
            self._selector.unregister(held)

    def _on_asked(self, keeper: _Keeper, asked: "Asked") -> None:
        if keeper.waits and not self._stopping:  # once, if it is asked in two ways at the same time
            self._wait_no_more(keeper, asked)
            self._start(keeper)

    def _await_command_lines(self) -> None:
        self._selector.register(self._warm_starts.listener, selectors.EVENT_READ, self._on_command_line)

    def _on_command_line(self) -> None:
        """Leave who has connected, and who does from here on, to a warm parent until that ends."""
        child = self._warm_starts.fork()
        if child is None:
            return
        self._selector.unregister(self._warm_starts.listener)
        self._selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._on_end_of_warm_parent(child))

    def _on_end_of_warm_parent(self, child: Child) -> None:
        self._selector.unregister(child.pidfd)
        code = child.reap()
        if code:
            _say(f"the command line's warm parent (pid {child.pid}) {_describe_exit(code)}")
            self._warm_starts.turn_away()  # or the next one, and each after it, would be started for who waits
        if not self._stopping:
            self._await_command_lines()

    def _serve(self) -> None:
        start_deadline = time.monotonic() + self._start_timeout_s
        for keeper in self._keepers:
            if keeper.asked is None or keeper.asked.must_start:
                self._start(keeper)
            else:
                self._wait(keeper, keeper.asked)
        while not self._stopping:
            deadlines = [keeper.restart_at for keeper in self._keepers if keeper.restart_at is not None]
            if not self._engine_ready:
                deadlines.append(start_deadline)
            self._handle_events(min(deadlines, default=None))
            now = time.monotonic()
            for keeper in self._keepers:
                if keeper.restart_at is not None and keeper.restart_at <= now:
                    self._start(keeper)
            if not self._engine_ready and now >= start_deadline:
                late = next(keeper for keeper in self._keepers if not keeper.is_up)
                raise self._failure(late, f"is not ready after {self._start_timeout_s:g} s")

    def _handle_events(self, deadline: float | None) -> None:
        """Wait for something to happen, until ``deadline`` at most, and act on it."""
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        for key, _ in self._selector.select(timeout):
            key.data()

    def _start(self, keeper: _Keeper) -> None:
        keeper.notify.receive()  # what a former process said is not about this one
        keeper.log_start = self._logs.size(keeper.name)
        keeper.restart_at = keeper.ready_at = None
        log = self._logs.path(keeper.name)
        passed = self._listeners if keeper.name == LISTENER else ()
        keeper.child = start(keeper.name, self._layout, keeper.notify.path, log, self._code, passed)
        self._selector.register(keeper.child.pidfd, selectors.EVENT_READ, lambda: self._on_exit(keeper))

    def _on_notify(self, keeper: _Keeper) -> None:
        said = keeper.notify.receive()
        if self._stopping:
            self._give_time(keeper, said)
        ready = "READY=1" in said
        if not ready or keeper.child is None or keeper.ready_at is not None or self._stopping:
            return
        keeper.ready_at = time.monotonic()
        if not self._engine_ready and all(each.is_up for each in self._keepers):
            self._engine_ready = True
            self._on_ready()
            trim()
            drop_clean_pages()  # from here on there is nothing to do but wait

    def _give_time(self, keeper: _Keeper, said: Sequence[str]) -> None:
        """Wait longer for a service that asks for it as sd_notify(3) has it, and have systemd wait for all of us."""
        for line in said:
            name, _, value = line.partition("=")
            if name == EXTEND_TIMEOUT and value.isdecimal():
                keeper.stops_by = max(keeper.stops_by, time.monotonic() + int(value) / 1e6)
                notify(f"{EXTEND_TIMEOUT}={int(value) + int(STOP_TIMEOUT_S * 1e6) * len(self._keepers)}")

    def _on_exit(self, keeper: _Keeper) -> None:
        assert keeper.child is not None
        pid = keeper.child.pid
        self._selector.unregister(keeper.child.pidfd)
        code = keeper.child.reap()
        ready_for_s = 0.0 if keeper.ready_at is None else time.monotonic() - keeper.ready_at
        keeper.child = keeper.ready_at = None
        if self._stopping:
            return
        if keeper.asked is not None and code == 0:
            keeper.backoff = Backoff()
            self._wait(keeper, keeper.asked)
            return
        delay = keeper.backoff.delay_after_death(ready_for_s)
        how = _describe_exit(code)
        if not self._engine_ready and (code == _BAD_CONFIGURATION or keeper.backoff.deaths >= _DEATHS_AT_START):
            raise self._failure(keeper, how)
        keeper.restart_at = time.monotonic() + delay
        _say(f"{keeper.name} (pid {pid}) {how}; starting it again {f'in {delay:g} s' if delay else 'now'}")

    def _failure(self, keeper: _Keeper, how: str) -> ServiceFailedError:
        lines = self._logs.tail(keeper.name, keeper.log_start, _LOG_LINES)
        log = "".join(f"\n    {line}" for line in lines) or " (it wrote nothing)"
        return ServiceFailedError(
            f"{keeper.name} did not start: it {how}\nlast lines of {self._logs.path(keeper.name)}:{log}"
        )

    def _stop_all(self) -> None:
        """Stop the services in reverse order, so that none outlives what it depends on."""
        self._stopping = True  # nothing is restarted from here on
        notify("STOPPING=1")
        self._stop_warm_starts()
        for keeper in self._keepers:
            if keeper.waits and keeper.asked is not None:
                self._wait_no_more(keeper, keeper.asked)
        for keeper in reversed(self._keepers):
            if keeper.child is None:
                continue
            keeper.child.signal(signal.SIGTERM)
            keeper.stops_by = time.monotonic() + STOP_TIMEOUT_S
            while keeper.child is not None and not self._hurry and time.monotonic() < keeper.stops_by:
                self._handle_events(keeper.stops_by)
            if keeper.child is not None:
                _say(f"{keeper.name} (pid {keeper.child.pid}) does not stop: killing it")
                keeper.child.signal(signal.SIGKILL)
            while keeper.child is not None:
                self._handle_events(None)

    def _stop_warm_starts(self) -> None:
        """Let nobody wait for a warm parent. What runs already goes on: it is nobody's but its client's."""
        if self._warm_starts.listener in {key.fileobj for key in self._selector.get_map().values()}:
            self._selector.unregister(self._warm_starts.listener)
        self._warm_starts.close()


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _say(text: str) -> None:
    # The terminal may be gone; the engine goes on without it.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"sampan: {text}\n")
        sys.stderr.flush()
