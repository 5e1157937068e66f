"""What the engine's interfaces and table are called in the kernel, so that engines live side by side."""

import hashlib
import secrets
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from sampan.layout import Layout


@dataclass(frozen=True, slots=True)
class KernelNames:
    """Names for one engine. An interface's name has 15 characters at most."""

    table: str  # nftables, family ip
    default_bridge: str
    prefix: str  # of other bridges
    owner: str  # in a bridge's alias; tells ours from everyone else's

    @classmethod
    def of(cls, layout: Layout) -> "KernelNames":
        """Derive them from the engine's roots."""
        tag = layout.tag
        return cls(
            table=layout.kernel_name,
            default_bridge=f"sp{tag}" if tag else "sampan0",
            prefix=f"sp{tag[:4]}-" if tag else "sp-",
            owner=f"{layout.kernel_name} network ",
        )

    def bridge(self, network_id: str) -> str:
        """The bridge of a user's network: as many of the ID's digits as fit."""
        return (self.prefix + network_id)[: min(15, len(self.prefix) + 12)]

    def alias(self, network_id: str) -> str:
        """What marks a bridge as ours, whatever its name."""
        return self.owner + network_id


def veth(endpoint_id: str) -> str:
    """The host's side of an endpoint."""
    return f"ve{endpoint_id[:12]}"


def mac_for(address: IPv4Address | IPv6Address) -> str:
    """The hardware address that Docker gives to the owner of ``address``: locally administered, then the address.

    Of an IPv6 address what counts is its digest, which is as long.
    """
    if isinstance(address, IPv6Address):
        return "02:42:" + ":".join(f"{octet:02x}" for octet in hashlib.sha256(address.packed).digest()[:4])
    return "02:42:" + ":".join(f"{octet:02x}" for octet in address.packed)


def random_mac() -> str:
    """A locally administered unicast address, for a bridge."""
    return "02:42:" + ":".join(f"{octet:02x}" for octet in secrets.token_bytes(4))


def new_id() -> str:
    """A fresh identifier of 64 hex digits."""
    return hashlib.sha256(secrets.token_bytes(32)).hexdigest()
