"""Which mount of the host carries a path, from ``/proc/self/mountinfo`` (proc_pid_mountinfo(5))."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from sampan.sys.mounts import mount_table

_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountInfo:
    """A mount, as far as propagation is concerned."""

    target: str
    shared: bool
    slave: bool


def read_mounts(content: bytes | None = None) -> tuple[MountInfo, ...]:
    """Return all mounts; of two at one place the later one hides the earlier."""
    mounts = []
    for line in mount_table(content):
        fields = line.split(" ")
        tags = fields[6 : fields.index("-", 6)]
        mounts.append(
            MountInfo(
                _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]),
                any(tag.startswith("shared:") for tag in tags),
                any(tag.startswith("master:") for tag in tags),
            )
        )
    return tuple(mounts)


def mount_of(path: str, mounts: Sequence[MountInfo] | None = None) -> MountInfo:
    """Return the mount that ``path``, links resolved, is on."""
    table = read_mounts() if mounts is None else mounts
    real = PurePosixPath(Path(path).resolve())
    best = MountInfo("/", shared=False, slave=False)
    for mount in table:
        if real.is_relative_to(mount.target) and len(mount.target) >= len(best.target):
            best = mount
    return best
