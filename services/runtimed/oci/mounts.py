"""The mounts of a bundle, in the order in which they are made."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtimed.oci.mountinfo import MountInfo, mount_of
from runtimed.protocol import Joins
from sampan.docker.options.mounts import normal
from sampan.docker.options.tmpfs import tmpfs_options
from sampan.errors import StartError
from sampan.resource.container import Container, MountPoint
from sampan.resource.container_spec import MountType

DEFAULT_SHM_BYTES: Final = 64 << 20

_SHM: Final = "/dev/shm"  # noqa: S108  # the container's, not ours

INIT_TARGET: Final = "/sbin/docker-init"

# What /proc shows of the host may be replaced file by file; everything else in it must stay the kernel's, for
# runtimes and security modules talk to the kernel through it.
_REPLACEABLE_IN_PROC: Final = frozenset(
    f"/proc/{name}"
    for name in ("cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps", "uptime")
)


@dataclass(frozen=True, slots=True)
class OciMount:
    """One entry of ``mounts``."""

    destination: str
    type: str
    source: str
    options: tuple[str, ...]

    def oci(self) -> dict[str, object]:
        """Return it as it is written."""
        return {
            "destination": self.destination,
            "type": self.type,
            "source": self.source,
            "options": list(self.options),
        }


@dataclass(frozen=True, slots=True)
class Mounts:
    """All mounts, and the propagation that the root needs for their sake; empty: the default."""

    mounts: tuple[OciMount, ...]
    root_propagation: str = ""


def build_mounts(
    container: Container,
    *,
    files: Path,
    init_path: str | None,
    joins: Joins,
    writable_cgroups: bool = False,
    recursive_read_only: bool = False,
    mount_table: Sequence[MountInfo] | None = None,
) -> Mounts:
    """Return Docker's default mounts and the container's own, parents before what is mounted in them.

    A mount of the container's takes the place of a default one at the same target; one at ``/dev`` that of all
    below it, too. With ``recursive_read_only`` what is mounted below the source of a read-only bind cannot be
    written to either.

    Raises:
        StartError: a target in /proc, or a shared mount whose source is not shared.
        InvalidArgumentError: an unknown tmpfs option.
    """
    spec = container.spec
    own, propagation = _own_mounts(container, mount_table, recursive_read_only=recursive_read_only)
    taken = {mount.destination for mount in own}
    given = [mount for mount in _given_files(files, init_path) if mount.destination not in taken]
    defaults = [
        mount
        for mount in _default_mounts(container, joins, writable_cgroups=writable_cgroups)
        if mount.destination not in taken and not (mount.destination.startswith("/dev/") and "/dev" in taken)
    ]
    if spec.security.read_only_root:
        given = [_read_only(mount) for mount in given]
        defaults = [
            mount if mount.destination in _WRITABLE_ON_READ_ONLY_ROOT else _read_only(mount) for mount in defaults
        ]
    ordered = sorted((*own, *given), key=lambda mount: mount.destination.rstrip("/").count("/"))
    return Mounts((*defaults, *ordered), propagation)


_WRITABLE_ON_READ_ONLY_ROOT: Final = frozenset(("/proc", "/dev", "/dev/pts", _SHM, "/dev/mqueue"))


def _default_mounts(container: Container, joins: Joins, *, writable_cgroups: bool) -> list[OciMount]:
    privileged = container.spec.security.privileged
    sys_access = () if privileged else ("ro",)
    cgroup_access = () if privileged or writable_cgroups else ("ro",)
    host_ipc = container.spec.namespaces.ipc == "host"
    mounts = [
        OciMount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
        OciMount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        OciMount(
            "/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
        ),
        OciMount("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", *sys_access)),
        OciMount("/sys/fs/cgroup", "cgroup", "cgroup", (*cgroup_access, "nosuid", "noexec", "nodev")),
    ]
    if host_ipc and Path("/dev/mqueue").is_mount():
        mounts.append(
            OciMount("/dev/mqueue", "bind", "/dev/mqueue", ("rbind", "rprivate", "nosuid", "noexec", "nodev"))
        )
    elif not (host_ipc and container.spec.namespaces.uid_mappings):  # that one belongs to other users
        mounts.append(OciMount("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")))
    shm = _shm(container, joins)
    return [*mounts, shm] if shm else mounts


def _shm(container: Container, joins: Joins) -> OciMount | None:
    ipc = container.spec.namespaces.ipc
    if ipc == "none":
        return None
    if ipc == "host":
        return OciMount(_SHM, "bind", _SHM, ("rbind", "rprivate", "nosuid", "noexec", "nodev"))
    if joins.shm:
        return OciMount(_SHM, "bind", joins.shm, ("rbind", "rprivate", "nosuid", "noexec", "nodev"))
    size = container.spec.resources.shm_size_bytes or DEFAULT_SHM_BYTES
    return OciMount(_SHM, "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", f"size={size}"))


def _given_files(files: Path, init_path: str | None) -> list[OciMount]:
    given = [
        OciMount(f"/etc/{name}", "bind", str(files / name), ("rbind", "rprivate"))
        for name in ("resolv.conf", "hostname", "hosts")
        if (files / name).exists()
    ]
    if init_path is not None:
        given.append(OciMount(INIT_TARGET, "bind", init_path, ("bind", "ro")))
    return given


def _own_mounts(
    container: Container, mount_table: Sequence[MountInfo] | None, *, recursive_read_only: bool
) -> tuple[list[OciMount], str]:
    asked = {normal(mount.target): mount for mount in container.spec.mounts}
    own: list[OciMount] = []
    propagation = ""
    for point in container.mounts:
        if point.type is MountType.TMPFS:
            continue
        wanted = asked.get(normal(point.target))
        needed = _needed_of_root(point.source, point.propagation, mount_table)
        if wanted and wanted.read_only_force_recursive and not recursive_read_only:
            raise StartError(
                f"mount {point.target}: bind-recursive=readonly needs a kernel that makes all mounts below read-only"
            )
        below = recursive_read_only and not (wanted and wanted.read_only_non_recursive)
        mount = _bind(point, recursive=not (wanted and wanted.non_recursive), all_read_only=below)
        own.append(dataclasses.replace(mount, options=(*mount.options, *wanted.options)) if wanted else mount)
        propagation = max(propagation, needed, key=("", "rslave", "shared").index)
    own += [
        OciMount(target, "tmpfs", "tmpfs", tmpfs_options(tmpfs))
        for target, tmpfs in asked.items()
        if tmpfs.type is MountType.TMPFS
    ]
    for one in own:
        _check_target(one.destination)
    return own, propagation


def _bind(point: MountPoint, *, recursive: bool, all_read_only: bool) -> OciMount:
    options = ["rbind" if recursive else "bind", point.propagation or "rprivate"]
    if not point.read_write:
        options.append("ro")
        if recursive and all_read_only and not _is_file(point.source):
            options.append("rro")  # a runtime that does not know it passes it on as data, which a bind ignores
    return OciMount(normal(point.target), "bind", point.source, tuple(options))


def _is_file(source: str) -> bool:
    """Say whether a source is there and nothing can be mounted below it.

    Of such a one crun 1.8 asks for a directory, if all below is to be read-only, and fails.
    """
    path = Path(source)
    return path.exists() and not path.is_dir()


def _needed_of_root(source: str, propagation: str, mount_table: Sequence[MountInfo] | None) -> str:
    """Return what the root's own propagation must be so that mounts travel; check that they can on the host."""
    if propagation in ("shared", "rshared"):
        carrier = mount_of(source, mount_table)
        if not carrier.shared:
            raise StartError(f"path {source} is mounted on {carrier.target} but it is not a shared mount")
        return "shared"
    if propagation in ("slave", "rslave"):
        carrier = mount_of(source, mount_table)
        if not (carrier.shared or carrier.slave):
            raise StartError(f"path {source} is mounted on {carrier.target} but it is not a shared or slave mount")
        return "rslave"
    return ""


def _check_target(target: str) -> None:
    if target == "/proc" or not target.startswith("/proc/") or target in _REPLACEABLE_IN_PROC:
        return
    raise StartError(f'check proc-safety of {target} mount: "{target}" cannot be mounted because it is inside /proc')


def _read_only(mount: OciMount) -> OciMount:
    if "ro" in mount.options:
        return mount
    return dataclasses.replace(mount, options=(*mount.options, "ro"))


def targets(mounts: Iterable[OciMount]) -> tuple[str, ...]:
    """Return where things are mounted."""
    return tuple(mount.destination for mount in mounts)
