"""What is said of pod networks, as frozen values: configurations, requests, results.

Reference: CNI specification 1.1, "Network configuration format", "Result types".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path
from typing import Final

from sampan.errors import RemoteError
from sampan.json_types import JsonObject

# Spoken here, the oldest first. 0.3.0 and 0.3.1 differ in nothing but their number.
VERSIONS: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

# What a pod's interface is called, as kubelet and every plugin expect.
INTERFACE: Final = "eth0"

IPAddress = IPv4Address | IPv6Address


class Command(Enum):
    """What a plugin is asked to do."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    STATUS = "STATUS"
    VERSION = "VERSION"
    GC = "GC"


# The first version that has a command; what is not here every version has.
SINCE: Final[Mapping[Command, str]] = {Command.CHECK: "0.4.0", Command.STATUS: "1.1.0", Command.GC: "1.1.0"}


class PluginError(RemoteError):
    """A plugin refuses, fails, or answers nonsense."""

    def __init__(self, plugin: str, command: Command, message: str, code: int = 0) -> None:
        super().__init__(f"CNI plugin {plugin} {command.value}: {message}")
        self.plugin = plugin
        self.command = command
        self.code = code  # the plugin's own, of the specification's "Error codes"; 0: it gave none


def at_least(version: str, than: str) -> bool:
    """Say whether one version of the specification is another, or a later one."""
    return _numbers(version) >= _numbers(than)


def has(version: str, command: Command) -> bool:
    """Say whether a version of the specification knows a command."""
    return at_least(version, SINCE.get(command, "0.0.0"))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


@dataclass(frozen=True, slots=True)
class Plugin:
    """One plugin of a network's chain."""

    type: str  # the name of its program
    document: JsonObject  # all that the administrator has written for it
    capabilities: frozenset[str] = frozenset()  # those that are asked for at run time


@dataclass(frozen=True, slots=True)
class Network:
    """A network configuration: plugins that run one after the other."""

    name: str
    versions: tuple[str, ...]  # of VERSIONS, the one to prefer last
    plugins: tuple[Plugin, ...]
    source: Path
    disable_check: bool = False
    disable_gc: bool = False


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why there is no network configuration."""

    reason: str


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the host that leads to one of a pod."""

    container_port: int
    host_port: int
    protocol: str = "tcp"
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class Dns:
    """What a resolver is told."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    domain: str = ""


@dataclass(frozen=True, slots=True)
class PodRequest:
    """A pod that is to get a network."""

    sandbox: str  # its ID
    netns: Path  # a file that holds its network namespace
    name: str
    namespace: str
    uid: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""
    ports: tuple[PortMapping, ...] = ()
    dns: Dns | None = None


@dataclass(frozen=True, slots=True)
class Interface:
    """One end of a link that a plugin has made."""

    name: str
    mac: str = ""
    sandbox: str = ""  # empty: it is on the host


@dataclass(frozen=True, slots=True)
class Address:
    """An address that a plugin has given."""

    address: IPv4Interface | IPv6Interface
    gateway: IPAddress | None = None
    interface: int | None = None  # an index into the result's interfaces


@dataclass(frozen=True, slots=True)
class Result:
    """What a chain of plugins answers to ADD."""

    document: JsonObject  # as the last plugin wrote it: ``prevResult`` of whatever is asked of the chain later
    interfaces: tuple[Interface, ...]
    addresses: tuple[Address, ...]
    dns: Dns

    def of_interface(self, name: str) -> tuple[IPAddress, ...]:
        """Return the addresses of a pod's interface; those that say no interface are its as well."""
        found = []
        for address in self.addresses:
            if address.interface is not None:
                interface = self.interfaces[address.interface]
                if interface.name != name or not interface.sandbox:
                    continue
            found.append(address.address.ip)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class PodNetwork:
    """What a pod has got."""

    network: str  # its name in the configuration
    addresses: tuple[IPAddress, ...]  # IPv4 before IPv6, the first is the pod's
    dns: Dns
    interfaces: tuple[Interface, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether pods can get a network, and if not, why."""

    ready: bool
    reason: str = ""  # one word, for programs
    message: str = ""  # a sentence, for people


class State(Enum):
    """How far an attachment is."""

    ADDING = "adding"  # plugins may have made something; nobody has been told
    ADDED = "added"
    REMOVING = "removing"  # to be taken back, until plugins say that it has been


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod's place in a network, as it was asked for: taking it back asks with the same words."""

    sandbox: str
    netns: Path | None  # None: it is gone
    network: Network
    version: str  # of the specification, that its plugins speak
    state: State
    arguments: str  # CNI_ARGS
    capabilities: JsonObject
    result: JsonObject | None = None  # of ADD
