"""The variables that a legacy link puts into a container: addresses, ports and variables of the one it is linked to.

Reference: Docker's documentation, "Legacy container links", "Environment variables".
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sampan.errors import ConflictError, NotFoundError
from sampan.resource.container import Container, Status
from sampan.resource.container_spec import ContainerSpec, Endpoint

# What images set for themselves and says nothing to others.
_OWN: Final = frozenset(("HOME", "PATH"))

_DEFAULT: Final = ("", "default", "bridge")
_RUNNING: Final = frozenset({Status.RUNNING, Status.PAUSED})

Find = Callable[[str], Container]  # by ID or name; raises NotFoundError


def own_links(spec: ContainerSpec) -> Iterator[tuple[str, str]]:
    """Yield whom a container on the default network is linked to, and as what; on others names are just resolved."""
    if spec.namespaces.network in _DEFAULT:
        for endpoint in spec.endpoints:
            for link in endpoint.links:
                name, _, alias = link.partition(":")
                name = name.lstrip("/")
                yield name, alias.rpartition("/")[2] or name


def with_ids(spec: ContainerSpec, find: Find) -> ContainerSpec:
    """Return ``spec`` with its links by ID, which stay right when the other container is renamed.

    Raises:
        NotFoundError: there is no such container.
    """
    links = tuple(f"{find(name).id}:{alias}" for name, alias in own_links(spec))
    if not links:
        return spec
    first, *rest = spec.endpoints
    return replace(spec, endpoints=(replace(first, links=links), *(replace(one, links=()) for one in rest)))


def has_link(spec: ContainerSpec, alias: str) -> bool:
    """Say whether a container is linked to another as ``alias``."""
    return any(known == alias for _, known in own_links(spec))


def without_link(endpoint: Endpoint, alias: str) -> Endpoint:
    """Return ``endpoint`` without its links of that alias."""
    return replace(endpoint, links=tuple(link for link in endpoint.links if link.rpartition(":")[2] != alias))


def shown_links(container: Container, find: Find) -> tuple[str, ...]:
    """Return the links as Docker shows them, ``/db:/web/alias``, without those whose container is gone."""
    found: list[str] = []
    for name, alias in own_links(container.spec):
        with contextlib.suppress(NotFoundError):
            found.append(f"/{find(name).name}:/{container.name}/{alias}")
    return tuple(found)


def link_names(containers: Iterable[Container]) -> Mapping[str, tuple[str, ...]]:
    """Return, by the ID of whom links lead to, the names that others have for it: ``/web/alias``."""
    names: dict[str, list[str]] = {}
    for container in containers:
        if any(endpoint.links for endpoint in container.spec.endpoints):
            for target, alias in own_links(container.spec):
                names.setdefault(target, []).append(f"/{container.name}/{alias}")
    return {target: tuple(sorted(found)) for target, found in names.items()}


def link_variables(container: Container, find: Find) -> tuple[str, ...]:
    """Return ``NAME=value`` of every link.

    Raises:
        NotFoundError: a linked container is gone.
        ConflictError: it does not run; in Docker's words.
    """
    found: list[str] = []
    for name, alias in own_links(container.spec):
        other = find(name)
        if other.state.status not in _RUNNING:
            raise ConflictError(f"Cannot link to a non running container: /{other.name} AS /{container.name}/{alias}")
        found += _of_link(f"/{container.name}/{alias}", alias, other)
    return tuple(found)


def present_variables(container: Container, find: Find) -> tuple[str, ...]:
    """As ``link_variables``, for a container that runs: without those of others that do not run any more."""
    try:
        return link_variables(container, find)
    except (NotFoundError, ConflictError):
        return ()


def _of_link(name: str, alias: str, other: Container) -> list[str]:
    prefix = alias.upper().replace("-", "_")
    address = next((one.ipv4_address for one in other.network.endpoints if one.ipv4_address), "")
    ports = _ports(other.spec.exposed_ports)
    found = []
    if ports:
        # The lowest, as the one that it is known by.
        port, protocol = min(ports)
        found.append(f"{prefix}_PORT={protocol}://{address}:{port}")
    for first, last, protocol in _ranges(ports):
        if last > first:
            begin = f"{prefix}_PORT_{first}_{protocol.upper()}"
            found += [
                f"{begin}_START={protocol}://{address}:{first}",
                f"{begin}_ADDR={address}",
                f"{begin}_PROTO={protocol}",
                f"{begin}_PORT_START={first}",
                f"{begin}_END={protocol}://{address}:{last}",
                f"{begin}_PORT_END={last}",
            ]
    for port, protocol in ports:
        begin = f"{prefix}_PORT_{port}_{protocol.upper()}"
        found += [
            f"{begin}={protocol}://{address}:{port}",
            f"{begin}_ADDR={address}",
            f"{begin}_PORT={port}",
            f"{begin}_PROTO={protocol}",
        ]
    found.append(f"{prefix}_NAME={name}")
    for entry in other.spec.process.env:
        variable, equals, value = entry.partition("=")
        if equals and variable not in _OWN:
            found.append(f"{prefix}_ENV_{variable}={value}")
    return found


def _ports(exposed: Sequence[str]) -> list[tuple[int, str]]:
    """Return ports with protocols, TCP's first of equals."""
    parsed = ((int(port), protocol or "tcp") for port, _, protocol in (text.partition("/") for text in exposed))
    return sorted(parsed, key=lambda each: (each[0], each[1] != "tcp", each[1]))


def _ranges(ports: Sequence[tuple[int, str]]) -> list[tuple[int, int, str]]:
    """Return first port, last port and protocol of what follows on one another."""
    ranges: list[tuple[int, int, str]] = []
    for port, protocol in ports:
        if ranges and ranges[-1][1] + 1 == port and ranges[-1][2] == protocol:
            ranges[-1] = (ranges[-1][0], port, protocol)
        else:
            ranges.append((port, port, protocol))
    return ranges
