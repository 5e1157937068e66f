"""Published ports as ``sampan ps`` shows them."""

from collections.abc import Iterable

from sampan.resource.container import PublishedPort


def shown_ports(ports: Iterable[PublishedPort]) -> str:
    """Return ``443/tcp, 0.0.0.0:8080->80/tcp`` as docker's client does.

    Ports that are the same on both sides, and those that are not published, come first, neighbours as one range.
    """
    alike: dict[tuple[str, str], list[list[int]]] = {}  # by address and protocol: the first and last of each range
    closed, mapped = [], []
    for port in sorted(ports, key=lambda port: (port.container_port, _address(port), port.host_port, port.protocol)):
        address, number = _address(port), port.container_port
        if address and port.host_port != number:
            mapped.append(f"{host_address(address)}:{port.host_port}->{number}/{port.protocol}")
            continue
        runs = alike.setdefault((address, port.protocol), [])
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
            continue
        if runs:
            closed.append(_shown(address, port.protocol, *runs[-1]))
        runs.append([number, number])
    last = [_shown(address, protocol, *runs[-1]) for (address, protocol), runs in alike.items()]
    return ", ".join([*closed, *last, *mapped])


def _address(port: PublishedPort) -> str:
    return (port.host_ip or "0.0.0.0") if port.host_port else ""


def _shown(address: str, protocol: str, first: int, last: int) -> str:
    span = str(first) if first == last else f"{first}-{last}"
    return f"{host_address(address)}:{span}->{span}/{protocol}" if address else f"{span}/{protocol}"


def host_address(address: str) -> str:
    """Return an address as it stands before a colon."""
    address = address or "0.0.0.0"
    return f"[{address}]" if ":" in address else address
