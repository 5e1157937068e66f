"""Make the kernel forget datagrams' way through a published port.

Conntrack decides once per flow how to translate it, and a client that keeps sending from one port keeps its flow alive.
So a flow that began before the port was published would never reach the container, and one that began with an earlier
container would go on to its address. TCP has no such trouble: its connections end.

Reference: linux/netfilter/nfnetlink_conntrack.h.
"""

import errno
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from runtimed.network.kernel.netlink import NESTED, NLM_F_ACK, NLM_F_DUMP, Netlink, attribute, attributes
from runtimed.network.kernel.rules import ANY, ANY6

NETLINK_NETFILTER: Final = 12
CT_GET: Final = 1 << 8 | 1
CT_DELETE: Final = 1 << 8 | 2
CTA_TUPLE_ORIG: Final = 1
CTA_ZONE: Final = 18
CTA_TUPLE_IP: Final = 1
CTA_TUPLE_PROTO: Final = 2
CTA_IP_V4_DST: Final = 2
CTA_IP_V6_DST: Final = 4
CTA_PROTO_NUM: Final = 1
CTA_PROTO_DST_PORT: Final = 3

# struct nfgenmsg: family, version, resource
_SUBJECTS: Final = {4: struct.pack("!BBH", socket.AF_INET, 0, 0), 6: struct.pack("!BBH", socket.AF_INET6, 0, 0)}


@dataclass(frozen=True, slots=True)
class Flow:
    """What conntrack knows of a flow, as far as it matters here."""

    protocol: int
    destination: IPv4Address | IPv6Address
    port: int
    handle: bytes  # attributes that name it in a request


def forget_udp(ports: Collection[tuple[IPv4Address | IPv6Address, int]]) -> None:
    """Drop every UDP flow to one of these addresses and ports of the host; 0.0.0.0 and :: are any. Blocks.

    Raises:
        OSError: the kernel does not let us.
    """
    with Netlink(NETLINK_NETFILTER) as sock:
        for version in {address.version for address, _ in ports}:
            subject = _SUBJECTS[version]
            for entry in sock.request(CT_GET, NLM_F_DUMP, subject, "connections"):
                flow = parse(entry[len(subject) :])
                if flow is not None and flow.protocol == socket.IPPROTO_UDP and _is_to(flow, ports):
                    _forget(sock, subject, flow)


def _forget(sock: Netlink, subject: bytes, flow: Flow) -> None:
    try:
        sock.request(CT_DELETE, NLM_F_ACK, subject + flow.handle, "connection")
    except OSError as error:
        if error.errno != errno.ENOENT:  # it ended by itself
            raise


def parse(body: bytes) -> Flow | None:
    """Read one entry of a dump; None if it is not about ports."""
    facts = dict(attributes(body))
    original = facts.get(CTA_TUPLE_ORIG, b"")
    parts = dict(attributes(original))
    addresses = dict(attributes(parts.get(CTA_TUPLE_IP, b"")))
    protocol = dict(attributes(parts.get(CTA_TUPLE_PROTO, b"")))
    destination = addresses.get(CTA_IP_V4_DST) or addresses.get(CTA_IP_V6_DST)
    if destination is None or CTA_PROTO_DST_PORT not in protocol or CTA_PROTO_NUM not in protocol:
        return None
    handle = attribute(CTA_TUPLE_ORIG | NESTED, original)
    if CTA_ZONE in facts:
        handle += attribute(CTA_ZONE, facts[CTA_ZONE])
    return Flow(
        protocol=protocol[CTA_PROTO_NUM][0],
        destination=ip_address(destination),
        port=int.from_bytes(protocol[CTA_PROTO_DST_PORT], "big"),
        handle=handle,
    )


def _is_to(flow: Flow, ports: Collection[tuple[IPv4Address | IPv6Address, int]]) -> bool:
    anywhere = ANY if flow.destination.version == 4 else ANY6
    return (flow.destination, flow.port) in ports or (anywhere, flow.port) in ports
