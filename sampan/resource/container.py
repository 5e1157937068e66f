"""What a container is: the plain-Python twin of ``containers.proto``'s nouns; and what a path in one is."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sampan.resource.container_spec import ContainerSpec, Endpoint, MountType


@dataclass(frozen=True, slots=True)
class PathStat:
    """What a path is; a link is not followed."""

    name: str
    size_bytes: int
    mode: int  # st_mode
    modified_ns: int  # since 1970
    link_target: str = ""  # absolute, within the container


class Status(enum.Enum):
    """Docker's words for a container's state."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


# What Docker calls running: there is a process, or there will be one again by itself.
ALIVE: Final = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})


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
class ProcessUser:
    """Who a container's first process is, in there."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()  # supplementary ones


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
    user: ProcessUser | None = None  # as its last start found it; None: it was not started yet
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


@dataclass(frozen=True, slots=True)
class ContainerDetails(Container):
    """A container's record, and what is looked up for those who ask."""

    driver: str = ""  # of its snapshot
    log_path: str = ""  # empty: nothing is logged
    hostname_path: str = ""
    hosts_path: str = ""
    resolv_conf_path: str = ""
    exec_ids: tuple[str, ...] = ()  # those that have not ended, oldest first
    size_rw_bytes: int | None = None  # what it wrote; None: not asked for
    root_path: str = ""  # where the root file system is mounted while it runs
    graph_data: Mapping[str, str] = field(default_factory=dict)  # what its root is made of; of a single one alone
    links: tuple[str, ...] = ()  # "/db:/web/alias" of each legacy link; of a single one alone
    link_names: tuple[str, ...] = ()  # "/web/alias" of each legacy link that leads here; in lists alone


@dataclass(frozen=True, slots=True)
class Created:
    """A container that was made."""

    id: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run of a container ended."""

    code: int
    error: str = ""


class Condition(enum.Enum):
    """What is waited for."""

    NOT_RUNNING = "not-running"  # at once if it does not run
    NEXT_EXIT = "next-exit"
    REMOVED = "removed"


class ChangeKind(enum.Enum):
    """What happened to a path; the value is Docker's number."""

    MODIFIED = 0
    ADDED = 1
    DELETED = 2


@dataclass(frozen=True, slots=True)
class Change:
    """A path that a container has changed."""

    path: str
    kind: ChangeKind
