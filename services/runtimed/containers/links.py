"""The variables that a legacy link puts into a container: addresses, ports and variables of the one it is linked to.

Reference: Docker's documentation, "Legacy container links", "Environment variables".
"""

from collections.abc import Callable, Sequence
from typing import Final

from sampan.resource.container import Container

# What images set for themselves and says nothing to others.
_OWN: Final = frozenset(("HOME", "PATH"))

_DEFAULT: Final = ("", "default", "bridge")


def link_variables(container: Container, find: Callable[[str], Container]) -> tuple[str, ...]:
    """Return ``NAME=value`` of every link on the default network; on others names are resolved and nothing is set.

    Raises:
        NotFoundError: a linked container is gone.
    """
    if container.spec.namespaces.network not in _DEFAULT:
        return ()
    found: list[str] = []
    for endpoint in container.spec.endpoints:
        for link in endpoint.links:
            name, _, alias = link.partition(":")
            name = name.lstrip("/")
            alias = alias.rpartition("/")[2] or name
            found += _of_link(f"/{container.name}/{alias}", alias, find(name))
    return tuple(found)


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
