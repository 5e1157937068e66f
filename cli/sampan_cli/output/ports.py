"""Published ports as ``sampan ps`` shows them."""

from collections.abc import Iterable

from sampan.api.runtime.v1 import containers_pb2 as pb


def shown_ports(ports: Iterable[pb.PublishedPort]) -> str:
    """Return ``0.0.0.0:8080-8081->80-81/tcp, 443/tcp``: neighbours are one range."""
    ordered = sorted(ports, key=lambda port: (port.host_ip, port.protocol, port.container_port, port.host_port))
    runs: list[list[pb.PublishedPort]] = []
    for port in ordered:
        if runs and _follows(runs[-1][-1], port):
            runs[-1].append(port)
        else:
            runs.append([port])
    # Published ones first, as they are what people look for.
    runs.sort(key=lambda run: (not run[0].host_port, run[0].container_port, run[0].protocol, run[0].host_ip))
    return ", ".join(_shown(run) for run in runs)


def _follows(before: pb.PublishedPort, port: pb.PublishedPort) -> bool:
    if (before.host_ip, before.protocol) != (port.host_ip, port.protocol):
        return False
    if port.container_port != before.container_port + 1:
        return False
    if not before.host_port or not port.host_port:
        return before.host_port == port.host_port
    return port.host_port == before.host_port + 1


def _shown(run: list[pb.PublishedPort]) -> str:
    first, last = run[0], run[-1]
    container = f"{_span(first.container_port, last.container_port)}/{first.protocol}"
    if not first.host_port:
        return container
    return f"{host_address(first.host_ip)}:{_span(first.host_port, last.host_port)}->{container}"


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def host_address(address: str) -> str:
    """Return an address as it stands before a colon."""
    address = address or "0.0.0.0"
    return f"[{address}]" if ":" in address else address
