"""LLB: what a build does, as a graph of operations.

The plain-Python twin of ``pb.Op`` (moby/buildkit, solver/pb/ops.proto), field for field as far as it changes what a
step does. A node is one operation with the edges that lead into it; an edge names one output of a node. Nodes are
frozen, and equal nodes are one step however often a graph holds them.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.build.progress import Position, ProgressGroup
from sampan.oci.platform import Platform
from sampan.resource.container_spec import Resources


class NetMode(enum.Enum):
    """Which network a step sees."""

    SANDBOX = 0
    HOST = 1  # needs the entitlement network.host
    NONE = 2


class SecurityMode(enum.Enum):
    """With which rights a step runs."""

    SANDBOX = 0
    INSECURE = 1  # needs the entitlement security.insecure


class MountType(enum.Enum):
    """What a step's mount shows."""

    BIND = 0
    SECRET = 1
    SSH = 2
    CACHE = 3
    TMPFS = 4


class Sharing(enum.Enum):
    """What a second writer of a cache mount gets."""

    SHARED = 0  # the same directory, at the same time
    PRIVATE = 1  # a directory of its own
    LOCKED = 2  # the same directory, after the first one


NO_LIMITS: Final = Resources()
NO_INPUT = -1  # a mount that begins empty
NO_OUTPUT = -1  # a mount whose changes are dropped


@dataclass(frozen=True, slots=True)
class HostAddress:
    """A line of /etc/hosts."""

    host: str
    ip: str


@dataclass(frozen=True, slots=True)
class Ulimit:
    """An rlimit of a step's process."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class ProxyEnv:
    """Proxy variables: in a step's environment, and in no cache key."""

    http_proxy: str = ""
    https_proxy: str = ""
    ftp_proxy: str = ""
    no_proxy: str = ""
    all_proxy: str = ""


@dataclass(frozen=True, slots=True)
class Process:
    """What a step runs."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()  # "NAME=value"
    cwd: str = "/"
    user: str = ""
    proxy_env: ProxyEnv | None = None
    extra_hosts: tuple[HostAddress, ...] = ()
    hostname: str = ""
    ulimits: tuple[Ulimit, ...] = ()
    cgroup_parent: str = ""
    valid_exit_codes: tuple[int, ...] = ()  # empty: 0 alone


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A directory that outlives the step."""

    id: str
    sharing: Sharing = Sharing.SHARED


@dataclass(frozen=True, slots=True)
class SecretMount:
    """A file from the client, on tmpfs."""

    id: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o400
    optional: bool = False


@dataclass(frozen=True, slots=True)
class SshMount:
    """A socket that leads to the client's agent."""

    id: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o600
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a step; the one at ``/`` is its root."""

    dest: str
    type: MountType = MountType.BIND
    input: int = NO_INPUT  # index into the node's inputs
    selector: str = ""  # a path in the input
    output: int = NO_OUTPUT  # index among the node's outputs
    read_only: bool = False
    tmpfs_bytes: int = 0  # 0: no limit
    cache: CacheMount | None = None
    secret: SecretMount | None = None
    ssh: SshMount | None = None


@dataclass(frozen=True, slots=True)
class SecretEnv:
    """A variable whose value is a secret of the client's."""

    id: str
    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Device:
    """A CDI device by its name, ``vendor/class=device``."""

    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ExecOp:
    """Run a process."""

    process: Process
    mounts: tuple[Mount, ...]
    network: NetMode = NetMode.SANDBOX
    security: SecurityMode = SecurityMode.SANDBOX
    secret_env: tuple[SecretEnv, ...] = ()
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceOp:
    """Fetch something: ``docker-image://``, ``local://``, ``git://``, ``https://``, ``oci-layout://``."""

    identifier: str
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class UserName:
    """A user or group by name, looked up in an input's own files; by number, ``input`` is not looked at."""

    name: str = ""
    input: int = NO_INPUT
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a file belongs to; None leaves it."""

    user: UserName | None = None
    group: UserName | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy from the secondary input onto the input."""

    src: str
    dest: str
    owner: Owner | None = None
    mode: int = -1  # permission bits; -1 keeps them
    mode_text: str = ""  # "u=rwX,go=rX" instead of bits
    follow_symlink: bool = False
    dir_copy_contents: bool = False
    attempt_unpack: bool = False
    create_dest_path: bool = False
    allow_wildcard: bool = False
    allow_empty_wildcard: bool = False
    timestamp_ns: int = -1  # since the epoch; -1 keeps it
    include_patterns: tuple[str, ...] = ()
    exclude_patterns: tuple[str, ...] = ()
    always_replace: bool = False
    required_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MakeFile:
    """Write a file."""

    path: str
    mode: int
    data: bytes
    owner: Owner | None = None
    timestamp_ns: int = -1


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Make a directory."""

    path: str
    mode: int
    make_parents: bool = False
    owner: Owner | None = None
    timestamp_ns: int = -1


@dataclass(frozen=True, slots=True)
class MakeSymlink:
    """Make a symbolic link."""

    target: str  # what the link says
    path: str
    owner: Owner | None = None
    timestamp_ns: int = -1


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file, or a directory with what is in it; a link at its end is not followed."""

    path: str
    allow_not_found: bool = False
    allow_wildcard: bool = False


Action = Copy | MakeFile | MakeDirectory | MakeSymlink | Remove


@dataclass(frozen=True, slots=True)
class FileAction:
    """One step of a FileOp: indices up to the number of inputs are inputs, above it results of earlier actions."""

    action: Action
    input: int = NO_INPUT
    secondary_input: int = NO_INPUT
    output: int = NO_OUTPUT


@dataclass(frozen=True, slots=True)
class FileOp:
    """Change files without a process."""

    actions: tuple[FileAction, ...]


@dataclass(frozen=True, slots=True)
class MergeOp:
    """Put the inputs, by index, on top of each other."""

    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DiffOp:
    """What ``upper`` has that ``lower`` has not: inputs by index, ``NO_INPUT`` being the empty tree."""

    lower: int = NO_INPUT
    upper: int = NO_INPUT


Op = ExecOp | SourceOp | FileOp | MergeOp | DiffOp


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is said about a step and changes nothing in its result."""

    name: str = ""  # what progress shows
    ignore_cache: bool = False
    positions: tuple[Position, ...] = ()  # in the Dockerfile
    progress_group: ProgressGroup | None = None
    limits: Resources = NO_LIMITS  # of memory and processors, while a step's process runs
    network_mode: str = ""  # a container's, instead of the network that the operation names
    description: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation of a graph; nodes are compared by identity, and merged by digest when they are marshalled."""

    op: Op
    inputs: tuple["Edge", ...] = ()
    platform: Platform | None = None
    metadata: Metadata = Metadata()

    def output(self, index: int = 0) -> "Edge":
        """Return the edge out of one of its outputs."""
        return Edge(self, index)


@dataclass(frozen=True, slots=True)
class Edge:
    """One output of a node."""

    node: Node
    index: int = 0
