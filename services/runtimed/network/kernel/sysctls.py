"""Kernel settings of one interface, as endpoints ask for them, and what a neighbourhood is told of a new address."""

import re
import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final

from runtimed.network.core.model import OPTION_ENDPOINT_SYSCTLS
from runtimed.network.kernel.rtnetlink import mac_bytes
from sampan.errors import InvalidArgumentError, StartError

# docker writes in small letters what `run --network name=…,driver-opt=…` says.
_SETTING: Final = re.compile(r"net\.(ipv4|ipv6|mpls)\.(conf|neigh)\.(?:IFNAME|ifname)\.([a-z0-9_]+)=([^,/]*)")
_NEIGHBOUR_ADVERTISEMENT: Final = 136
_OVERRIDE: Final = 0x20000000  # whatever they remember of that address
_TARGET_LINK_LAYER_ADDRESS: Final = 2
_ALL_NODES: Final = "ff02::1"
_HOPS: Final = 255  # or nobody believes it: RFC 4861, section 7.1.2


def of_endpoint(options: Mapping[str, str], interface: str) -> Iterator[tuple[str, str]]:
    """Yield what an endpoint's options ask for, as path below /proc/sys/net and value.

    Raises:
        InvalidArgumentError: it is no setting of one interface; Docker's form is ``net.ipv4.conf.IFNAME.name=value``.
    """
    text = options.get(OPTION_ENDPOINT_SYSCTLS, "")
    for entry in text.split(",") if text else ():
        found = _SETTING.fullmatch(entry.strip())
        if found is None:
            raise InvalidArgumentError(
                f"invalid endpoint settings:\nunrecognised network interface sysctl {entry.strip()!r}: "
                "expected net.X.Y.IFNAME.Z=value, with X of ipv4, ipv6, mpls and Y of conf, neigh"
            )
        family, kind, name, value = found.groups()
        yield f"{family}/{kind}/{interface}/{name}", value


def write(root: Path, setting: str, value: str) -> None:
    """Set it. Raises StartError."""
    try:
        (root / setting).write_text(value)
    except OSError as error:
        raise StartError(f"failed to set sysctl net/{setting} to {value!r}: {error.strerror}") from error


def announce(index: int, address: str, mac: str) -> None:
    """Tell the neighbours of link ``index`` who has ``address`` now: another container may have had it a moment ago."""
    packet = struct.pack("!BBHI", _NEIGHBOUR_ADVERTISEMENT, 0, 0, _OVERRIDE) + IPv6Address(address).packed
    packet += struct.pack("!BB", _TARGET_LINK_LAYER_ADDRESS, 1) + mac_bytes(mac)
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMPV6) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            sock.sendto(packet, (_ALL_NODES, 0, 0, index))
    except OSError:
        return  # they find out by asking, some seconds later
