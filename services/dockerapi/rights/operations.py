"""What every route does: its name, what it is about, and how far it reaches. A route that is not here is nobody's.

The names are those of ``operations`` in the configuration and of the audit log; ``methods`` has those of gRPC.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


class Reach(enum.Enum):
    """How far an operation goes."""

    LOOKS = "looks"  # says how things are
    READS = "reads"  # hands out content: files, images, and what others answer whom the engine asks for a client
    CHANGES = "changes"
    OPENS = "opens"  # what follows is a protocol of its own, which nobody here looks into
    CARRIES = "carries"  # what follows are calls, each of which is an operation that is looked at by itself


class Noun(enum.Enum):
    """What an operation names in its path."""

    CONTAINER = "container"
    EXEC = "exec"
    IMAGE = "image"
    NETWORK = "network"
    VOLUME = "volume"


@dataclass(frozen=True, slots=True)
class Operation:
    """One of them."""

    name: str  # "container.create"
    reach: Reach
    noun: Noun | None = None
    field: str = ""  # of the path: where the object's name is

    @property
    def looks(self) -> bool:
        """Whether it is for a socket that is read-only."""
        return self.reach is Reach.LOOKS


def _of(noun: Noun, field: str, **names: tuple[str, str, Reach]) -> dict[tuple[str, str], Operation]:
    return {
        (method, path): Operation(f"{noun.value}.{name.replace('_', '-')}", reach, noun, field)
        for name, (method, path, reach) in names.items()
    }


def _about(what: str, **names: tuple[str, str, Reach]) -> dict[tuple[str, str], Operation]:
    return {
        (method, path): Operation(f"{what}.{name.replace('_', '-')}", reach)
        for name, (method, path, reach) in names.items()
    }


_L, _R, _C, _O = Reach.LOOKS, Reach.READS, Reach.CHANGES, Reach.OPENS

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    **_about(
        "container",
        create=("POST", "/containers/create", _C),
        list=("GET", "/containers/json", _L),
        prune=("POST", "/containers/prune", _C),
    ),
    **_of(
        Noun.CONTAINER,
        "id",
        inspect=("GET", "/containers/{id}/json", _L),
        top=("GET", "/containers/{id}/top", _L),
        logs=("GET", "/containers/{id}/logs", _L),
        stats=("GET", "/containers/{id}/stats", _L),
        changes=("GET", "/containers/{id}/changes", _L),
        export=("GET", "/containers/{id}/export", _R),
        archive_get=("GET", "/containers/{id}/archive", _R),
        archive_put=("PUT", "/containers/{id}/archive", _C),
        attach=("POST", "/containers/{id}/attach", _C),
        attach_ws=("GET", "/containers/{id}/attach/ws", _C),
        resize=("POST", "/containers/{id}/resize", _C),
        start=("POST", "/containers/{id}/start", _C),
        stop=("POST", "/containers/{id}/stop", _C),
        restart=("POST", "/containers/{id}/restart", _C),
        kill=("POST", "/containers/{id}/kill", _C),
        pause=("POST", "/containers/{id}/pause", _C),
        unpause=("POST", "/containers/{id}/unpause", _C),
        update=("POST", "/containers/{id}/update", _C),
        rename=("POST", "/containers/{id}/rename", _C),
        wait=("POST", "/containers/{id}/wait", _C),
        remove=("DELETE", "/containers/{id+}", _C),
    ),
    ("POST", "/containers/{id}/exec"): Operation("exec.create", _C, Noun.CONTAINER, "id"),
    **_of(
        Noun.EXEC,
        "id",
        start=("POST", "/exec/{id}/start", _C),
        resize=("POST", "/exec/{id}/resize", _C),
        inspect=("GET", "/exec/{id}/json", _L),
    ),
    **_about(
        "image",
        list=("GET", "/images/json", _L),
        search=("GET", "/images/search", _R),
        pull=("POST", "/images/create", _C),
        load=("POST", "/images/load", _C),
        save_all=("GET", "/images/get", _R),
        prune=("POST", "/images/prune", _C),
        commit=("POST", "/commit", _C),
    ),
    **_of(
        Noun.IMAGE,
        "name",
        inspect=("GET", "/images/{name+}/json", _L),
        history=("GET", "/images/{name+}/history", _L),
        save=("GET", "/images/{name+}/get", _R),
        tag=("POST", "/images/{name+}/tag", _C),
        push=("POST", "/images/{name+}/push", _C),
        remove=("DELETE", "/images/{name+}", _C),
        distribution=("GET", "/distribution/{name+}/json", _R),
    ),
    **_about(
        "network",
        list=("GET", "/networks", _L),
        create=("POST", "/networks/create", _C),
        prune=("POST", "/networks/prune", _C),
    ),
    ("GET", "/networks/"): Operation("network.list", _L),
    **_of(
        Noun.NETWORK,
        "id",
        inspect=("GET", "/networks/{id+}", _L),
        remove=("DELETE", "/networks/{id+}", _C),
        connect=("POST", "/networks/{id+}/connect", _C),
        disconnect=("POST", "/networks/{id+}/disconnect", _C),
    ),
    **_about(
        "volume",
        list=("GET", "/volumes", _L),
        create=("POST", "/volumes/create", _C),
        prune=("POST", "/volumes/prune", _C),
    ),
    **_of(
        Noun.VOLUME,
        "name",
        inspect=("GET", "/volumes/{name+}", _L),
        update=("PUT", "/volumes/{name+}", _C),
        remove=("DELETE", "/volumes/{name+}", _C),
    ),
    **_about(
        "build",
        run=("POST", "/build", _C),
        cancel=("POST", "/build/cancel", _C),
        prune=("POST", "/build/prune", _C),
        grpc=("POST", "/grpc", _O),
        session=("POST", "/session", _O),
    ),
    **_about(
        "system",
        ping=("GET", "/_ping", _L),
        version=("GET", "/version", _L),
        info=("GET", "/info", _L),
        plugins=("GET", "/plugins", _L),
        df=("GET", "/system/df", _L),
        events=("GET", "/events", _L),
        auth=("POST", "/auth", _C),
        swarm_leave=("POST", "/swarm/leave", _C),
        options=("OPTIONS", "/{any+}", _L),
        engine=("GET", "/grpc", _L),
        grpc=("POST", "/grpc/{service}", Reach.CARRIES),
    ),
    ("HEAD", "/_ping"): Operation("system.ping", _L),
}


def operation_of(method: str, path: str) -> Operation | None:
    """Return what a route does; None for one that nobody has thought about."""
    return OPERATIONS.get((method, path))
