"""Networks as clients ask for them and see them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AddressPool:
    """Addresses that a network gives out, as text. In a request, what is empty is chosen."""

    subnet: str = ""  # "172.17.0.0/16"
    gateway: str = ""
    ip_range: str = ""
    auxiliary: Mapping[str, str] = field(default_factory=dict)  # taken by others, by name


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """A network to make."""

    name: str
    driver: str = ""  # empty: "bridge"
    internal: bool = False
    attachable: bool = False
    enable_ipv6: bool = False
    disable_ipv4: bool = False
    config_only: bool = False  # a configuration for other networks
    config_from: str = ""  # the network whose configuration to take
    pools: tuple[AddressPool, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    ipam_driver: str = ""  # empty: "default"
    ipam_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NetworkMember:
    """A running container on a network; addresses come with their prefix length."""

    container_id: str
    container_name: str
    endpoint_id: str = ""
    mac_address: str = ""
    ipv4_address: str = ""
    ipv6_address: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """A network and who is on it."""

    id: str  # 64 hex digits
    name: str
    driver: str  # "bridge", "macvlan", "ipvlan", "host", "null"
    created: datetime
    internal: bool = False
    attachable: bool = False
    enable_ipv6: bool = False
    disable_ipv4: bool = False
    config_only: bool = False  # a configuration for other networks
    config_from: str = ""  # the network whose configuration to take
    pools: tuple[AddressPool, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    members: tuple[NetworkMember, ...] = ()
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] = field(default_factory=dict)
