"""Ports in Docker's JSON: ``{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`` and the like."""

import re
from collections.abc import Iterable
from typing import Final

from dockerapi.http.decode import shown
from dockerapi.http.fields import Fields
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import PortBinding

_NUMBER: Final = re.compile(r"[0-9]{1,5}")
_PORT: Final = re.compile(r"(\d{1,5})(?:/(\w+))?", re.ASCII)
_HOST_PORT: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)
_PROTOCOLS: Final = frozenset({"tcp", "udp", "sctp"})


def parse_port(text: str) -> tuple[int, str]:
    """Parse ``80/tcp`` or ``80``.

    Raises:
        InvalidArgumentError: not a port, or an unknown protocol.
    """
    match = _PORT.fullmatch(text)
    protocol = (match[2] or "tcp").lower() if match else ""
    if match is None or not 0 < int(match[1]) < 1 << 16 or protocol not in _PROTOCOLS:
        raise InvalidArgumentError(f"invalid port specification: {shown(text)}")
    return int(match[1]), protocol


def exposed(texts: Iterable[str]) -> list[str]:
    """Return the keys of ``ExposedPorts`` in their full form; a range such as ``80-82/tcp`` becomes its ports."""
    ports: list[str] = []
    for text in texts:
        head, slash, protocol = text.partition("/")
        low, dash, high = head.partition("-")
        if dash and _NUMBER.fullmatch(low) and _NUMBER.fullmatch(high) and int(low) <= int(high) < 1 << 16:
            texts_of_range = [f"{port}{slash}{protocol}" for port in range(int(low), int(high) + 1)]
        else:
            texts_of_range = [text]
        ports += ["{}/{}".format(*parse_port(one)) for one in texts_of_range]
    return ports


def bindings(host: Fields) -> list[PortBinding]:
    """Return ``PortBindings``. A port with an empty list gets one free host port, as with Docker."""
    result = []
    for key, rows in host.lists("PortBindings"):
        port, protocol = parse_port(key)
        for row in rows or [Fields({}, "")]:
            first, last = _host_ports(row.text("HostPort"))
            result.append(
                PortBinding(
                    container_port=port,
                    protocol=protocol,
                    host_ip=row.text("HostIp"),
                    host_port=first,
                    host_port_end=last,
                )
            )
    return result


def _host_ports(text: str) -> tuple[int, int]:
    if text in ("", "0"):
        return 0, 0
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(f"invalid port specification: {shown(text)}")
    first, last = int(match[1]), int(match[2] or 0)
    if not first < 1 << 16 or not last < 1 << 16 or (last and last < first):
        raise InvalidArgumentError(f"invalid port specification: {shown(text)}")
    return first, last if last != first else 0
