"""Ports: ``80/tcp``, ``8000-8010/udp``, and where on the host they are published."""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import PortBinding

PROTOCOLS: Final = ("tcp", "udp", "sctp")
_RANGE: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_HIGHEST: Final = 65535
_LONGEST: Final = 100  # of a text that is quoted


def parse_port(text: str) -> tuple[int, str]:
    """Parse ``80/tcp`` or ``80``, a port of a container.

    Raises:
        InvalidArgumentError: not one port, or an unknown protocol.
    """
    ports, protocol = parse_ports(text)
    if len(ports) != 1:
        raise _invalid(text)
    return ports[0], protocol


def parse_ports(text: str) -> tuple[range, str]:
    """Parse ``80-82/tcp``, ports of a container; one alone is a range of one.

    Raises:
        InvalidArgumentError: no ports, or an unknown protocol.
    """
    numbers, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidArgumentError(f"invalid proto: {protocol[:_LONGEST]}")
    first, last = _range(numbers)
    if not first:
        raise _invalid(numbers)
    return range(first, last + 1), protocol


def parse_exposed(texts: Iterable[str]) -> list[str]:
    """Return ports in the form that an image's config has; a range such as ``80-82/tcp`` becomes its ports.

    Raises:
        InvalidArgumentError: as ``parse_ports``.
    """
    result = []
    for text in texts:
        ports, protocol = parse_ports(text)
        result += [f"{port}/{protocol}" for port in ports]
    return result


def parse_host_ports(text: str) -> tuple[int, int]:
    """Parse ``8080`` or ``8000-8010``, any free one of which is meant; empty and 0 are any free one of all, ``(0, 0)``.

    Raises:
        InvalidArgumentError: neither.
    """
    return _range(text) if text else (0, 0)


def published(port: int, protocol: str, host_ip: str, host_ports: tuple[int, int]) -> PortBinding:
    """Return the binding of one port to any free one of ``host_ports``.

    Raises:
        InvalidArgumentError: ``host_ip`` is no address.
    """
    if host_ip:
        try:
            ipaddress.ip_address(host_ip)
        except ValueError:
            raise InvalidArgumentError(f"invalid IP address: {host_ip[:_LONGEST]}") from None
    first, last = host_ports
    return PortBinding(port, protocol, host_ip, first, last if last != first else 0)


def _range(text: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise _invalid(text)
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last <= _HIGHEST:
        raise _invalid(text)
    return first, last


def _invalid(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(f'invalid port specification: "{text[:_LONGEST]}"')
