"""Compose a container's hosts, hostname and resolv.conf from its spec, its sandbox and the host's own files."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtimed.network.core import files
from runtimed.network.core.model import Attached, Sandbox
from runtimed.network.planning.plan import network_mode
from sampan.docker.options.hosts import HOST_GATEWAY, parse_extra_host
from sampan.resource.container import Container
from sampan.resource.container_spec import Dns

# systemd-resolved's stub listens on the host's loopback; this file names the servers behind it.
_BEHIND_THE_STUB: Final = "run/systemd/resolve/resolv.conf"


@dataclass(frozen=True, slots=True)
class HostFiles:
    """The machine's own files, read anew each time: they change with the networks it is on."""

    root: Path = Path("/")

    def resolv_conf(self) -> bytes:
        """The file as it is."""
        return self._read("etc/resolv.conf")

    def resolv(self) -> files.Resolv:
        """What it says, with the servers that are meant if it names only systemd-resolved's stub."""
        direct = files.parse_resolv(self.resolv_conf().decode(errors="replace"))
        if direct.servers and not files.reachable_servers(direct.servers):
            behind = files.parse_resolv(self._read(_BEHIND_THE_STUB).decode(errors="replace"))
            return behind if behind.servers else direct
        return direct

    def hosts(self) -> bytes:
        """The file as it is."""
        return self._read("etc/hosts")

    def _read(self, name: str) -> bytes:
        with contextlib.suppress(OSError):
            return (self.root / name).read_bytes()
        return b""


def compose(
    container: Container,
    sandbox: Sandbox,
    host: HostFiles,
    *,
    host_gateways: Sequence[str],
    others: Iterable[Sandbox],
) -> Mapping[str, bytes]:
    """Return the three files by name. Reads the host's files: call it in a thread.

    Args:
        container: whose spec counts.
        sandbox: its own, or the one that it shares.
        host: where the host's files are.
        host_gateways: what the name host-gateway stands for.
        others: running containers, for links.

    A link to a container that does not run at present leads nowhere: a start has looked at them before.
    """
    spec = container.spec
    asked = [parse_extra_host(entry) for entry in spec.extra_hosts]
    extra = [
        (address, alias) for alias, given in asked for address in (host_gateways if given == HOST_GATEWAY else (given,))
    ]
    name = sandbox.hostname
    if not sandbox.owns_namespace:
        lines = "".join(f"{address}\t{alias}\n" for address, alias in extra).encode()
        copied = host.resolv_conf() if spec.dns == Dns() else files.resolv_conf(host.resolv(), spec.dns, embedded=False)
        return {"hosts": host.hosts() + lines, "hostname": f"{name}\n".encode(), "resolv.conf": copied}
    extra += _linked(sandbox, tuple(others))
    both = [(attached.state.ipv4_address, attached.state.ipv6_address) for attached in sandbox.endpoints]
    own = [address for addresses in both for address in addresses if address]
    embedded = any(attached.state.dns_names for attached in sandbox.endpoints)
    shares = network_mode(spec).startswith("container:")
    return {
        "hosts": files.hosts(extra, own, name, "" if shares else spec.domainname),
        "hostname": f"{name}\n".encode(),
        "resolv.conf": files.resolv_conf(
            host.resolv(), spec.dns, embedded=embedded, ipv6=bool(sandbox.gateway6_endpoint)
        ),
    }


def linked_to(target: Sandbox, others: Iterable[Sandbox]) -> Mapping[str, Sequence[tuple[str, str]]]:
    """Return the hosts entries of those containers that are linked to ``target`` on the default network, by ID."""
    found: dict[str, list[tuple[str, str]]] = {}
    for other in others:
        for network_id, name, alias in _links(other):
            place = target.on(network_id)
            if place is not None and _is_called(target, name):
                found.setdefault(other.container_id, []).extend(_entries(target, place, alias))
    return found


def _linked(sandbox: Sandbox, others: tuple[Sandbox, ...]) -> list[tuple[str, str]]:
    """Return the hosts entries of a container's own links."""
    lines = []
    for network_id, name, alias in _links(sandbox):
        other = next((other for other in others if _is_called(other, name)), None)
        place = other.on(network_id) if other else None
        if other is not None and place is not None:
            lines += _entries(other, place, alias)
    return lines


def _links(sandbox: Sandbox) -> Iterator[tuple[str, str, str]]:
    """Yield network, container and alias of links on the default network; on others the resolver answers for them."""
    for attached in sandbox.endpoints:
        for link in () if attached.state.dns_names else attached.state.requested.links:
            target, _, alias = link.partition(":")
            target = target.lstrip("/")
            yield attached.state.network_id, target, alias.rpartition("/")[2] or target


def _is_called(sandbox: Sandbox, name: str) -> bool:
    return name == sandbox.container_name or sandbox.container_id.startswith(name)


def _entries(target: Sandbox, place: Attached, alias: str) -> list[tuple[str, str]]:
    names = " ".join(dict.fromkeys((alias, target.hostname, target.container_name)))
    return [(address, names) for address in (place.state.ipv4_address, place.state.ipv6_address) if address]
