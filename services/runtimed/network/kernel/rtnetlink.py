"""Links, addresses, routes and forwarding entries of the calling thread's network namespace, over rtnetlink(7).

Only the dozen requests that container networking needs, written out: a general netlink library costs 12 MB of memory
and 120 ms of start-up, which a daemon that is at rest most of the time should not pay.

Reference: rtnetlink(7), linux/if_link.h, linux/rtnetlink.h.
"""

import errno
import secrets
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_network
from typing import Final

from runtimed.network.kernel.netlink import (
    NESTED,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    attribute,
    attributes,
)

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26
RTM_NEWNEIGH: Final = 28

IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINK: Final = 5
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_IFALIAS: Final = 20
IFLA_AF_SPEC: Final = 26
IFLA_GROUP: Final = 27
IFLA_NET_NS_FD: Final = 28
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_INFO_SLAVE_KIND: Final = 4
IFLA_INFO_SLAVE_DATA: Final = 5
IFLA_BRPORT_ISOLATED: Final = 33
IFLA_BRPORT_MODE: Final = 4  # "hairpin"
IFLA_INET6_ADDR_GEN_MODE: Final = 8
IN6_ADDR_GEN_MODE_NONE: Final = 1
VETH_INFO_PEER: Final = 1
IFLA_MACVLAN_MODE: Final = 1
IFLA_IPVLAN_MODE: Final = 1
IFLA_IPVLAN_FLAGS: Final = 2
IFLA_VLAN_ID: Final = 1
IFA_F_NODAD: Final = 0x02
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_BROADCAST: Final = 4
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
NDA_LLADDR: Final = 2
NUD_NOARP: Final = 0x40
NTF_MASTER: Final = 0x4
IFF_UP: Final = 0x1
RT_TABLE_MAIN: Final = 254
RTPROT_BOOT: Final = 3
RTN_UNICAST: Final = 1
RT_SCOPE_LINK: Final = 253

IFINFO: Final = struct.Struct("=BxHiII")  # family, device type, index, flags, mask of flags to change
LOOPBACK_INDEX: Final = 1  # lo is the first link of every namespace


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface."""

    index: int
    name: str
    alias: str = ""
    kind: str = ""  # "bridge", "veth", …
    master: int = 0
    group: int = 0


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)


def mac_bytes(mac: str) -> bytes:
    """``02:42:ac:11:00:02`` as six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


class Rtnetlink(Netlink):
    """An rtnetlink socket. Every method raises OSError with the kernel's errno and the operand."""

    def __init__(self) -> None:
        super().__init__(socket.NETLINK_ROUTE)

    def links(self) -> list[Link]:
        """Return every link."""
        answers = self.request(RTM_GETLINK, NLM_F_DUMP, IFINFO.pack(0, 0, 0, 0, 0), "links")
        return [_link(answer) for answer in answers]

    def find(self, name: str) -> Link | None:
        """Return the link of this name."""
        body = IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, _text(name))
        try:
            answers = self.request(RTM_GETLINK, 0, body, name)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return _link(answers[0])

    def add_bridge(self, name: str, mac: str, mtu: int = 0) -> None:
        """Make a bridge. Its address is given, or it would change with the ports that come and go."""
        info = attribute(IFLA_INFO_KIND, b"bridge")
        body = attribute(IFLA_IFNAME, _text(name)) + attribute(IFLA_ADDRESS, mac_bytes(mac))
        if mtu:
            body += attribute(IFLA_MTU, _u32(mtu))
        self._new_link(IFINFO.pack(0, 0, 0, 0, 0) + body + attribute(IFLA_LINKINFO | NESTED, info), name)

    def add_veth(self, name: str, master: int, peer: str, peer_mac: str, netns_fd: int, mtu: int = 0) -> None:
        """Make a pair, both down: ``name``, a port of bridge ``master``, and ``peer`` in the other namespace."""
        size = attribute(IFLA_MTU, _u32(mtu)) if mtu else b""
        other = IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, _text(peer)) + size
        other += attribute(IFLA_ADDRESS, mac_bytes(peer_mac)) + attribute(IFLA_NET_NS_FD, _u32(netns_fd))
        info = attribute(IFLA_INFO_KIND, b"veth")
        info += attribute(IFLA_INFO_DATA | NESTED, attribute(VETH_INFO_PEER | NESTED, other))
        body = IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, _text(name)) + size
        body += attribute(IFLA_MASTER, _u32(master)) + attribute(IFLA_LINKINFO | NESTED, info)
        self._new_link(body, name)

    def add_macvlan(self, name: str, parent: int, mac: str, mode: int, netns_fd: int, mtu: int = 0) -> None:
        """Make an interface in another namespace, down, that shares ``parent`` under a hardware address of its own."""
        data = attribute(IFLA_MACVLAN_MODE, _u32(mode))
        self._new_shared(name, parent, "macvlan", data, netns_fd, attribute(IFLA_ADDRESS, mac_bytes(mac)), mtu)

    def add_ipvlan(self, name: str, parent: int, mode: int, flag: int, netns_fd: int, mtu: int = 0) -> None:
        """Make an interface in another namespace, down, that shares ``parent`` and its hardware address."""
        data = attribute(IFLA_IPVLAN_MODE, struct.pack("=H", mode)) + attribute(
            IFLA_IPVLAN_FLAGS, struct.pack("=H", flag)
        )
        self._new_shared(name, parent, "ipvlan", data, netns_fd, b"", mtu)

    def _new_shared(self, name: str, parent: int, kind: str, data: bytes, netns_fd: int, more: bytes, mtu: int) -> None:
        info = attribute(IFLA_INFO_KIND, kind.encode()) + attribute(IFLA_INFO_DATA | NESTED, data)
        body = IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, _text(name)) + attribute(IFLA_LINK, _u32(parent))
        body += more + (attribute(IFLA_MTU, _u32(mtu)) if mtu else b"")
        body += attribute(IFLA_NET_NS_FD, _u32(netns_fd)) + attribute(IFLA_LINKINFO | NESTED, info)
        self._new_link(body, name)

    def add_dummy(self, name: str) -> None:
        """Make an interface that leads nowhere."""
        info = attribute(IFLA_INFO_KIND, b"dummy")
        body = attribute(IFLA_IFNAME, _text(name)) + attribute(IFLA_LINKINFO | NESTED, info)
        self._new_link(IFINFO.pack(0, 0, 0, 0, 0) + body, name)

    def add_vlan(self, name: str, parent: int, tag: int) -> None:
        """Make an interface for the frames of ``parent`` that have a VLAN's tag."""
        info = attribute(IFLA_INFO_KIND, b"vlan")
        info += attribute(IFLA_INFO_DATA | NESTED, attribute(IFLA_VLAN_ID, struct.pack("=H", tag)))
        body = IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, _text(name)) + attribute(IFLA_LINK, _u32(parent))
        self._new_link(body + attribute(IFLA_LINKINFO | NESTED, info), name)

    def set_up(self, index: int) -> None:
        """Turn a link on."""
        self.request(RTM_NEWLINK, NLM_F_ACK, IFINFO.pack(0, 0, index, IFF_UP, IFF_UP), f"link {index}")

    def forgo_ipv6(self, index: int) -> None:
        """Keep a link that is still down from giving itself an IPv6 address, and sending packets to defend it."""
        mode = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
        body = attribute(IFLA_AF_SPEC | NESTED, attribute(socket.AF_INET6 | NESTED, mode))
        try:
            self.request(RTM_NEWLINK, NLM_F_ACK, IFINFO.pack(0, 0, index, 0, 0) + body, f"link {index}")
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:  # a kernel without IPv6, or a link without
                raise

    def set_hairpin(self, index: int) -> None:
        """Let a bridge send a frame back through the port that it came from."""
        self._set_port(index, IFLA_BRPORT_MODE)

    def isolate(self, index: int) -> None:
        """Keep a bridge from passing frames from this port to another one that is isolated, too."""
        self._set_port(index, IFLA_BRPORT_ISOLATED)

    def _set_port(self, index: int, option: int) -> None:
        info = attribute(IFLA_INFO_SLAVE_KIND, b"bridge")
        info += attribute(IFLA_INFO_SLAVE_DATA | NESTED, attribute(option, b"\1"))
        body = IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_LINKINFO | NESTED, info)
        self.request(RTM_NEWLINK, NLM_F_ACK, body, f"link {index}")

    def set_alias(self, index: int, alias: str) -> None:
        """Give a link a description, which ``ip link`` shows."""
        body = IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_IFALIAS, alias.encode())
        self.request(RTM_NEWLINK, NLM_F_ACK, body, alias)

    def rename(self, index: int, name: str) -> None:
        """Rename a link, which must be down."""
        body = IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_IFNAME, _text(name))
        self.request(RTM_NEWLINK, NLM_F_ACK, body, name)

    def delete(self, name: str) -> bool:
        """Delete a link, with its peer if it is one of a pair; return whether there was one."""
        body = IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, _text(name))
        try:
            self.request(RTM_DELLINK, NLM_F_ACK, body, name)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True

    def delete_together(self, links: Sequence[Link]) -> None:
        """Delete links that are there at once: the kernel waits for all of its processors once, not for each link."""
        others = {link.group for link in self.links()}
        group = next(number for number in iter(lambda: secrets.randbits(31), 0) if number not in others)
        for link in links:
            body = IFINFO.pack(0, 0, link.index, 0, 0) + attribute(IFLA_GROUP, _u32(group))
            self.request(RTM_NEWLINK, NLM_F_ACK, body, link.name)
        body = IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_GROUP, _u32(group))
        self.request(RTM_DELLINK, NLM_F_ACK, body, f"{len(links)} links")

    def add_address(self, index: int, address: IPv4Interface | IPv6Interface) -> None:
        """Give a link an address; no error if it has it. An IPv6 one serves at once: nobody is asked for duplicates."""
        if isinstance(address, IPv4Interface):
            body = struct.pack("=BBBBI", socket.AF_INET, address.network.prefixlen, 0, 0, index)
            body += attribute(IFA_LOCAL, address.packed) + attribute(IFA_ADDRESS, address.packed)
            body += attribute(IFA_BROADCAST, address.network.broadcast_address.packed)
        else:
            body = struct.pack("=BBBBI", socket.AF_INET6, address.network.prefixlen, IFA_F_NODAD, 0, index)
            body += attribute(IFA_LOCAL, address.packed) + attribute(IFA_ADDRESS, address.packed)
        self.request(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, body, str(address))

    def addresses(self) -> list[tuple[int, IPv4Interface | IPv6Interface]]:
        """Return every address with its link's index."""
        body = struct.pack("=BBBBI", socket.AF_UNSPEC, 0, 0, 0, 0)
        found: list[tuple[int, IPv4Interface | IPv6Interface]] = []
        for answer in self.request(RTM_GETADDR, NLM_F_DUMP, body, "addresses"):
            family, prefix, _, _, index = struct.unpack_from("=BBBBI", answer)
            values = dict(attributes(answer[8:]))
            packed = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)
            if packed and family == socket.AF_INET:
                found.append((index, IPv4Interface((packed, prefix))))
            elif packed and family == socket.AF_INET6:
                found.append((index, IPv6Interface((packed, prefix))))
        return found

    def set_default_route(self, gateway: IPv4Address | IPv6Address | None, index: int, version: int = 4) -> None:
        """Send everything that has no better route to ``gateway``; None: to the link itself."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        body = _rtmsg(family, RT_TABLE_MAIN, RT_SCOPE_LINK if gateway is None and version == 4 else 0)
        body += attribute(RTA_GATEWAY, gateway.packed) if gateway is not None else b""
        body += attribute(RTA_OIF, _u32(index))
        self.request(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, body, f"default via {gateway}")

    def routes(self) -> list[tuple[int, IPv4Network | IPv6Network]]:
        """Return the destination of every unicast route in the main table, with its link's index; no default."""
        found: list[tuple[int, IPv4Network | IPv6Network]] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for answer in self.request(RTM_GETROUTE, NLM_F_DUMP, _rtmsg(family, 0), "routes"):
                of, prefix, _, _, table, _, _, kind, _ = struct.unpack_from("=BBBBBBBBI", answer)
                values = dict(attributes(answer[12:]))
                if of != family or table != RT_TABLE_MAIN or kind != RTN_UNICAST or RTA_DST not in values:
                    continue
                index = int.from_bytes(values.get(RTA_OIF, b"\0" * 4), "little")
                found.append((index, ip_network((values[RTA_DST], prefix))))
        return found

    def pin(self, index: int, mac: str) -> None:
        """Tell a bridge that ``mac`` is behind its port ``index``, whatever it learned before."""
        body = struct.pack("=BxxxiHBB", socket.AF_BRIDGE, index, NUD_NOARP, NTF_MASTER, 0)
        body += attribute(NDA_LLADDR, mac_bytes(mac))
        self.request(RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, body, mac)

    def _new_link(self, body: bytes, operand: str) -> None:
        self.request(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body, operand)


def _rtmsg(family: int, table: int, scope: int = 0) -> bytes:
    # family, destination bits, source bits, type of service, table, protocol, scope (0: universe), type, flags
    return struct.pack("=BBBBBBBBI", family, 0, 0, 0, table, RTPROT_BOOT, scope, RTN_UNICAST, 0)


def _link(answer: bytes) -> Link:
    _, _, index, _, _ = IFINFO.unpack_from(answer)
    values = dict(attributes(answer[IFINFO.size :]))
    info = dict(attributes(values.get(IFLA_LINKINFO, b"")))
    return Link(
        index=index,
        name=values[IFLA_IFNAME].rstrip(b"\0").decode(),
        alias=values.get(IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace"),
        kind=info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(),
        master=int.from_bytes(values.get(IFLA_MASTER, b"\0" * 4), "little"),
        group=int.from_bytes(values.get(IFLA_GROUP, b"\0" * 4), "little"),
    )
