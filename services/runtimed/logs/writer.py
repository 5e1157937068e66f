"""The process that takes containers' output from their spools to where it belongs: ``python -m runtimed.logs.writer``.

It is runtimed's child and ends with it, at any line: the next one goes on where its cursors are. It is a process of its
own because output may be more than it can keep up with, and runtimed has to answer meanwhile. It imports little.

Through the socket that is its standard input come JSON objects, one a line: ``begin`` with what is to be done with a
container's output, before that is started; ``end`` when it has ended; ``flush``, which is answered when all that was
written before is where it belongs; ``release`` when its process has ended and conmon has not; ``drop``. What it tells:
``drained``, ``flushed``, ``dropped`` and ``warn``.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from runtimed.conmon.running import find_conmon
from runtimed.logs.drivers.driver import Shipping
from runtimed.logs.shipping import Shipper
from runtimed.logs.sinks import FilePlan, FileSink
from runtimed.logs.spool import Cursor, Reclaim, runs
from sampan.sys.inotify import CREATE, MODIFY, Inotify
from sampan.sys.memory import trim

# How much of a container's output may wait. Then the container waits as well, or if it must not, the oldest goes.
HIGH_BYTES: Final = 128 << 20
LOW_BYTES: Final = 96 << 20

# A container that writes on and on is looked at so often; one that was silent at once.
_PAUSE_S: Final = 0.05
# Nobody waits for a log, as a rule: whoever has the processor to share with it goes first.
_CALM_NICENESS: Final = 10
_RETRY_S: Final = 1.0  # what could not be written, above all because a disk was full
# After so many looks at output the heap is as large as it gets. What is kept of it is given back once all is done.
_LOOKS_PER_TRIM: Final = 16


class Kept:
    """One container's output."""

    def __init__(self, id: str, plan: Mapping[str, Any], tell: "Telling", noted: Callable[[], None]) -> None:
        self.id = id
        spool = Path(plan["spool"])
        self.ended = False
        self.dirty = True
        self.again_at = 0.0
        self.looked_at = 0.0
        self.drop = False
        self.stopped = False
        self.failed = ""
        self.flushes: dict[int, tuple[int, int]] = {}  # by number: the run and its size when it was asked for
        self.spool = spool
        self._tell = tell
        self._blocking: bool = plan["blocking"]
        self._waits = self._blocking
        self._conmon = Path(plan["conmon"])
        self._sink = FileSink(Cursor(spool, spool / "kept"), FilePlan(**plan["file"])) if plan["file"] else None
        self._shipper: Shipper | None = None
        if plan["ship"]:
            cursor = Cursor(spool, spool / "shipped")
            self._shipper = Shipper(id, cursor, Shipping(**plan["ship"]), tell.warn, noted)
        self._reclaim = Reclaim(spool)
        self._signal(signal.SIGCONT)  # by somebody who was killed it may have been stopped

    def begin(self) -> None:
        """It runs again."""
        self.ended = False
        self.dirty = True
        self._waits = self._blocking

    def release(self) -> None:
        """Its process has ended: conmon has only to write the rest away, and to say how it ended."""
        self._waits = False
        if self.stopped:
            self._signal(signal.SIGCONT)
            self.stopped = False

    def end(self) -> None:
        """Nothing writes to its spool any more."""
        self.ended = self.dirty = True

    def flush(self, number: int) -> None:
        """Tell when what is there now is where it belongs."""
        run = (runs(self.spool) or [0])[-1]
        size = (self.spool / str(run)).stat().st_size if run else 0
        self.flushes[number] = (run, size)
        self.dirty = True

    def pump(self) -> bool:
        """Do a part of what there is to do; say whether it was some."""
        self.looked_at = time.monotonic()
        more = False
        try:
            if self._sink is not None:
                more = self._sink.pump(ended=self.ended)
            self.failed = ""
        except OSError as error:
            self.again_at = self.looked_at + _RETRY_S
            if self.failed != str(error):
                self.failed = str(error)
                self._tell.warn(self.id, f"log is not written: {error}")
        if self._shipper is not None:
            self._shipper.wake(ended=self.ended)
        self.dirty = more
        self._settle(caught_up=not more)
        return more

    def _settle(self, *, caught_up: bool) -> None:
        positions = [one.position for one in self._cursors()]
        self._reclaim.upto(positions, caught_up=caught_up, ended=self.ended)
        kept = self._sink.cursor.position if self._sink is not None else None
        for number, wanted in tuple(self.flushes.items()):
            ended = not self.ended or (kept is not None and kept.ended >= wanted[0])
            if kept is None or self.failed or (ended and (kept.run, kept.offset) >= wanted):
                del self.flushes[number]
                self._tell.send({"flushed": number})
        if not caught_up or self.stopped or self._shipper is not None:
            self._press()

    def _cursors(self) -> list[Cursor]:
        return [one.cursor for one in (self._sink, self._shipper) if one is not None]

    def _press(self) -> None:
        backlog = max(one.backlog_bytes for one in self._cursors())
        if self._waits and not self.stopped and backlog > HIGH_BYTES:
            self.stopped = self._signal(signal.SIGSTOP)
        elif self.stopped and backlog < LOW_BYTES:
            self._signal(signal.SIGCONT)
            self.stopped = False
        elif not self._blocking and self._sink is not None and self._sink.cursor.backlog_bytes > HIGH_BYTES:
            left_out = self._sink.cursor.skip_to(LOW_BYTES)
            self._tell.warn(self.id, f"{left_out} bytes of output came too fast to be kept")

    def _signal(self, number: int) -> bool:
        pidfd = find_conmon(self._conmon, self.id)
        if pidfd < 0:
            return False
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(pidfd, number)
        os.close(pidfd)
        return True

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for what is still to be done."""
        return bool(self.flushes) or self.stopped

    @property
    def ships(self) -> bool:
        """Whether its output goes to a receiver."""
        return self._shipper is not None

    @property
    def drained(self) -> bool:
        """Whether there is nothing left to do."""
        newest = (runs(self.spool) or [0])[-1]
        return self.ended and all(one.position.ended >= newest for one in self._cursors())

    def close(self) -> None:
        """Let go of it."""
        if self.stopped:
            self._signal(signal.SIGCONT)
        if self._sink is not None:
            self._sink.close()
        if self._shipper is not None:
            self._shipper.close()
        for number in self.flushes:
            self._tell.send({"flushed": number})


class Telling:
    """What this process says to runtimed."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def send(self, message: Mapping[str, object]) -> None:
        """Say it; if nobody is there any more that is seen elsewhere."""
        with contextlib.suppress(OSError):
            self._control.sendall(json.dumps(message).encode() + b"\n")

    def warn(self, id: str, text: str) -> None:
        """Have something logged."""
        self.send({"warn": text, "id": id})


class Priority:
    """How this process shares the processor: it goes last, but when somebody waits for it."""

    def __init__(self) -> None:
        self._usual = os.getpriority(os.PRIO_PROCESS, 0)
        self._calm = False
        # Who may not become nicer and then less so again, stays as it is.
        self._may = False
        with contextlib.suppress(PermissionError):
            self._set(self._usual + 1)
            self._set(self._usual)
            self._may = True

    def hurry(self, needed: bool) -> None:
        """Be as fast as others, or not."""
        if self._may and self._calm == needed:
            self._set(self._usual if needed else self._usual + _CALM_NICENESS)
            self._calm = not needed

    def _set(self, niceness: int) -> None:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)


class Writer:
    """All containers, and what tells of them."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._tell = Telling(control)
        self._kept: dict[str, Kept] = {}
        self._watches: dict[int, str] = {}
        self._unwatched: set[str] = set()
        self._inotify = Inotify()
        self._input = b""
        self._priority = Priority()
        self._looks = 0
        self._noted = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def run(self) -> None:
        """Work until runtimed is gone."""
        told, everything = select.poll(), select.poll()
        for fd in (self._control.fileno(), self._noted):
            told.register(fd, select.POLLIN)
            everything.register(fd, select.POLLIN)
        everything.register(self._inotify, select.POLLIN)
        try:
            while True:
                timeout_ms = self._timeout_ms()
                if timeout_ms is None and self._looks >= _LOOKS_PER_TRIM:
                    trim()
                    self._looks = 0
                # conmon's every write is an event: who is about to look again does not need to hear of them.
                poll = told if timeout_ms is not None and timeout_ms <= _PAUSE_S * 1000 else everything
                ready = {fd for fd, _ in poll.poll(timeout_ms)}
                if self._inotify.fileno() in ready or poll is told:
                    self._events()
                if self._noted in ready:
                    os.eventfd_read(self._noted)
                    for kept in self._kept.values():
                        kept.dirty = kept.dirty or kept.ships
                if self._control.fileno() in ready and not self._messages():
                    return
                self._priority.hurry(any(kept.is_awaited for kept in self._kept.values()))
                self._pump()
        finally:
            for kept in self._kept.values():
                kept.close()

    def _timeout_ms(self) -> float | None:
        now = time.monotonic()
        times = [
            max(0.0, one.again_at - now) if one.failed else self._due_s(one, now)
            for one in self._kept.values()
            if one.dirty or one.failed or one.stopped
        ]
        if self._unwatched:
            times.append(_RETRY_S)
        return min(times) * 1000 if times else None

    def _due_s(self, kept: Kept, now: float) -> float:
        if kept.flushes or kept.ended:
            return 0.0
        return max(0.0, kept.looked_at + _PAUSE_S - now)

    def _events(self) -> None:
        for change in self._inotify.read():
            if change.lost:
                for kept in self._kept.values():
                    kept.dirty = True
            elif (found := self._kept.get(self._watches.get(change.watch, ""))) is not None:
                found.dirty = True

    def _messages(self) -> bool:
        data = self._control.recv(1 << 16)
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            try:
                self._obey(message)
            except OSError as error:
                self._tell.warn(str(message.get("id", "")), f"log is not kept: {error}")
        return bool(data)

    def _obey(self, message: Mapping[str, Any]) -> None:
        name = message["id"]
        kept = self._kept.get(name)
        match message["do"]:
            case "begin":
                if kept is None:
                    Path(message["plan"]["spool"]).mkdir(mode=0o700, parents=True, exist_ok=True)
                    kept = self._kept[name] = Kept(
                        name, message["plan"], self._tell, lambda: os.eventfd_write(self._noted, 1)
                    )
                    self._watch(kept)
                kept.begin()
                if message["ended"]:
                    kept.end()
            case "end" if kept is not None:
                kept.end()
            case "release" if kept is not None:
                kept.release()
            case "flush":
                if kept is None:
                    self._tell.send({"flushed": message["number"]})
                else:
                    kept.flush(message["number"])
            case "drop":
                if kept is not None:
                    self._forget(kept)
                self._tell.send({"dropped": name})

    def _watch(self, kept: Kept) -> None:
        try:
            self._watches[self._inotify.add(kept.spool, MODIFY | CREATE)] = kept.id
        except OSError:  # the user's watches are used up
            self._unwatched.add(kept.id)

    def _forget(self, kept: Kept) -> None:
        for watch, name in tuple(self._watches.items()):
            if name == kept.id:
                self._inotify.remove(watch)
                del self._watches[watch]
        self._unwatched.discard(kept.id)
        del self._kept[kept.id]
        kept.close()

    def _pump(self) -> None:
        now = time.monotonic()
        for kept in tuple(self._kept.values()):
            if kept.id in self._unwatched or (kept.failed and now >= kept.again_at):
                kept.dirty = True
            if kept.stopped or (
                kept.dirty and not (kept.failed and now < kept.again_at) and self._due_s(kept, now) <= 0
            ):
                self._looks += kept.pump()
                # What a container writes without a pause is a backlog that is worked off without one.
                if kept.dirty:
                    kept.looked_at = 0.0
            if kept.ended and not kept.dirty and not kept.failed and kept.drained:
                self._tell.send({"drained": kept.id})
                self._forget(kept)


def main() -> int:
    """Work for the runtimed at the other end of standard input."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with runtimed, after the last output
    Writer(socket.socket(fileno=os.dup(0))).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
