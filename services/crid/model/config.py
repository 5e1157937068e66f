"""What kubelet asks pods and containers to be: the plain-Python twin of ``cri/v1/config.proto``, field for field."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from crid.model.security import ContainerSecurity, IDMapping, SandboxSecurity


@dataclass(frozen=True, slots=True)
class PodMetadata:
    """Who a sandbox is."""

    name: str = ""
    uid: str = ""
    namespace: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class DNSConfig:
    """What resolv.conf says."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Protocol(enum.Enum):
    """What a port speaks."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A pod's port, and the host's that leads to it."""

    protocol: Protocol = Protocol.TCP
    container_port: int = 0
    host_port: int = 0
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class HugepageLimit:
    """How much of one size of huge pages may be used."""

    page_size: str
    limit: int


@dataclass(frozen=True, slots=True)
class Resources:
    """``LinuxContainerResources``: limits; 0 is not said."""

    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    memory_limit_in_bytes: int = 0
    oom_score_adj: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    unified: Mapping[str, str] = field(default_factory=dict)
    memory_swap_limit_in_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LinuxPod:
    """``LinuxPodSandboxConfig``."""

    cgroup_parent: str = ""
    security_context: SandboxSecurity = field(default_factory=SandboxSecurity)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    overhead: Resources | None = None
    resources: Resources | None = None


@dataclass(frozen=True, slots=True)
class Windows:
    """Something of another system was asked for."""


@dataclass(frozen=True, slots=True)
class PodConfig:
    """``PodSandboxConfig``."""

    metadata: PodMetadata = field(default_factory=PodMetadata)
    hostname: str = ""
    log_directory: str = ""
    dns_config: DNSConfig = field(default_factory=DNSConfig)
    port_mappings: tuple[PortMapping, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    linux: LinuxPod = field(default_factory=LinuxPod)
    windows: Windows | None = None


@dataclass(frozen=True, slots=True)
class ContainerMetadata:
    """Who a container is within its sandbox."""

    name: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image as it was asked for."""

    image: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    user_specified_image: str = ""
    runtime_handler: str = ""
    image_ref: str = ""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A variable."""

    key: str = ""
    value: bytes = b""


class Propagation(enum.Enum):
    """Which way mounts below a mount are seen; the value is mount(8)'s word."""

    PROPAGATION_PRIVATE = "rprivate"
    PROPAGATION_HOST_TO_CONTAINER = "rslave"
    PROPAGATION_BIDIRECTIONAL = "rshared"


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount that is asked for."""

    container_path: str = ""
    host_path: str = ""
    readonly: bool = False
    selinux_relabel: bool = False
    propagation: Propagation = Propagation.PROPAGATION_PRIVATE
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    recursive_read_only: bool = False
    image: ImageSpec | None = None
    image_sub_path: str = ""
    mount_options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the host's."""

    container_path: str = ""
    host_path: str = ""
    permissions: str = ""


@dataclass(frozen=True, slots=True)
class CDIDevice:
    """A device by its CDI name."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class LinuxContainer:
    """``LinuxContainerConfig``."""

    resources: Resources = field(default_factory=Resources)
    security_context: ContainerSecurity = field(default_factory=ContainerSecurity)


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """``ContainerConfig``."""

    metadata: ContainerMetadata = field(default_factory=ContainerMetadata)
    image: ImageSpec = field(default_factory=ImageSpec)
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    envs: tuple[KeyValue, ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    linux: LinuxContainer = field(default_factory=LinuxContainer)
    windows: Windows | None = None
    cdi_devices: tuple[CDIDevice, ...] = ()
    stop_signal: str = ""  # "SIGTERM", "SIGRTMIN+1"; empty: the image's
