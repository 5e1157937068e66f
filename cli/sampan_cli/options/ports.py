"""``--publish``."""

from sampan.docker.options.ports import parse_host_ports, parse_ports, published
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import PortBinding


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
    if not container.partition("/")[0]:
        raise InvalidArgumentError(f"no port specified: {text}<empty>")
    ports, protocol = parse_ports(container)
    first, last = parse_host_ports(host)
    if last - first == len(ports) - 1 or not host:
        return [
            published(port, protocol, address, (first + offset, first + offset) if first else (0, 0))
            for offset, port in enumerate(ports)
        ]
    if len(ports) > 1:
        raise InvalidArgumentError(f"invalid ranges specified for container and host Ports: {container} and {host}")
    return [published(ports[0], protocol, address, (first, last))]


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
    return address, host, container
