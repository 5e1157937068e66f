"""What a container is: the plain-Python twin of ``containers.proto``'s nouns."""

import enum
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sampan.resource.container_spec import ContainerSpec, Endpoint, MountType


class Status(enum.Enum):
    """Docker's words for a container's state."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class Stream(enum.Enum):
    """One of a process's three standard streams; the value is Docker's stream number."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """Output of a process: one write, as far as it is known."""

    stream: Stream
    data: bytes


class HealthStatus(enum.Enum):
    """What a container's health check has found."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Probe:
    """One run of a health check."""

    start: datetime
    end: datetime
    exit_code: int  # -1: it took too long, or could not be run
    output: str


@dataclass(frozen=True, slots=True)
class Health:
    """What the last probes found."""

    status: HealthStatus = HealthStatus.STARTING
    failing_streak: int = 0
    log: tuple[Probe, ...] = ()  # newest last


@dataclass(frozen=True, slots=True)
class ContainerState:
    """Where in its life a container is."""

    status: Status = Status.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""  # of the last start
    oom_killed: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    health: Health | None = None  # None: it has no health check
    held: bool = False  # paused for as long as a client's call lasts, and not because somebody asked for a pause


@dataclass(frozen=True, slots=True)
class EndpointState:
    """A container's place on a network; addresses are empty while it does not run."""

    network: str  # name
    network_id: str
    requested: Endpoint
    endpoint_id: str = ""
    ipv4_address: str = ""
    ipv4_prefix: int = 0
    gateway: str = ""
    mac_address: str = ""
    aliases: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    ipv6_address: str = ""
    ipv6_prefix: int = 0
    ipv6_gateway: str = ""


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A container port and where the host answers for it; host_port 0: exposed and not published."""

    container_port: int
    protocol: str
    host_ip: str = ""
    host_port: int = 0


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How a container is connected."""

    sandbox_id: str = ""
    sandbox_path: str = ""  # network namespace file, perhaps another container's; empty: the host's namespace
    endpoints: tuple[EndpointState, ...] = ()
    ports: tuple[PublishedPort, ...] = ()


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A mount as it was resolved at create."""

    type: MountType
    source: str  # host path
    target: str
    name: str = ""  # of a volume
    driver: str = ""
    mode: str = ""
    read_write: bool = True
    propagation: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """A container's record."""

    id: str  # 64 hex digits
    spec: ContainerSpec  # with its name, as it is now
    created: datetime
    state: ContainerState = field(default_factory=ContainerState)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    mounts: tuple[MountPoint, ...] = ()
    restart_count: int = 0
    runtime: str = ""  # the one used
    cgroup_path: str = ""  # "/sampan/<id>"

    @property
    def name(self) -> str:
        """Its name, without a slash."""
        return self.spec.name

    @property
    def short_id(self) -> str:
        """The 12 digits that Docker shows, and the default host name."""
        return self.id[:12]


# Which moves there are; ``lifecycle`` checks every change against this table.
ALLOWED: Final[dict[Status, frozenset[Status]]] = {
    Status.CREATED: frozenset({Status.RUNNING, Status.CREATED, Status.REMOVING, Status.DEAD, Status.EXITED}),
    Status.RUNNING: frozenset({Status.PAUSED, Status.EXITED, Status.RESTARTING}),
    Status.PAUSED: frozenset({Status.RUNNING, Status.EXITED, Status.RESTARTING}),
    Status.RESTARTING: frozenset({Status.RUNNING, Status.EXITED, Status.REMOVING}),
    Status.EXITED: frozenset({Status.RUNNING, Status.EXITED, Status.RESTARTING, Status.REMOVING}),
    Status.REMOVING: frozenset({Status.DEAD, Status.REMOVING}),
    Status.DEAD: frozenset({Status.REMOVING, Status.DEAD}),
}
