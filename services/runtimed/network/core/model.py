"""The nouns of container networking."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from sampan.docker.booleans import SPELLINGS
from sampan.docker.options.networks import ENDPOINT_SYSCTLS
from sampan.resource.container import EndpointState, PublishedPort

# Docker's names for driver options that users set.
OPTION_BRIDGE_NAME: Final = "com.docker.network.bridge.name"
OPTION_ICC: Final = "com.docker.network.bridge.enable_icc"
OPTION_MASQUERADE: Final = "com.docker.network.bridge.enable_ip_masquerade"
OPTION_DEFAULT_BRIDGE: Final = "com.docker.network.bridge.default_bridge"
OPTION_INHIBIT_IPV4: Final = "com.docker.network.bridge.inhibit_ipv4"
OPTION_TRUSTED: Final = "com.docker.network.bridge.trusted_host_interfaces"
OPTION_HOST_BINDING: Final = "com.docker.network.bridge.host_binding_ipv4"
OPTION_MTU: Final = "com.docker.network.driver.mtu"
OPTION_GATEWAY_MODE: Final = {
    4: "com.docker.network.bridge.gateway_mode_ipv4",
    6: "com.docker.network.bridge.gateway_mode_ipv6",
}
OPTION_ENABLE: Final = {4: "com.docker.network.enable_ipv4", 6: "com.docker.network.enable_ipv6"}
OPTION_INTERFACE_PREFIX: Final = "com.docker.network.container_iface_prefix"
OPTION_HOST_IPV4: Final = "com.docker.network.host_ipv4"
OPTION_HOST_IPV6: Final = "com.docker.network.host_ipv6"
OPTION_PARENT: Final = "parent"
OPTION_MACVLAN_MODE: Final = "macvlan_mode"
OPTION_IPVLAN_MODE: Final = "ipvlan_mode"
OPTION_IPVLAN_FLAG: Final = "ipvlan_flag"

# Auxiliary addresses of these names are where containers' default routes lead to, instead of the bridge.
DEFAULT_GATEWAY: Final = {4: "DefaultGatewayIPv4", 6: "DefaultGatewayIPv6"}

# Of endpoints.
OPTION_ENDPOINT_INTERFACE: Final = "com.docker.network.endpoint.ifname"
OPTION_ENDPOINT_SYSCTLS: Final = ENDPOINT_SYSCTLS

# How a bridge's addresses of one family are reached, and reach others.
NAT: Final = "nat"
NAT_UNPROTECTED: Final = "nat-unprotected"
ROUTED: Final = "routed"
ISOLATED: Final = "isolated"
GATEWAY_MODES: Final = (NAT, NAT_UNPROTECTED, ROUTED, ISOLATED)

BRIDGE: Final = "bridge"
HOST: Final = "host"
NONE: Final = "none"
NULL_DRIVER: Final = "null"
MACVLAN: Final = "macvlan"
IPVLAN: Final = "ipvlan"
PREDEFINED: Final = (BRIDGE, HOST, NONE)
DRIVERS: Final = (BRIDGE, HOST, IPVLAN, MACVLAN, NULL_DRIVER)
WIRED: Final = (BRIDGE, IPVLAN, MACVLAN)  # drivers that give containers interfaces
VLAN: Final = (IPVLAN, MACVLAN)  # drivers that share an interface of the host's

CONTAINER_PREFIX: Final = "container:"

Address = IPv4Address | IPv6Address
Subnet = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Pool:
    """Addresses that a network gives out."""

    subnet: Subnet
    gateway: Address | None = None  # the bridge's own address; none on an internal network that wants none
    ip_range: Subnet | None = None  # only from here, unless asked for
    auxiliary: Mapping[str, Address] = field(default_factory=dict)  # taken by others, by name
    asked_for: bool = True  # by the user, who may then ask for addresses in it

    @property
    def router(self) -> Address | None:
        """Where its containers' default routes lead to; None: nowhere."""
        return self.auxiliary.get(DEFAULT_GATEWAY[self.subnet.version], self.gateway)


@dataclass(frozen=True, slots=True)
class Network:
    """A network. All of it is fixed at creation."""

    id: str  # 64 hex digits
    name: str
    driver: str  # one of DRIVERS; "null" for one that only holds a configuration
    created: datetime
    bridge: str = ""  # kernel name of the bridge, for that driver
    internal: bool = False
    attachable: bool = False
    pools: tuple[Pool, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] = field(default_factory=dict)
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    config_only: bool = False  # a configuration for others, and no network to be on
    config_from: str = ""  # name of the network that its configuration is from
    fault: str = ""  # why it could not be recovered: no container is connected to it any more

    @property
    def predefined(self) -> bool:
        """Whether the engine made it for itself."""
        return self.name in PREDEFINED

    @property
    def user_defined(self) -> bool:
        """Whether names resolve and addresses may be asked for on it."""
        return not self.predefined

    def flag(self, option: str, *, default: bool) -> bool:
        """Read a driver option that is true or false; its spelling was checked when the network was made."""
        return SPELLINGS.get(self.options.get(option, ""), default)

    def pools_of(self, version: int) -> tuple[Pool, ...]:
        """Return its pools of one family, 4 or 6."""
        return tuple(pool for pool in self.pools if pool.subnet.version == version)

    def gateway_mode(self, version: int) -> str:
        """Return how its addresses of one family, 4 or 6, are reached."""
        return self.options.get(OPTION_GATEWAY_MODE[version], "") or NAT

    def has_address(self, version: int) -> bool:
        """Whether its bridge has the gateway's address of a family; else somebody behind the bridge has, or nobody."""
        inhibited = version == 4 and self.flag(OPTION_INHIBIT_IPV4, default=False)
        return self.gateway_mode(version) != ISOLATED and not inhibited

    @property
    def parent(self) -> str:
        """The host's interface that containers of a macvlan or ipvlan network share: one of ours if none is named."""
        return (self.options.get(OPTION_PARENT, "") or f"dm-{self.id[:12]}") if self.driver in VLAN else ""

    @property
    def layer3(self) -> bool:
        """Whether its interfaces route by addresses alone, with neither gateway nor broadcast."""
        return self.driver == IPVLAN and self.options.get(OPTION_IPVLAN_MODE, "") in ("l3", "l3s")

    @property
    def mtu(self) -> int:
        """As asked for; 0: the kernel's default."""
        value = self.options.get(OPTION_MTU, "")
        return int(value) if value.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Attached:
    """An endpoint as the kernel has it."""

    state: EndpointState
    interface: str  # in the container: "eth0"; empty: none, as on the host's network
    veth: str  # on the host; empty with macvlan and ipvlan
    on_link: bool = False  # the default route needs no gateway

    def leads_out(self, version: int) -> bool:
        """Whether packets of a family, 4 or 6, find the world through it."""
        state = self.state
        if self.on_link:
            return bool(state.ipv4_address if version == 4 else state.ipv6_address)
        return bool(state.gateway if version == 4 else state.ipv6_gateway)

    def address(self, version: int) -> str:
        """Its address of a family, 4 or 6; empty: none."""
        return self.state.ipv4_address if version == 4 else self.state.ipv6_address


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running container's network: everything that has to be known to take it down or to show it."""

    container_id: str
    container_name: str
    hostname: str
    sandbox_id: str
    owns_namespace: bool  # false with the host's namespace
    endpoints: tuple[Attached, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    gateway_endpoint: str = ""  # ID of the endpoint whose gateway the default route names and where ports arrive
    gateway6_endpoint: str = ""  # the same of IPv6

    @property
    def shown(self) -> bool:
        """Whether networks tell of it: steps of builds have no name, and nobody is told of them."""
        return bool(self.container_name)

    def on(self, network_id: str) -> Attached | None:
        """Return its endpoint on a network."""
        return next((a for a in self.endpoints if a.state.network_id == network_id), None)

    def gateway(self, version: int) -> Attached | None:
        """The endpoint that leads out for a family, 4 or 6: where the default route and published ports lead."""
        wanted = self.gateway_endpoint if version == 4 else self.gateway6_endpoint
        return next((a for a in self.endpoints if a.state.endpoint_id == wanted), None) if wanted else None
