"""runtimed's side of the writer of logs: start it when there is something to write, tell it of containers."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import runtimed
import sampan
from runtimed.containers.memory_store import UP, Entry
from runtimed.containers.paths import ContainerPaths, Paths
from runtimed.logs.plans import is_kept, plan_of
from runtimed.logs.spool import Position, runs
from sampan.docker.options.logs import SENDING
from sampan.log import log
from sampan.resource.container_spec import LogConfig

# A reader waits so long for what was written to be where it reads; then it reads what there is.
_FLUSH_S: Final = 20.0
# At its removal, what a container has said last is still sent, to a receiver that takes it.
_LAST_WORDS_S: Final = 3.0
_DROP_S: Final = 5.0
_RECEIVER_S: Final = 10.0
# It costs some megabytes; most containers that end are followed by others.
_IDLE_S: Final = 30.0
_SOON_S: Final = 1.0
_MESSAGE_BYTES: Final = 1 << 20
_HEAP_BYTES: Final = 16 << 20


class LogKeeper:
    """Has the output of all containers kept. One of its kind, and it is told of every start and end."""

    def __init__(self, paths: Paths, environ: Mapping[str, str]) -> None:
        self._paths = paths
        # It looks for packages where ours are, and for nothing else: that is what its start costs.
        packages = {str(Path(package.__path__[0]).parent) for package in (runtimed, sampan)}
        packages.add(sysconfig.get_path("platlib"))
        self._environ = {
            "PATH": environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join(sorted(packages)),
            # It takes and frees some megabytes for each piece of a log: those that it has are not given back each time.
            "MALLOC_MMAP_THRESHOLD_": str(_HEAP_BYTES),
            "MALLOC_TRIM_THRESHOLD_": str(_HEAP_BYTES),
        }
        self._plans: dict[str, tuple[dict[str, object], bool]] = {}  # by container: and whether it has ended
        self._flushes: dict[int, tuple[str, asyncio.Future[None]]] = {}
        self._drained: dict[str, asyncio.Event] = {}
        self._dropped: dict[str, asyncio.Event] = {}
        self._number = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._input = b""
        self._output = b""
        self._idle: asyncio.TimerHandle | None = None
        self._closed = False

    async def look_for_receiver(self, config: LogConfig) -> None:
        """Look whether output can be sent. Raises OSError: the receiver does not answer."""
        if config.driver in SENDING:
            from runtimed.logs.drivers.choice import look_for_receiver

            await asyncio.to_thread(look_for_receiver, config.driver, config.options, _RECEIVER_S)

    def begin(self, entry: Entry, paths: ContainerPaths) -> None:
        """Keep what the container writes from here on; called before it can write anything."""
        if is_kept(entry.container):
            self._begin(entry.id, plan_of(entry.container, paths), ended=False)

    def _begin(self, id: str, plan: dict[str, object], *, ended: bool) -> None:
        self._plans[id] = (plan, ended)
        self._drained.setdefault(id, asyncio.Event()).clear()
        self._tell({"do": "begin", "id": id, "plan": plan, "ended": ended})

    def release(self, id: str) -> None:
        """Its process has ended: conmon is not to wait for the writer any more."""
        if id in self._plans:
            self._tell({"do": "release", "id": id})

    def end(self, id: str) -> None:
        """Nothing writes any more."""
        if id in self._plans:
            self._plans[id] = (self._plans[id][0], True)
            self._tell({"do": "end", "id": id})

    async def flush(self, id: str) -> None:
        """Return when what the container has written so far can be read; at the latest after some seconds."""
        if id not in self._plans:
            return
        self._number += 1
        number, done = self._number, asyncio.get_running_loop().create_future()
        self._flushes[number] = (id, done)
        self._tell({"do": "flush", "id": id, "number": number})
        try:
            async with asyncio.timeout(_FLUSH_S):
                await done
        except TimeoutError:
            log.warning("log is read before all of it is written", container=id)
        finally:
            self._flushes.pop(number, None)

    async def forget(self, entry: Entry) -> None:
        """Let go of a container that is being removed; what it said last is still sent."""
        if entry.id not in self._plans:
            return
        if entry.container.spec.log.driver in SENDING:
            await _within(self._drained[entry.id], _LAST_WORDS_S)
        if self._plans.pop(entry.id, None) is not None:
            dropped = self._dropped[entry.id] = asyncio.Event()
            self._tell({"do": "drop", "id": entry.id})
            await _within(dropped, _DROP_S)
            del self._dropped[entry.id]
        self._drained.pop(entry.id, None)
        self._rest()

    async def recover(self, entries: Iterable[Entry]) -> None:
        """Go on with what an earlier process has left in the spools."""
        for entry in entries:
            if not is_kept(entry.container):
                continue
            paths = self._paths.container(entry.id)
            if entry.status in UP or await asyncio.to_thread(_is_left, paths):
                self._begin(entry.id, plan_of(entry.container, paths), ended=entry.status not in UP)

    def close(self) -> None:
        """End the writer. Whatever waits in the spools waits for the next one."""
        self._closed = True
        self._stop()

    def _stop(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            asyncio.get_running_loop().remove_writer(self._control)
            self._control.close()
            self._control = None
        self._input = self._output = b""

    def _tell(self, message: Mapping[str, object]) -> None:
        if self._closed:
            return
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._control is None:
            self._start()
            return  # it was told of everything
        self._send(message)

    def _send(self, message: Mapping[str, object]) -> None:
        waiting = bool(self._output)
        self._output += json.dumps(message).encode() + b"\n"
        if not waiting:
            self._write()

    def _write(self) -> None:
        assert self._control is not None
        loop = asyncio.get_running_loop()
        try:
            while self._output:
                self._output = self._output[self._control.send(self._output) :]
        except BlockingIOError:
            loop.add_writer(self._control, self._write)
            return
        except OSError:  # it has ended, which is seen at the other side
            self._output = b""
        loop.remove_writer(self._control)

    def _start(self) -> None:
        """Start the writer, and tell it of all that there is."""
        ours, its = socket.socketpair()
        ours.setblocking(False)
        try:
            # A group of its own: a signal that a terminal sends to runtimed must not end it first. Not a session:
            # the kernel shares the processor out among sessions, and how nice one is counts within it only.
            self._process = subprocess.Popen(
                # The directory is for whoever looks for an engine's processes.
                [sys.executable, "-S", "-m", "runtimed.logs.writer", str(self._paths.run)],
                stdin=its.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=None,
                cwd="/",
                env=self._environ,
                process_group=0,
            )
        except OSError as error:
            ours.close()
            log.error("cannot start the writer of logs", error=str(error))
            return
        finally:
            its.close()
        self._control = ours
        asyncio.get_running_loop().add_reader(ours, self._read)
        for name, (plan, ended) in self._plans.items():
            self._send({"do": "begin", "id": name, "plan": plan, "ended": ended})
        for number, (name, _) in self._flushes.items():
            self._send({"do": "flush", "id": name, "number": number})
        for name in self._dropped:
            self._send({"do": "drop", "id": name})

    def _read(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
            return
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._heard(json.loads(line))

    def _ended(self) -> None:
        """It has ended though nobody asked it to."""
        self._stop()
        code = self._process.poll() if self._process is not None else None
        log.error("the writer of logs has ended", code=code)
        # What it has not kept is in the spools. One that cannot live must not take the processor all the same.
        asyncio.get_running_loop().call_later(_SOON_S, self._again)

    def _again(self) -> None:
        if not self._closed and self._control is None and self._plans:
            self._start()

    def _heard(self, message: Mapping[str, Any]) -> None:
        match message:
            case {"flushed": number}:
                if number in self._flushes and not self._flushes[number][1].done():
                    self._flushes[number][1].set_result(None)
            case {"drained": id} if id in self._plans and self._plans[id][1]:
                del self._plans[id]
                self._drained[id].set()
                self._rest()
            case {"dropped": id} if id in self._dropped:
                self._dropped[id].set()
            case {"warn": text, "id": id}:
                log.warning("log", container=id, what=text)

    def _rest(self) -> None:
        if not self._plans and self._control is not None and self._idle is None:
            self._idle = asyncio.get_running_loop().call_later(_IDLE_S, self._sleep)

    def _sleep(self) -> None:
        self._idle = None
        if not self._plans:
            self._stop()
            if self._process is not None:
                self._process.poll()


async def _within(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _is_left(paths: ContainerPaths) -> bool:
    """Whether something in a container's spool was not read to its end."""
    newest = (runs(paths.spool) or [0])[-1]
    states = [paths.spool / name for name in ("kept", "shipped") if (paths.spool / name).exists()]
    return newest > 0 and (not states or any(Position.load(state).ended < newest for state in states))
