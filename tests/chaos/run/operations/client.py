"""A client: what it does next, with its containers, images, networks and volumes; its stream of chances decides."""

import contextlib
import functools
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.run.answers import Kind
from tests.chaos.run.ledger import Verdict
from tests.chaos.run.operations import builds, images
from tests.chaos.run.operations.container import KILLED, PAUSED, RUNNING, Container, Journal, State
from tests.chaos.run.operations.execs import run_exec, run_to_its_end
from tests.chaos.run.operations.images import Source
from tests.chaos.run.operations.session import AbandonedError, Session

_CONTAINERS: Final = 3  # at a time

# How often what is done to a container, by the state that it is in.
_MOVES: Final = {
    "created": {"start": 8, "read": 1, "commit": 1, "remove": 1},
    "running": {
        "exec": 30, "read": 4, "logs": 3, "top": 1, "stats": 1, "stop": 3, "kill": 2, "restart": 2, "pause": 3,
        "commit": 1, "copy": 3, "remove": 2, "rename": 1, "connect": 2,
    },
    "paused": {"unpause": 8, "remove": 1, "kill": 1},
    "exited": {"start": 8, "read": 2, "wait": 2, "logs": 1, "copy": 1, "commit": 1, "export": 1, "remove": 3},
}  # fmt: skip

# What is done beside containers.
_OTHERS: Final = {
    "container": 60, "run": 16, "image": 4, "tag": 2, "network": 4, "volume": 4, "list": 6, "collect": 2,
}  # fmt: skip
_BUILDS: Final = {"build": 10, "failing build": 2, "cancelled build": 2, "build prune": 1}


@dataclass(slots=True)
class Client:
    """Changes objects that carry its name, and nothing else."""

    session: Session
    image: str
    sources: tuple[Source, ...]
    builds: bool = True  # whether it builds images, too
    containers: list[Container] = field(default_factory=list)
    volumes: dict[str, Journal] = field(default_factory=dict)
    networks: list[str] = field(default_factory=list)
    _number: int = 0

    def begin(self) -> None:
        """Make what lasts for the whole run."""
        network = f"{self.session.name}-net"
        self._make_network(network)
        self.networks.append(network)
        for number in range(2):
            volume = f"{self.session.name}-volume-{number}"
            self._make_volume(volume)
            self.volumes[volume] = Journal("/v/journal")

    def step(self) -> None:
        """Do one thing and hold the engine to it."""
        choice = self._choose(_OTHERS | _BUILDS if self.builds else _OTHERS)
        if choice == "container":
            self._with_a_container()
        else:
            with contextlib.suppress(AbandonedError):
                self._other(choice)

    def end(self) -> None:
        """Hold the engine to what it has acknowledged of everything there is."""
        for container in list(self.containers):
            try:
                container.check()
                container.read_journal()
            except AbandonedError:
                self._retire(container)

    def clear(self) -> None:
        """Remove everything."""
        for container in list(self.containers):
            self._retire(container)
        for volume in self.volumes:
            self._remove_volume(volume)
        for network in self.networks:
            self._remove_network(network)
        for name in self.session.unanswered:
            self._remove_late(name)

    def _remove_late(self, name: str) -> None:
        """Remove a container that was made after its client had asked for its removal; it cannot have started."""
        path = f"/containers/{name}"
        answer = self.session.read(f"{path}/json")
        if answer.kind is Kind.REFUSED:
            return
        if answer.json()["State"]["Status"] != "created":
            self.session.fault(Verdict.LEAKED, f"{name} was gone, and is there: {answer.json()['State']}")
        self.session.must("rm", lambda: self.session.ways.http("DELETE", path, {"force": 1, "v": 1}))

    def _choose(self, weights: dict[str, int]) -> str:
        return self.session.rng.choices(list(weights), list(weights.values()))[0]

    def _with_a_container(self) -> None:
        rng = self.session.rng
        if len(self.containers) < _CONTAINERS and (not self.containers or rng.random() < 0.2):
            self._create()
            return
        container = rng.choice(self.containers)
        try:
            self._move(container, self._choose(_MOVES[container.state.status]))
        except AbandonedError:
            self._retire(container)

    def _create(self) -> None:
        rng = self.session.rng
        self._number += 1
        free = [name for name in self.volumes if not any(c.journal is self.volumes[name] for c in self.containers)]
        volume = rng.choice(free) if free and rng.random() < 0.5 else ""
        journal = self.volumes[volume] if volume else Journal("/journal")
        name = f"{self.session.name}-{self._number}"
        container = Container(self.session, name, rng.randrange(2, 100), journal, restarts=rng.random() < 0.2)
        self.containers.append(container)
        network = rng.choice(("none", "bridge", self.networks[0]))
        try:
            container.create(self.image, network, [f"{volume}:/v"] if volume else [], publish=rng.random() < 0.5)
        except AbandonedError:
            self._retire(container)

    def _retire(self, container: Container) -> None:
        self.containers.remove(container)
        with contextlib.suppress(AbandonedError):
            container.remove()

    def _move(self, container: Container, move: str) -> None:
        if self.session.disturbances.struck(container.id):
            container.after_strike()
        match move:
            case "start":
                container.change("start", RUNNING)
            case "stop":
                container.ready()
                container.change("stop", State("exited", container.code))
            case "kill":
                container.change("kill", State("exited", KILLED))
            case "restart":
                container.ready()
                container.change("restart", RUNNING, between=(State("exited", container.code),))
            case "pause":
                container.change("pause", PAUSED)
            case "unpause":
                container.change("unpause", RUNNING)
            case "exec":
                run_exec(container)
            case "commit":
                images.commit(container)
            case "remove":
                container.read_journal()
                self._retire(container)
            case "rename":
                self._rename(container)
            case "connect":
                self._connect(container)
            case "copy":
                self._copy(container)
            case "wait":
                self._wait(container)
            case _:
                self._look(container, move)

    def _rename(self, container: Container) -> None:
        http, old, new = self.session.ways.http, container.name, f"{container.name}r"
        answer = self.session.until_definite(
            "rename", lambda: http("POST", f"/containers/{container.id}/rename", {"name": new}), already=("same name",)
        )
        if answer.kind is Kind.REFUSED:
            container.wrong(f"rename was refused: {answer}")
        container.name = new
        container.check()
        if self.session.read(f"/containers/{old}/json").kind is not Kind.REFUSED:
            container.wrong(f"it is known by its former name {old}")

    def _connect(self, container: Container) -> None:
        """A network of its own for a moment; a container that is not on any cannot join one."""
        http = self.session.ways.http
        network = f"{self.session.name}-more"
        if container.session.read(f"/containers/{container.name}/json").json()["HostConfig"]["NetworkMode"] == "none":
            return
        self._make_network(network)
        body = {"Container": container.name}
        ask = f"/containers/{container.name}/json"
        for verb, already in (("connect", "already exists"), ("disconnect", "is not connected")):
            call = functools.partial(http, "POST", f"/networks/{network}/{verb}", body=body)
            answer = self.session.until_definite(verb, call, already=(already,))
            if answer.kind is Kind.REFUSED:
                container.wrong(f"{verb} was refused: {answer}")
            shown = self.session.read(ask).json()["NetworkSettings"]["Networks"]
            if (network in shown) != (verb == "connect"):
                container.wrong(f"{verb} was acknowledged, and it is on {sorted(shown)}")
        self._remove_network(network)

    def _copy(self, container: Container) -> None:
        """A file put into it is there, and comes back as it was."""
        line = self.session.token()
        path = f"/copied-{line}"
        archive = images.archive_of_file(path.lstrip("/"), line.encode())
        target = f"/containers/{container.name}/archive"
        put = functools.partial(self.session.ways.http, "PUT", target, {"path": "/"}, raw=archive)
        answer = self.session.until_definite("copy in", put)
        if answer.kind is Kind.REFUSED:
            container.wrong(f"copy in was refused: {answer}")
        answer = self.session.read(target, path=path)
        if answer.kind is Kind.REFUSED or images.content_of_file(answer.output) != line.encode():
            container.wrong(f"what was copied in came out as {answer}")

    def _wait(self, container: Container) -> None:
        http = self.session.ways.http
        answer = self.session.must("wait", lambda: http("POST", f"/containers/{container.name}/wait"))
        if answer.json()["StatusCode"] != container.state.code:
            container.wrong(f"wait said {answer} of {container.state}")

    def _look(self, container: Container, what: str) -> None:
        if what == "read":
            container.read_journal()
            return
        query = {"logs": {"stdout": 1, "stderr": 1, "tail": 10}, "stats": {"stream": 0, "one-shot": 1}}.get(what, {})
        call = functools.partial(self.session.ways.http, "GET", f"/containers/{container.name}/{what}", query)
        answer = self.session.until_definite(what, call)
        if answer.kind is Kind.REFUSED:
            container.wrong(f"{what} was refused: {answer}")

    def _other(self, choice: str) -> None:
        session = self.session
        match choice:
            case "run":
                run_to_its_end(session, self.image, session.rng.choice(("none", "bridge", self.networks[0])))
            case "image":
                images.bring(session, session.rng.choice(self.sources))
            case "tag":
                images.tag(session, self.image)
            case "build":
                builds.build(session, self.image)
            case "failing build":
                builds.fail(session, self.image)
            case "cancelled build":
                builds.cancel(session, self.image)
            case "build prune":
                builds.prune(session)
            case "network":
                name = f"{session.name}-moment"
                self._make_network(name)
                self._remove_network(name)
            case "volume":
                name = f"{session.name}-moment"
                self._make_volume(name)
                self._remove_volume(name)
            case "list":
                self._list()
            case "collect":
                session.once("gc", lambda: session.ways.sampan("system", "gc"))

    def _list(self) -> None:
        """Every container that was acknowledged is listed."""
        answer = self.session.must("ps", lambda: self.session.ways.http("GET", "/containers/json", {"all": 1}))
        listed = {entry["Id"] for entry in answer.json()}
        for container in self.containers:
            if container.id not in listed:
                self.session.fault(Verdict.LOST, f"container {container.name} {container.id[:12]} is not listed")
        self.session.must("images", lambda: self.session.ways.http("GET", "/images/json"))

    def _make_network(self, name: str) -> None:
        call = functools.partial(self.session.ways.http, "POST", "/networks/create", body={"Name": name})
        self.session.must("network", call, already=("already exists",))
        if self.session.read(f"/networks/{name}").kind is Kind.REFUSED:
            self.session.fault(Verdict.LOST, f"network {name} was acknowledged and is not there")

    def _remove_network(self, name: str) -> None:
        call = functools.partial(self.session.ways.http, "DELETE", f"/networks/{name}")
        self.session.must("network", call, already=("not found",))
        if self.session.read(f"/networks/{name}").kind is not Kind.REFUSED:
            self.session.fault(Verdict.LEAKED, f"network {name} is there after its removal")

    def _make_volume(self, name: str) -> None:
        self.session.must("volume", lambda: self.session.ways.http("POST", "/volumes/create", body={"Name": name}))
        if self.session.read(f"/volumes/{name}").kind is Kind.REFUSED:
            self.session.fault(Verdict.LOST, f"volume {name} was acknowledged and is not there")

    def _remove_volume(self, name: str) -> None:
        call = functools.partial(self.session.ways.http, "DELETE", f"/volumes/{name}")
        self.session.must("volume", call, already=("no such",))
        if self.session.read(f"/volumes/{name}").kind is not Kind.REFUSED:
            self.session.fault(Verdict.LEAKED, f"volume {name} is there after its removal")
