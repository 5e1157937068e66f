"""``--publish`` and ``--expose``."""

import ipaddress
import re
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import PortBinding

_PROTOCOLS: Final = ("tcp", "udp", "sctp")
_PORT: Final = re.compile(r"\d{1,5}")
_HIGHEST: Final = 65535


def parse_publish(text: str) -> list[PortBinding]:
    """Parse ``[[ip:]hostPort:]containerPort[/protocol]``, where ports may be ranges.

    A range of the host's for a single container port means any free port of it; otherwise both ranges must be of one
    length and are paired.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    if "=" in text:
        text = _long_form(text)
    address, host, container = _split(text)
    container, protocol = _protocol(container)
    if not container:
        raise InvalidArgumentError(f"no port specified: {text}<empty>")
    first, last = _range(container, "containerPort")
    if not host:
        return [PortBinding(port, protocol, address) for port in range(first, last + 1)]
    host_first, host_last = _range(host, "hostPort")
    if host_last - host_first != last - first:
        if first != last:
            raise InvalidArgumentError(f"invalid ranges specified for container and host Ports: {container} and {host}")
        return [PortBinding(first, protocol, address, host_first, host_last)]
    return [
        PortBinding(port, protocol, address, host_first + offset if host_first else 0)
        for offset, port in enumerate(range(first, last + 1))
    ]


def parse_expose(text: str) -> list[str]:
    """Parse ``8080``, ``8000-8010/udp`` into ports as an image's config writes them.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    if ":" in text:
        raise InvalidArgumentError(f"invalid port format for --expose: {text}")
    ports, protocol = _protocol(text)
    try:
        first, last = _range(ports, "port")
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"invalid range format for --expose: {ports}, error: {error}") from None
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _long_form(text: str) -> str:
    """Turn ``published=8080,target=80,protocol=tcp`` into the short form."""
    fields = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or key not in ("published", "target", "protocol", "mode"):
            raise InvalidArgumentError(f"invalid publish opts format (should be name=value but got '{part}')")
        fields[key] = value
    published = f"{fields['published']}:" if fields.get("published") else ""
    return f"{published}{fields.get('target', '')}/{fields.get('protocol', 'tcp')}"


def _split(text: str) -> tuple[str, str, str]:
    """Return address, host port and container port; the first two may be empty."""
    address, rest = "", text
    if text.startswith("["):
        address, closed, rest = text[1:].partition("]")
        if not closed or not rest.startswith(":"):
            raise InvalidArgumentError(f"invalid IP address: {text}")
        rest = rest[1:]
        host, colon, container = rest.partition(":")
        if not colon:
            raise InvalidArgumentError(f"invalid publish: {text}: expected [ip]:hostPort:containerPort")
    else:
        parts = rest.rsplit(":", 2)
        container = parts[-1]
        host = parts[-2] if len(parts) > 1 else ""
        address = parts[-3] if len(parts) > 2 else ""
    if address:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidArgumentError(f"invalid IP address: {address}") from None
    return address, host, container


def _protocol(text: str) -> tuple[str, str]:
    ports, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise InvalidArgumentError(f"invalid proto: {protocol}")
    return ports, protocol


def _range(text: str, what: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    bounds = [first, last if dash else first]
    if not all(_PORT.fullmatch(bound) and int(bound) <= _HIGHEST for bound in bounds) or int(bounds[0]) > int(
        bounds[1]
    ):
        raise InvalidArgumentError(f"invalid {what}: {text}")
    return int(bounds[0]), int(bounds[1])
