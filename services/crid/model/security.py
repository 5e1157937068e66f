"""Who a pod's processes are, and what keeps them apart: the plain-Python twin of ``cri/v1/security.proto``."""

import enum
from dataclasses import dataclass, field


class NamespaceMode(enum.Enum):
    """Whose namespace a container has."""

    POD = "pod"
    CONTAINER = "container"
    NODE = "node"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class IDMapping:
    """A range of IDs that are others on the host."""

    host_id: int
    container_id: int
    length: int


@dataclass(frozen=True, slots=True)
class UserNamespace:
    """A pod's user namespace: ``POD`` has these mappings, ``NODE`` none."""

    mode: NamespaceMode = NamespaceMode.POD
    uids: tuple[IDMapping, ...] = ()
    gids: tuple[IDMapping, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceOption:
    """Whose namespaces a sandbox or a container has."""

    network: NamespaceMode = NamespaceMode.POD
    pid: NamespaceMode = NamespaceMode.POD
    ipc: NamespaceMode = NamespaceMode.POD
    target_id: str = ""
    userns_options: UserNamespace | None = None

    @property
    def mappings(self) -> UserNamespace | None:
        """The user namespace that is asked for."""
        asked = self.userns_options
        return asked if asked is not None and asked.mode is NamespaceMode.POD else None


class SupplementalGroupsPolicy(enum.Enum):
    """Where a first process has its further groups from."""

    Merge = "merge"
    Strict = "strict"


@dataclass(frozen=True, slots=True)
class Number:
    """A number that may also be absent: ``Int64Value``."""

    value: int = 0


class ProfileType(enum.Enum):
    """Kinds of security profiles."""

    RuntimeDefault = "default"
    Unconfined = "unconfined"
    Localhost = "localhost"


@dataclass(frozen=True, slots=True)
class SecurityProfile:
    """A seccomp or AppArmor profile."""

    profile_type: ProfileType = ProfileType.RuntimeDefault
    localhost_ref: str = ""


@dataclass(frozen=True, slots=True)
class SELinuxOption:
    """A label's parts."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


@dataclass(frozen=True, slots=True)
class Capability:
    """Capabilities that are more or fewer than the default."""

    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    add_ambient_capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SandboxSecurity:
    """``LinuxSandboxSecurityContext``."""

    namespace_options: NamespaceOption = field(default_factory=NamespaceOption)
    selinux_options: SELinuxOption | None = None
    run_as_user: Number | None = None
    run_as_group: Number | None = None
    readonly_rootfs: bool = False
    supplemental_groups: tuple[int, ...] = ()
    supplemental_groups_policy: SupplementalGroupsPolicy = SupplementalGroupsPolicy.Merge
    privileged: bool = False
    seccomp: SecurityProfile | None = None
    apparmor: SecurityProfile | None = None
    seccomp_profile_path: str = ""


@dataclass(frozen=True, slots=True)
class ContainerSecurity:
    """``LinuxContainerSecurityContext``."""

    capabilities: Capability = field(default_factory=Capability)
    privileged: bool = False
    namespace_options: NamespaceOption | None = None
    selinux_options: SELinuxOption | None = None
    run_as_user: Number | None = None
    run_as_group: Number | None = None
    run_as_username: str = ""
    readonly_rootfs: bool = False
    supplemental_groups: tuple[int, ...] = ()
    supplemental_groups_policy: SupplementalGroupsPolicy = SupplementalGroupsPolicy.Merge
    no_new_privs: bool = False
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    seccomp: SecurityProfile | None = None
    apparmor: SecurityProfile | None = None
    apparmor_profile: str = ""
    seccomp_profile_path: str = ""
