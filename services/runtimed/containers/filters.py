"""Docker's filters on lists of containers."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from runtimed.containers.memory_store import UP, MemoryStore
from sampan.docker.booleans import filter_bool
from sampan.docker.filters import found_test, label_test, until_ns
from sampan.docker.times import to_ns
from sampan.errors import InvalidArgumentError
from sampan.resource.container import Container, Status
from sampan.resource.listing import EVERYONE, Filters, Selection

Predicate = Callable[[Container], bool]


def select(
    containers: Iterable[Container], selection: Selection, filters: Filters, memory: MemoryStore
) -> list[Container]:
    """Return the wanted containers, newest first.

    Raises:
        InvalidArgumentError: an unknown filter, or a value that cannot be.
        NotFoundError: ``before`` or ``since`` name no container.
    """
    predicates = [_predicate(key, values, memory) for key, values in filters.items() if values]
    limit = 1 if selection.latest else selection.limit
    everything = selection.all or limit > 0 or bool({"status", "exited"} & {k for k, v in filters.items() if v})
    chosen = [
        container
        for container in sorted(containers, key=lambda c: c.created, reverse=True)
        if selection.owner in (container.spec.owner, EVERYONE)
        and (everything or container.state.status in UP or container.state.status is Status.RESTARTING)
        and all(predicate(container) for predicate in predicates)
    ]
    return chosen[:limit] if limit > 0 else chosen


def _predicate(key: str, values: tuple[str, ...], memory: MemoryStore) -> Predicate:
    if key in ("before", "since"):
        return _beside(key, values, memory)
    make = _BY_KEY.get(key)
    if make is None:
        raise InvalidArgumentError(f"invalid filter '{key}'")
    return make(values)


def _beside(key: str, values: tuple[str, ...], memory: MemoryStore) -> Predicate:
    others = [memory.find(value).container.created for value in values]
    if key == "before":
        return lambda c: any(c.created < other for other in others)
    return lambda c: any(c.created > other for other in others)


def _id(values: tuple[str, ...]) -> Predicate:
    """A regular expression, too; most send the beginning of an ID."""
    found = found_test({"id": values}, "id")
    return lambda c: any(c.id.startswith(value) for value in values) or found(c.id)


def _name(values: tuple[str, ...]) -> Predicate:
    """Docker's name filter is a regular expression, with or without the slash that its names begin with."""
    found = found_test({"name": values}, "name")
    return lambda c: found(c.name) or found(f"/{c.name}")


def _label(values: tuple[str, ...]) -> Predicate:
    passes = label_test({"label": values})
    return lambda c: passes(c.spec.labels)


def _no_label(values: tuple[str, ...]) -> Predicate:
    passes = label_test({"label!": values})
    return lambda c: passes(c.spec.labels)


def _status(values: tuple[str, ...]) -> Predicate:
    known = {status.value for status in Status}
    for value in values:
        if value not in known:
            raise InvalidArgumentError(f"invalid filter 'status={value}'")
    return lambda c: c.state.status.value in values


def _exited(values: tuple[str, ...]) -> Predicate:
    try:
        codes = {int(value) for value in values}
    except ValueError:
        raise InvalidArgumentError(f"invalid filter 'exited={values[0]}'") from None
    return lambda c: c.state.status is Status.EXITED and c.state.exit_code in codes


def _ancestor(values: tuple[str, ...]) -> Predicate:
    def descends(c: Container) -> bool:
        image, digits = c.spec.image, c.spec.image_id.removeprefix("sha256:")
        bare = image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"
        return any(
            value in (image, bare, c.spec.image_id)
            or f"{value}:latest" == bare
            or (len(value) >= 4 and digits.startswith(value.removeprefix("sha256:")))
            for value in values
        )

    return descends


def _volume(values: tuple[str, ...]) -> Predicate:
    return lambda c: any(value in (mount.name, mount.source, mount.target) for mount in c.mounts for value in values)


def _network(values: tuple[str, ...]) -> Predicate:
    def joined(c: Container) -> bool:
        endpoints = c.network.endpoints
        names = {e.network for e in endpoints} | {e.requested.network for e in endpoints}
        names.add(c.spec.namespaces.network or "bridge")
        return any(value in names or any(e.network_id.startswith(value) for e in endpoints) for value in values)

    return joined


def _ports(values: tuple[str, ...], *, published: bool) -> Predicate:
    wanted = {(port, protocol) for value in values for port, protocol in _port_range(value)}

    def matches(c: Container) -> bool:
        if published:  # the host's side, of those that have it now
            ports = {(p.host_port, p.protocol) for p in c.network.ports if p.host_port and c.state.status in UP}
        else:
            ports = {(p.container_port, p.protocol) for p in c.network.ports}
            ports |= {(b.container_port, b.protocol) for b in c.spec.ports}
            ports |= {pair for exposed in c.spec.exposed_ports for pair in _port_range(exposed)}
        return bool(ports & wanted)

    return matches


def _port_range(text: str) -> list[tuple[int, str]]:
    """Return the ports in ``80``, ``80/udp`` or ``80-90/tcp``."""
    numbers, _, protocol = text.partition("/")
    first, _, last = numbers.partition("-")
    try:
        low, high = int(first), int(last or first)
    except ValueError:
        raise InvalidArgumentError(f"invalid port specification: '{text}'") from None
    if not 0 < low <= high <= 65535:
        raise InvalidArgumentError(f"invalid port specification: '{text}'")
    return [(port, protocol or "tcp") for port in range(low, high + 1)]


def _health(values: tuple[str, ...]) -> Predicate:
    for value in values:
        if value not in ("none", "starting", "healthy", "unhealthy"):
            raise InvalidArgumentError(f"invalid filter 'health={value}'")
    return lambda c: (c.state.health.status.value if c.state.health else "none") in values


def _is_task(values: tuple[str, ...]) -> Predicate:
    wanted = filter_bool("is-task", values)
    return lambda _: not wanted  # tasks are Swarm's, and there is none


def _until(values: tuple[str, ...]) -> Predicate:
    """``docker container prune --filter until=``: older than a time, or than a duration ago."""
    limit = until_ns({"until": values}, time.time_ns())
    return lambda c: limit is None or to_ns(c.created) < limit


_BY_KEY: Final[Mapping[str, Callable[[tuple[str, ...]], Predicate]]] = {
    "id": _id,
    "name": _name,
    "label": _label,
    "label!": _no_label,
    "status": _status,
    "exited": _exited,
    "ancestor": _ancestor,
    "volume": _volume,
    "network": _network,
    "publish": lambda values: _ports(values, published=True),
    "expose": lambda values: _ports(values, published=False),
    "health": _health,
    "is-task": _is_task,
    "isolation": lambda _: lambda _: True,  # Windows'
    "until": _until,
}
