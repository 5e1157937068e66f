"""The nouns of container networking."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from sampan.docker.booleans import SPELLINGS
from sampan.resource.container import EndpointState, PublishedPort

# Docker's names for driver options that users set.
OPTION_BRIDGE_NAME: Final = "com.docker.network.bridge.name"
OPTION_ICC: Final = "com.docker.network.bridge.enable_icc"
OPTION_MASQUERADE: Final = "com.docker.network.bridge.enable_ip_masquerade"
OPTION_HOST_BINDING: Final = "com.docker.network.bridge.host_binding_ipv4"
OPTION_MTU: Final = "com.docker.network.driver.mtu"

BRIDGE: Final = "bridge"
HOST: Final = "host"
NONE: Final = "none"
NULL_DRIVER: Final = "null"
PREDEFINED: Final = (BRIDGE, HOST, NONE)
DRIVERS: Final = (BRIDGE, HOST, NULL_DRIVER)

CONTAINER_PREFIX: Final = "container:"


@dataclass(frozen=True, slots=True)
class Pool:
    """Addresses that a network gives out."""

    subnet: IPv4Network
    gateway: IPv4Address | None = None  # the bridge's own address; none on an internal network that wants none
    ip_range: IPv4Network | None = None  # only from here, unless asked for
    auxiliary: Mapping[str, IPv4Address] = field(default_factory=dict)  # taken by others, by name
    asked_for: bool = True  # by the user, who may then ask for addresses in it


@dataclass(frozen=True, slots=True)
class Network:
    """A network. All of it is fixed at creation."""

    id: str  # 64 hex digits
    name: str
    driver: str  # "bridge", "host", "null"
    created: datetime
    bridge: str = ""  # kernel name of the bridge, for that driver
    internal: bool = False
    attachable: bool = False
    pools: tuple[Pool, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] = field(default_factory=dict)
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

    @property
    def mtu(self) -> int:
        """As asked for; 0: the kernel's default."""
        value = self.options.get(OPTION_MTU, "")
        return int(value) if value.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Attached:
    """An endpoint as the kernel has it."""

    state: EndpointState
    interface: str  # in the container: "eth0"
    veth: str  # on the host


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

    @property
    def shown(self) -> bool:
        """Whether networks tell of it: steps of builds have no name, and nobody is told of them."""
        return bool(self.container_name)

    def on(self, network_id: str) -> Attached | None:
        """Return its endpoint on a network."""
        return next((a for a in self.endpoints if a.state.network_id == network_id), None)

    @property
    def target(self) -> Attached | None:
        """The endpoint to which published ports lead."""
        return next((a for a in self.endpoints if a.state.endpoint_id == self.gateway_endpoint), None)
