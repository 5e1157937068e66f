"""SIGKILL for every process of an engine, chosen by a stream of chances, each after so many operations."""

import contextlib
import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.layout import Layout
from sampan.services import STARTED as SERVICES
from tests.chaos.run.answers import Ways, pids_below
from tests.chaos.run.disturbances import STEP, Disturbances
from tests.chaos.run.ledger import Ledger, Verdict
from tests.support.docker_client import answers
from tests.support.engine import Engine
from tests.support.footprint import control_groups

# How often which process. What lives for some milliseconds is looked for, and not always found.
_WEIGHTS: Final = {
    "runtimed": 22,
    "dockerapi": 14,
    "imaged": 12,
    "snapshotter": 12,
    "buildd": 12,
    "supervisor": 4,
    "conmon": 10,
    "conmon of an exec": 5,
    "OCI runtime": 5,
    "layer worker": 6,
    "file worker": 4,
    "process of a step": 3,
    "helper": 4,
    "client": 12,
}

# Whose descendants they are.
_CHILDREN: Final = {"layer worker": "snapshotter", "file worker": "buildd", "helper": "runtimed"}

_LOOK_S: Final = 3.0  # for a process that comes and goes
_BACK_S: Final = 120.0  # a successor serves in a second or two; the rest is patience with the machine
_PAUSE_S: Final = 0.01
_SEVERAL: Final = 0.15  # how often two services go at once


class NotBackError(Exception):
    """The engine does not come back: there is nothing more to be done with it."""


@dataclass(slots=True)
class Killer:
    """Kills until the run stops."""

    engine: Engine
    rng: random.Random
    ways: Ways
    ledger: Ledger
    disturbances: Disturbances
    between: tuple[int, int]  # fewest and most operations from one kill to the next

    def run(self) -> None:
        """Strike, time and again.

        Raises:
            NotBackError: after a kill the engine does not serve again; that is a fault.
        """
        following = self.rng.randint(*self.between)
        while self.ledger.wait_for(following):
            process = self.rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
            time.sleep(self.rng.random() * 0.1)  # not always at the start of an operation
            if process in SERVICES:
                others = [name for name in SERVICES if name != process]
                again = (self.rng.choice(others),) if self.rng.random() < _SEVERAL else ()
                self._kill_services((process, *again))
            elif process == "supervisor":
                self._kill_supervisor()
            elif process == "client":
                if self.ways.kill_a_program(self.rng.getrandbits(16)):
                    self.ledger.killed(process)
            else:
                self._kill_one_of(process, self.rng.getrandbits(16))
            following = self.ledger.begun + self.rng.randint(*self.between)

    def _kill_services(self, names: tuple[str, ...]) -> None:
        with contextlib.ExitStack() as stack:
            before = {}
            for name in names:
                stack.enter_context(self.disturbances.disturb(name))
            for name in names:
                before[name] = self.engine.pid(name)
                self.ledger.killed(name)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(before[name], signal.SIGKILL)
            self._until_back(lambda: all(self._has_successor(name, pid) for name, pid in before.items()), names)

    def _kill_supervisor(self) -> None:
        """The services go on until another supervisor takes over, which stops them and starts them again."""
        process = self.engine.process
        assert process is not None
        with self.disturbances.disturb("supervisor"):
            before = {name: self.engine.pid(name) for name in SERVICES}
            self.ledger.killed("supervisor")
            process.kill()
            process.wait()
            self.engine.process = None
            try:
                self.engine.start()
            except AssertionError as error:
                self.ledger.fault(Verdict.HUNG, f"after the supervisor was killed: {error}")
                raise NotBackError from None
            # What was there before answers until then.
            self._until_back(lambda: all(self._has_successor(*each) for each in before.items()), ("supervisor",))

    def _kill_one_of(self, process: str, choice: int) -> None:
        """Kill a process that is no service, if one comes along."""
        end = time.monotonic() + _LOOK_S
        while time.monotonic() < end and not self.ledger.stopping:
            found = sorted(self._candidates(process).items())
            if found:
                pid, container = found[choice % len(found)]
                with self.disturbances.disturb(process):
                    self._strike(process, pid, container)
                return
            time.sleep(_PAUSE_S)

    def _strike(self, process: str, pid: int, container: str) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if pid in self._candidates(process):  # it is still the one that was seen
                if container:
                    self.disturbances.strike(container)
                self.ledger.killed(process)
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)

    def _candidates(self, process: str) -> dict[int, str]:
        """Return pids, each with the ID of the container that it works for, if that can be seen."""
        if process == "process of a step":
            return dict.fromkeys(_steps(self.engine.layout), STEP)
        if process in _CHILDREN:
            parent = _CHILDREN[process]
            with contextlib.suppress(OSError, json.JSONDecodeError):
                service = self.engine.pid(parent)
                # One that still has its parent's command line is about to become something else.
                own = _command(service)
                return {
                    pid: ""
                    for pid in _descendants(service)
                    if b"python" in (command := _command(pid)) and command != own
                }
            return {}
        run_root = self.engine.layout.run_root
        found = {}
        for pid, words in pids_below(run_root).items():
            name = Path(words[0]).name
            is_exec = "--exec-process-spec" in words
            wanted = {
                "conmon": name == "conmon" and not is_exec,
                "conmon of an exec": name == "conmon" and is_exec,
                "OCI runtime": name in ("runc", "crun"),
            }[process]
            if wanted:
                found[pid] = next((part for word in words for part in word.split("/") if len(part) == 64), "")
                if name == "conmon":
                    found[pid] = words[words.index("-c") + 1]
                elif "exec" in words:
                    found[pid] = words[-1] if len(words[-1]) == 64 else words[-2]
        return found

    def _until_back(self, holds: Callable[[], bool], names: tuple[str, ...]) -> None:
        end = time.monotonic() + _BACK_S
        while not holds():
            if time.monotonic() > end:
                self.ledger.fault(Verdict.HUNG, f"not back {_BACK_S:g} s after a kill of {', '.join(names)}")
                raise NotBackError
            time.sleep(_PAUSE_S)

    def _has_successor(self, service: str, before: int) -> bool:
        try:
            # What the engine says of itself does not need all of it.
            return (
                self.engine.pid(service) != before
                and _listens(self.engine.layout.socket(service))
                and answers(self.engine.layout.docker_socket)
            )
        except (FileNotFoundError, json.JSONDecodeError):
            return False


def _steps(layout: Layout) -> set[int]:
    """Return what runs in steps of builds."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # one that goes while it is walked through
        for group in control_groups(layout):
            if group.parent.name == "steps":
                found |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    return found


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children = [int(child) for child in tasks.read_text().split()]
                found += children
                waiting += children
    return found
