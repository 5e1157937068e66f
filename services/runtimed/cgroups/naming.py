"""How containers' control groups are named, and who makes them: the OCI runtime itself, or systemd at its request.

A path alone tells which: what ends in ``….scope`` is a unit of systemd's, anything else a directory that the runtime
makes. So containers keep the driver that they were made with, whatever the engine is told later.
"""

import enum
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from sampan.errors import InvalidArgumentError

_SLICE: Final = ".slice"
_SCOPE: Final = ".scope"
_ROOT: Final = "-.slice"

# Where dockerd has its containers with this driver.
_DEFAULT_SLICE: Final = "system.slice"

# sd_booted(3): it is there if and only if systemd is the machine's init.
BOOTED: Final = Path("/run/systemd/system")


class CgroupDriver(enum.Enum):
    """Who makes control groups; the word of Docker and kubelet."""

    CGROUPFS = "cgroupfs"
    SYSTEMD = "systemd"


def read_driver(name: str, booted: Path = BOOTED) -> CgroupDriver:
    """Return the driver that is configured.

    Raises:
        InvalidArgumentError: there is none of that name, or it is systemd, which is not this machine's init.
    """
    try:
        driver = CgroupDriver(name)
    except ValueError:
        raise InvalidArgumentError(f"cgroup_driver is {name!r}: cgroupfs and systemd are known") from None
    if driver is CgroupDriver.SYSTEMD and not booted.is_dir():
        raise InvalidArgumentError(
            f"cgroup_driver is systemd, which is not the init of this machine ({booted} is not there): say cgroupfs"
        )
    return driver


@dataclass(frozen=True, slots=True)
class CgroupNames:
    """Names the groups of an engine's containers."""

    engine: str  # ``Layout.kernel_name``
    driver: CgroupDriver = CgroupDriver.CGROUPFS

    def path(self, id: str, parent: str = "", *, owned: bool = False) -> str:
        """Return the group that a container gets; absolute, at the root of each tree.

        ``owned``: the parent is kubelet's, which names a slice by its name or its path.

        Raises:
            InvalidArgumentError: the parent is no slice, which systemd needs; in Docker's words.
        """
        name = f"{self.engine}-{id}{_SCOPE}" if self.driver is CgroupDriver.SYSTEMD else id
        above = self.parent_path(parent, owned=owned)
        return f"{above}/{name}" if above != "/" else f"/{name}"

    def parent_path(self, parent: str = "", *, owned: bool = False) -> str:
        """Return the group above a container's. Raises as ``path``."""
        if self.driver is CgroupDriver.SYSTEMD:
            above = slice_path(_slice_of(parent or _DEFAULT_SLICE, owned=owned))
        else:
            above = slice_path(parent or self.engine) if owned else parent or self.engine
        return f"/{above.strip('/')}"

    @property
    def steps(self) -> str:
        """The group of all builds' steps that name no parent, but for those in scopes."""
        return f"/{self.engine}/steps"

    def of_step(self, id: str, parent: str = "") -> str:
        """Return the group of a build's step. Raises as ``path``."""
        if self.driver is CgroupDriver.SYSTEMD:
            return self.path(id, parent)
        return f"/{parent.strip('/')}/{id}" if parent.strip("/") else f"{self.steps}/{id}"


def _slice_of(parent: str, *, owned: bool) -> str:
    name = PurePosixPath(parent).name if owned else parent
    words = name.removesuffix(_SLICE).split("-")
    if name != _ROOT and (not name.endswith(_SLICE) or "/" in name or not all(words)):
        raise InvalidArgumentError('cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"')
    return name


def slice_path(parent: str) -> str:
    """Return the group that a parent names, which may be a slice of systemd's.

    ``a-b.slice`` is below ``a.slice``; ``-.slice`` is the root.
    """
    name = parent.removesuffix(_SLICE)
    if name == parent or "/" in name:
        return parent
    if name == "-":
        return "/"
    words = name.split("-")
    return "/".join(f"{'-'.join(words[: count + 1])}{_SLICE}" for count in range(len(words)))


def is_scope(path: str) -> bool:
    """Whether systemd makes the group at a path."""
    return path.endswith(_SCOPE)


def is_of(path: str, id: str) -> bool:
    """Whether a path is the whole name of a container's or a step's group."""
    return path.endswith((f"/{id}", f"-{id}{_SCOPE}"))


def oci_path(path: str) -> str:
    """Return what a bundle says of a group: its path, or ``slice:prefix:name`` of a scope."""
    if not is_scope(path):
        return path
    group = PurePosixPath(path)
    prefix, _, name = group.stem.rpartition("-")
    return f"{group.parent.name or _ROOT}:{prefix}:{name}"
