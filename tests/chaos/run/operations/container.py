"""A container of a client's, and what the client knows about it: its state, its exit code, what it has written."""

import functools
import io
import json
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.run.answers import DEADLINE_S, Kind
from tests.chaos.run.ledger import Verdict
from tests.chaos.run.operations.session import AbandonedError, Session

# TERM ends it with the code that its client knows, from when the file is there.
_PROGRAM: Final = 'trap "exit $CODE" TERM; touch /dev/shm/ready; while :; do sleep 1000 & wait $!; done'
_STOP_S: Final = 100  # its program ends at once; the rest is patience with the machine

KILLED: Final = 137
NOT_STARTED: Final = 128  # the engine's word for a start that failed; no policy starts it again
UNKNOWN: Final = 255  # nobody saw the exit: its monitor was killed


@dataclass(frozen=True, slots=True)
class State:
    """Docker's word for it; the exit code of one that has ended."""

    status: str
    code: int | None = None


CREATED: Final = State("created")
RUNNING: Final = State("running")
PAUSED: Final = State("paused")
ABSENT: Final = State("absent")


@dataclass(slots=True)
class Journal:
    """Lines in a file of the container's. An acknowledged line is there; one whose answer a kill took may be."""

    path: str
    sure: list[str] = field(default_factory=list)
    maybe: set[str] = field(default_factory=set)

    def findings(self, text: str) -> list[str]:
        """Return what is wrong with what was read."""
        lines = text.splitlines()
        lost = [line for line in self.sure if line not in lines]
        strange = [line for line in lines if line not in self.maybe and line not in self.sure]
        twice = sorted({line for line in lines if lines.count(line) > 1})
        order = [line for line in lines if line in self.sure]
        found = [f"lost {line}" for line in lost] + [f"never written: {line!r}" for line in strange]
        found += [f"written twice: {line}" for line in twice]
        if not found and order != self.sure:
            found.append(f"out of order: {order}")
        return found


@dataclass(slots=True)
class Container:
    """One that its client alone changes."""

    session: Session
    name: str
    code: int
    journal: Journal
    id: str = ""
    state: State = ABSENT
    restarts: bool = False  # unless stopped: with `always` each start of runtimed would start it again

    def create(self, image: str, network: str, binds: Sequence[str], *, publish: bool) -> None:
        """Make it; afterwards it is there, whatever was killed meanwhile."""
        host: dict[str, Any] = {"NetworkMode": network, "Binds": list(binds), "Init": False}
        if publish and network != "none":
            host["PortBindings"] = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
        if self.restarts:
            host["RestartPolicy"] = {"Name": "unless-stopped"}
        body = {"Image": image, "Cmd": ["sh", "-c", _PROGRAM], "Env": [f"CODE={self.code}"], "HostConfig": host}
        http = self.session.ways.http
        self.session.must(
            "create", lambda: http("POST", "/containers/create", {"name": self.name}, body), already=("already in use",)
        )
        self.state = CREATED
        self.id = self._shown()["Id"]
        self.check()

    def change(self, verb: str, after: State, *, between: Sequence[State] = ()) -> None:
        """Do ``verb`` on it, which leads from its state to ``after``, by one way or the other.

        Raises:
            AbandonedError: the answer or the state was wrong, or its own monitor was killed.
        """
        before = self.state
        call = self._way(verb)
        answer = self.session.once(verb, call)
        if answer.kind is Kind.BROKEN:
            seen = self.ask()
            if seen not in (before, after, *between):
                self.wrong(f"{verb} was broken off, {seen} instead of {before} or {after}")
            answer = self.session.until_definite(verb, call, already=(_ALREADY[verb],), again=True)
        if answer.kind is Kind.REFUSED:
            self.wrong(f"{verb} in state {before} was refused: {answer}")
        self.state = after
        if self.session.rng.random() < 0.5:
            self.check()

    def _way(self, verb: str) -> Any:
        """Choose how to say it: all ways mean the same."""
        ways, seconds = self.session.ways, _STOP_S
        timed = verb in ("stop", "restart")
        words = [verb, *(["--time", str(seconds)] if timed else []), self.name]
        choice = self.session.rng.random()
        if choice < 0.15:
            return lambda: ways.docker(*words)
        if choice < 0.2:
            return lambda: ways.sampan(*words)
        if choice < 0.5:
            options = {"timeout": seconds} if timed else {}
            return lambda: ways.sdk(verb, self.name, **options)
        return lambda: ways.http("POST", f"/containers/{self.name}/{verb}", {"t": seconds} if timed else {})

    def ready(self) -> None:
        """Return when its program would take a signal as it is meant to."""
        script = "until [ -e /dev/shm/ready ]; do sleep 0.05; done"
        call = functools.partial(self.session.ways.docker, "exec", self.name, "sh", "-c", script)
        mark = self.session.disturbances.mark()
        answer = self.session.until_definite("exec", call)
        while answer.code in (0, KILLED, UNKNOWN) and self.session.disturbances.api_touched(mark):
            mark = self.session.disturbances.mark()  # it may have been broken off: no client can tell
            answer = self.session.until_definite("exec", call)
        if answer.kind is Kind.REFUSED:
            self.wrong(f"waiting in it was refused: {answer}")

    def ask(self) -> State:
        """Return its state as the engine shows it."""
        answer = self.session.read(f"/containers/{self.name}/json")
        if answer.kind is Kind.REFUSED and answer.code == 404:
            return ABSENT
        shown = answer.json()["State"]
        return State(shown["Status"], shown["ExitCode"] if shown["Status"] in ("exited", "dead") else None)

    def check(self) -> None:
        """Its state must be the one that was acknowledged; one with a restart policy may be on its way back."""
        seen = self.ask()
        end = time.monotonic() + DEADLINE_S
        while self.restarts and seen != self.state and seen.status == "restarting" and time.monotonic() < end:
            time.sleep(0.1)
            seen = self.ask()
        if seen != self.state:
            self.wrong(f"it is {seen} and was acknowledged to be {self.state}")

    def after_strike(self) -> None:
        """What it is after its monitor, or a program that worked for it, was killed: ended, as before, or up again.

        Raises:
            AbandonedError: always, for what it has written and said since is not known.
        """
        end = time.monotonic() + DEADLINE_S
        while True:
            seen = self.ask()
            stopped = self.state.status in ("exited", "created")
            if self.restarts and not stopped:
                settled = seen.status == "running" or seen.code == NOT_STARTED
            else:
                settled = seen == self.state or (
                    seen.status == "exited" and seen.code in (KILLED, UNKNOWN, NOT_STARTED, self.code)
                )
                settled = settled or seen.status in ("running", "created")
            if settled:
                raise AbandonedError
            if time.monotonic() > end:
                self.session.fault(Verdict.WRONG, f"container {self.name} {self.id[:12]}: hurt itself, and then {seen}")
                raise AbandonedError
            time.sleep(0.1)

    def wrong(self, text: str) -> None:
        """Report a fault unless it was hurt itself; either way it is not to be relied upon any more.

        Raises:
            AbandonedError: always.
        """
        if self.session.disturbances.struck(self.id):
            self.after_strike()
        else:
            lost = self.ask() == ABSENT
            self.session.fault(Verdict.LOST if lost else Verdict.WRONG, f"container {self.name} {self.id[:12]}: {text}")
        raise AbandonedError

    def read_journal(self) -> None:
        """Read its file through the archive API and hold it to what was acknowledged."""
        answer = self.session.read(f"/containers/{self.name}/archive", path=self.journal.path)
        if answer.kind is Kind.REFUSED:
            if answer.code != 404 or self.journal.sure:
                self.wrong(f"its file was refused: {answer}, {self.journal.sure} was acknowledged")
            return
        with tarfile.open(fileobj=io.BytesIO(answer.output)) as archive:
            member = archive.next()
            file = archive.extractfile(member) if member else None
            text = file.read().decode(errors="replace") if file else ""
        for finding in self.journal.findings(text):
            self.session.fault(Verdict.LOST, f"container {self.name} {self.id[:12]}: {self.journal.path}: {finding}")

    def remove(self) -> None:
        """Remove it by force, in whatever state it is; it must be gone."""
        call = self._removal()
        answer = self.session.until_definite("rm", call, already=("No such container",))
        if answer.kind is Kind.REFUSED and not (self.state == ABSENT and "No such container" in answer.error):
            self.session.fault(Verdict.WRONG, f"container {self.name} {self.id[:12]}: rm was refused: {answer}")
        self.state = ABSENT
        if self.ask() != ABSENT:
            self.session.fault(Verdict.LEAKED, f"container {self.name} {self.id[:12]} is there after its removal")

    def _removal(self) -> Any:
        ways = self.session.ways
        if self.session.rng.random() < 0.3:
            return lambda: ways.docker("rm", "--force", "--volumes", self.name)
        return lambda: ways.http("DELETE", f"/containers/{self.name}", {"force": 1, "v": 1})

    def _shown(self) -> dict[str, Any]:
        answer = self.session.read(f"/containers/{self.name}/json")
        if answer.kind is Kind.REFUSED:
            self.wrong(f"it was acknowledged, and inspect says: {answer}")
        shown: dict[str, Any] = json.loads(answer.output)
        return shown


# What a second try is told when the first one had its effect. Starting and stopping is no error in Docker.
_ALREADY: Final = {
    "start": "already running",
    "stop": "already stopped",
    "kill": "is not running",
    "pause": "already paused",
    "unpause": "is not paused",
    "restart": "(never)",
}
