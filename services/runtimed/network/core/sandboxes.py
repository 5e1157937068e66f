"""Records of running containers' networks: one small file each in the run root; and what the nftables table owes them.

Written before the kernel is touched and removed after it was cleaned, so that after a crash at any moment there is a
file for everything that may be left. They need no database: a reboot takes the interfaces and, on a tmpfs, the files
with them, and nothing has to be synced to a disk while a container starts.
"""

import dataclasses
import json
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from runtimed.network.core.model import (
    BRIDGE,
    OPTION_HOST_IPV4,
    OPTION_HOST_IPV6,
    OPTION_ICC,
    OPTION_MASQUERADE,
    OPTION_TRUSTED,
    Attached,
    Network,
    Sandbox,
)
from runtimed.network.kernel.rules import Bridge, Forwarding
from runtimed.network.planning import options
from sampan.resource.container import EndpointState, PublishedPort
from sampan.resource.container_spec import Endpoint


def bridges(networks: Iterable[Network]) -> tuple[Bridge, ...]:
    """Return the bridges of those networks that have one."""
    return tuple(
        Bridge(
            name=network.bridge,
            subnets=tuple(pool.subnet for pool in network.pools),
            internal=network.internal,
            icc=network.flag(OPTION_ICC, default=True),
            masquerade=network.flag(OPTION_MASQUERADE, default=True),
            modes={version: network.gateway_mode(version) for version in (4, 6)},
            trusted=options.trusted(network.options.get(OPTION_TRUSTED, "")),
            sources={4: network.options.get(OPTION_HOST_IPV4, ""), 6: network.options.get(OPTION_HOST_IPV6, "")},
        )
        for network in networks
        if network.driver == BRIDGE and not network.config_only
    )


def forwardings(sandboxes: Iterable[Sandbox]) -> tuple[Forwarding, ...]:
    """Return every published port of those sandboxes that the kernel leads to an address of its own family."""
    return tuple(
        Forwarding(port.protocol, host_ip, port.host_port, ip_address(target.address(version)), port.container_port)
        for sandbox in sandboxes
        for port in sandbox.ports
        for host_ip in (ip_address(port.host_ip),)
        for version in (host_ip.version,)
        for target in (sandbox.gateway(version),)
        if target is not None and target.address(version)
    )


def publishing(networks: Iterable[Network], sandboxes: Iterable[Sandbox]) -> frozenset[str]:
    """Return the bridges that published ports lead to by IPv4."""
    targets = [sandbox.gateway(4) for sandbox in sandboxes if sandbox.ports]
    leading = {target.state.network_id for target in targets if target is not None}
    return frozenset(network.bridge for network in networks if network.driver == BRIDGE and network.id in leading)


class SandboxFiles:
    """The directory of records, and of namespaces beside them."""

    def __init__(self, directory: Path) -> None:
        """Use ``<directory>/sandboxes`` and ``<directory>/netns``; ``create`` makes them."""
        self._records = directory / "sandboxes"
        self._namespaces = directory / "netns"

    def create(self) -> None:
        """Make the directories."""
        for path in (self._records, self._namespaces):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def namespace(self, container_id: str) -> Path:
        """Where the container's network namespace is."""
        return self._namespaces / container_id

    def namespaces(self) -> list[str]:
        """Return the container IDs for which there is a namespace file."""
        return [path.name for path in self._namespaces.iterdir()]

    def write(self, sandbox: Sandbox) -> None:
        """Record a sandbox, as a whole or not at all."""
        path = self._records / sandbox.container_id
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(dataclasses.asdict(sandbox)))
        temporary.rename(path)

    def remove(self, container_id: str) -> None:
        """Forget one; no error if there is none."""
        (self._records / container_id).unlink(missing_ok=True)

    def all(self) -> dict[str, Sandbox | None]:
        """Return every record by container ID; None for one that cannot be read."""
        found: dict[str, Sandbox | None] = {}
        for path in self._records.iterdir():
            if path.suffix == ".new":
                path.unlink()
                continue
            try:
                found[path.name] = _sandbox(json.loads(path.read_text()))
            except (ValueError, KeyError, TypeError):
                found[path.name] = None
        return found


def _sandbox(facts: dict[str, Any]) -> Sandbox:
    endpoints = tuple(_attached(entry) for entry in facts.pop("endpoints"))
    ports = tuple(PublishedPort(**entry) for entry in facts.pop("ports"))
    return Sandbox(endpoints=endpoints, ports=ports, **facts)


def _attached(facts: dict[str, Any]) -> Attached:
    state = facts["state"]
    requested = Endpoint(**_tuples(state.pop("requested")))
    facts["state"] = EndpointState(requested=requested, **_tuples(state))
    return Attached(**facts)


def _tuples(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
