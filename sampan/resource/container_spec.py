"""What a container is asked to be: the plain-Python twin of ``spec.proto``, field for field.

``convert.py`` turns one into the other; the core sees only this. Everything is frozen and hashable but for the
mappings, which nobody changes.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.errors import InvalidArgumentError

_MAX_CONSOLE: Final = 65535


@dataclass(frozen=True, slots=True)
class ConsoleSize:
    """A terminal's size in characters.

    Raises:
        InvalidArgumentError: one that struct winsize does not hold.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        if not (0 <= self.height <= _MAX_CONSOLE and 0 <= self.width <= _MAX_CONSOLE):
            raise InvalidArgumentError(
                f"invalid console size {self.height}x{self.width}: neither side is above {_MAX_CONSOLE}"
            )


@dataclass(frozen=True, slots=True)
class Process:
    """What runs first in the container: ``entrypoint`` followed by ``cmd``."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()  # "NAME=value"
    working_dir: str = ""
    user: str = ""  # "name|uid[:group|gid]"
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False  # close stdin when the first client that attached to it leaves
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    additional_groups: tuple[str, ...] = ()
    console_size: ConsoleSize | None = None
    strict_groups: bool = False  # the primary group and ``additional_groups``, and none that the image gives the user
    own_entrypoint: bool = False  # it is not the image's though it is empty; settled before a spec travels

    @property
    def args(self) -> tuple[str, ...]:
        """The command line."""
        return self.entrypoint + self.cmd


class MountType(enum.Enum):
    """Where a mount's content comes from."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class IdMapping:
    """A range of IDs, as user namespaces have them."""

    container_id: int  # the first one inside
    host_id: int  # what that one is outside
    size: int


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount asked for; see ``spec.proto`` for which field belongs to which type."""

    type: MountType
    target: str
    source: str = ""
    read_only: bool = False
    propagation: str = ""
    create_source: bool = False
    no_copy: bool = False
    tmpfs_size_bytes: int = 0
    tmpfs_mode: int = 0
    options: tuple[str, ...] = ()
    non_recursive: bool = False
    volume_driver: str = ""
    volume_labels: Mapping[str, str] = field(default_factory=dict)
    volume_options: Mapping[str, str] = field(default_factory=dict)
    mode: str = ""
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False
    subpath: str = ""
    image_id: str = ""
    chain_id: str = ""
    uid_mappings: tuple[IdMapping, ...] = ()  # an owner ``container_id`` on disk is shown as ``host_id``
    gid_mappings: tuple[IdMapping, ...] = ()
    inherited: bool = False


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A resource limit by its short name, such as ``nofile``."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Device:
    """A host device to show in the container."""

    host_path: str
    container_path: str
    permissions: str  # "rwm"


@dataclass(frozen=True, slots=True)
class HugepageLimit:
    """How much of the huge pages of one size a container may use."""

    page_size: str  # "2MB", "1GB"
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class DeviceLimit:
    """A limit for one block device of the host."""

    path: str
    value: int  # a weight, or bytes or operations per second


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a device has to be able to, all of it."""

    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """Devices that a driver is to find when the container starts: GPUs, and CDI devices by name."""

    driver: str = ""  # "cdi"; empty: whichever there is
    count: int = 0  # -1: all
    device_ids: tuple[str, ...] = ()
    capabilities: tuple[Capabilities, ...] = ()  # any of these
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits; 0 is none."""

    memory_bytes: int = 0
    memory_swap_bytes: int = 0  # memory + swap; -1: unlimited swap
    memory_reservation_bytes: int = 0
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpu_period_us: int = 0
    cpu_quota_us: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0  # -1: unlimited
    blkio_weight: int = 0
    oom_kill_disable: bool = False
    oom_score_adj: int = 0
    ulimits: tuple[Ulimit, ...] = ()
    devices: tuple[Device, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    shm_size_bytes: int = 0  # 0: 64 MiB
    cgroup_parent: str = ""
    memory_swappiness: int | None = None
    cpu_realtime_period_us: int = 0
    cpu_realtime_runtime_us: int = 0
    blkio_weight_devices: tuple[DeviceLimit, ...] = ()
    device_read_bps: tuple[DeviceLimit, ...] = ()
    device_write_bps: tuple[DeviceLimit, ...] = ()
    device_read_iops: tuple[DeviceLimit, ...] = ()
    device_write_iops: tuple[DeviceLimit, ...] = ()
    device_requests: tuple[DeviceRequest, ...] = ()
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    unified: Mapping[str, str] = field(default_factory=dict)  # files of its cgroup, of version 2, and their contents


@dataclass(frozen=True, slots=True)
class Security:
    """What the container may do to the host."""

    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    read_only_root: bool = False
    options: tuple[str, ...] = ()  # --security-opt, as given
    masked_paths: tuple[str, ...] = ()  # with own_paths: instead of the default
    readonly_paths: tuple[str, ...] = ()
    own_paths: bool = False
    cap_add_ambient: tuple[str, ...] = ()  # added, and kept by processes of other users than root


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Which namespaces are shared with whom; an empty string is the default, a private one.

    ``ns:<path>`` joins the namespace of that file; containers of an owner alone may.
    """

    network: str = ""  # "bridge", "host", "none", "container:<id>", "ns:<path>" or a network's; empty: "bridge"
    pid: str = ""  # "", "host", "container:<id>", "ns:<path>"
    ipc: str = ""  # "", "none", "private", "shareable", "host", "container:<id>", "ns:<path>"
    uts: str = ""  # "", "host", "ns:<path>"
    cgroup: str = ""  # "", "private", "host"
    user: str = ""  # "", "host", "ns:<path>", whose mappings the following ones are
    uid_mappings: tuple[IdMapping, ...] = ()  # of a user namespace of its own; none: it has none
    gid_mappings: tuple[IdMapping, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A network to join, and how."""

    network: str
    aliases: tuple[str, ...] = ()
    ipv4_address: str = ""  # asked for; empty: any
    ipv6_address: str = ""
    mac_address: str = ""
    links: tuple[str, ...] = ()
    driver_options: Mapping[str, str] = field(default_factory=dict)
    link_local_ips: tuple[str, ...] = ()  # further addresses, of 169.254.0.0/16 or fe80::/10
    gw_priority: int = 0  # the highest has the default route


@dataclass(frozen=True, slots=True)
class PortBinding:
    """A container port to publish on the host."""

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""  # empty: all
    host_port: int = 0  # 0: any free one
    host_port_end: int = 0


@dataclass(frozen=True, slots=True)
class Dns:
    """What goes into resolv.conf instead of the host's."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """What happens when the container exits by itself."""

    name: str = ""  # "", "no", "always", "unless-stopped", "on-failure"
    maximum_retries: int = 0


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Where output is kept."""

    driver: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A probe, run in the container from time to time; durations of 0 mean the default."""

    test: tuple[str, ...] = ()
    interval_s: float = 0
    timeout_s: float = 0
    start_period_s: float = 0
    start_interval_s: float = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """The manifest of one platform, out of an image's index or alone."""

    media_type: str
    digest: str
    size: int  # bytes
    os: str = ""  # of the image's config, as the two below
    architecture: str = ""
    variant: str = ""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """The whole of it."""

    name: str = ""
    image: str = ""  # as the user named it
    image_id: str = ""
    chain_id: str = ""  # the committed snapshot to start from; empty: an empty root
    process: Process = field(default_factory=Process)
    labels: Mapping[str, str] = field(default_factory=dict)
    hostname: str = ""
    domainname: str = ""
    stop_signal: str = ""
    stop_timeout_s: float | None = None
    exposed_ports: tuple[str, ...] = ()  # "80/tcp"
    mounts: tuple[Mount, ...] = ()
    anonymous_volumes: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    security: Security = field(default_factory=Security)
    namespaces: Namespaces = field(default_factory=Namespaces)
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[PortBinding, ...] = ()
    publish_all_ports: bool = False
    dns: Dns = field(default_factory=Dns)
    extra_hosts: tuple[str, ...] = ()  # "name:address"
    sysctls: Mapping[str, str] = field(default_factory=dict)
    restart_policy: RestartPolicy = field(default_factory=RestartPolicy)
    auto_remove: bool = False
    log: LogConfig = field(default_factory=LogConfig)
    init: bool | None = None  # None: as the engine's configuration has it
    runtime: str = ""
    health_check: HealthCheck | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    owner: str = ""  # whose it is: empty for Docker's and the command line's, "cri" for a pod's
    image_manifest: ImageManifest | None = None  # that the root comes from; None: nothing has one, or nobody said
    volume_driver: str = ""  # of anonymous volumes; empty: local
    docker: bytes = b""  # opaque: what a Docker client sent and the other fields do not model
