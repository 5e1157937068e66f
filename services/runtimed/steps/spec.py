"""A step as the container that it is isolated as; what can be refused before anything is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from runtimed.cgroups.naming import CgroupNames
from sampan.build.step import (
    DEFAULT_HOSTNAME,
    DirectorySource,
    SnapshotSource,
    StepMount,
    StepNetwork,
    StepProcess,
    StepSecurity,
    StepSpec,
    TmpfsSource,
)
from sampan.docker.options.limits import check_limits
from sampan.docker.options.mounts import normal
from sampan.docker.options.namespaces import CONTAINER
from sampan.errors import InvalidArgumentError
from sampan.resource.container import Container, MountPoint
from sampan.resource.container_spec import ContainerSpec, Mount, MountType, Namespaces, Process, Security

_NETWORKS: Final[Mapping[StepNetwork, str]] = {
    StepNetwork.SANDBOX: "bridge",
    StepNetwork.HOST: "host",
    StepNetwork.NONE: "none",
}

# Made by the OCI runtime; what is in them is none of the root's.
_KERNELS_OWN: Final = ("/proc", "/sys", "/dev")

_RUN_FROM: Final = ("exec", "dev")  # builds compile into temporary directories, and run what they have compiled


@dataclass(frozen=True, slots=True)
class Shown:
    """The source of a mount, ready to be mounted by the OCI runtime."""

    point: MountPoint
    is_directory: bool


def container_of(spec: StepSpec, cgroups: CgroupNames) -> Container:
    """Return a container, of which there is no record, that is isolated as the step is to be; without its mounts.

    Its cgroup is ``<engine>/steps/<id>``, or ``<parent>/<id>`` in a parent that the request names, where nothing else
    would be left of it; of systemd's a scope in a slice.

    Raises:
        InvalidArgumentError: a bad mount, limit or cgroup parent, or devices.
    """
    if spec.cdi_devices:
        raise InvalidArgumentError(f"device {spec.cdi_devices[0]!r}: steps of builds get no CDI devices")
    if not spec.root:
        raise InvalidArgumentError("a step needs the key of a snapshot for its root")
    _check_mounts(spec.mounts)
    check_limits(spec.resources)
    path = cgroups.of_step(spec.id, spec.resources.cgroup_parent)
    return Container(spec.id, _as_container(spec), datetime.now(UTC), cgroup_path=path)


def _as_container(spec: StepSpec) -> ContainerSpec:
    return ContainerSpec(
        process=process_of(spec.process),
        hostname="" if spec.network_mode.startswith(CONTAINER) else spec.hostname or DEFAULT_HOSTNAME,
        mounts=tuple([_tmpfs(mount, mount.source) for mount in spec.mounts if isinstance(mount.source, TmpfsSource)]),
        resources=spec.resources,
        security=Security(privileged=spec.security is StepSecurity.INSECURE, read_only_root=spec.root_read_only),
        namespaces=Namespaces(network=spec.network_mode or _NETWORKS[spec.network]),
        extra_hosts=spec.extra_hosts,
    )


def process_of(process: StepProcess) -> Process:
    """Return a step's process as a container's."""
    return Process(
        cmd=process.args,
        env=("HOSTNAME", *process.env),  # without a value: a container has it, a step of BuildKit's has not
        working_dir=process.working_dir,
        user=process.user,
        tty=process.tty,
        open_stdin=process.open_stdin,
        console_size=process.console_size,
    )


def _tmpfs(mount: StepMount, source: TmpfsSource) -> Mount:
    return Mount(
        MountType.TMPFS,
        mount.target,
        read_only=mount.read_only,
        tmpfs_size_bytes=source.size_bytes,
        options=_RUN_FROM,
    )


def _check_mounts(mounts: tuple[StepMount, ...]) -> None:
    taken: set[str] = set()
    for mount in mounts:
        target = normal(mount.target)
        if not mount.target.startswith("/") or "\0" in mount.target:
            raise InvalidArgumentError(f"invalid target {mount.target!r} of a step's mount: it is not absolute")
        if target == "/":
            raise InvalidArgumentError("invalid target '/' of a step's mount: that is its root")
        if target in taken:
            raise InvalidArgumentError(f"two mounts of a step have the target {mount.target!r}")
        taken.add(target)
        if isinstance(mount.source, TmpfsSource) and mount.source.size_bytes < 0:
            raise InvalidArgumentError(f"invalid size {mount.source.size_bytes} of the tmpfs at {mount.target!r}")
        if isinstance(mount.source, DirectorySource | SnapshotSource) and "\0" in mount.source.path:
            raise InvalidArgumentError(f"{mount.source.path!r} has a NUL byte in it")


def targets_in_root(spec: StepSpec) -> tuple[str, ...]:
    """Return the targets that must be there in the root itself: those that lie in no other mount."""
    every = [normal(mount.target) for mount in spec.mounts]
    return tuple([target for target in every if not covered(target, every)])


def covered(path: str, targets: list[str]) -> bool:
    """Whether ``path`` lies in what is mounted at one of ``targets``, or in what the kernel shows of itself."""
    return any(path.startswith(f"{target.rstrip('/')}/") for target in (*targets, *_KERNELS_OWN))
