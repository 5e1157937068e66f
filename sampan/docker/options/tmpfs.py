"""File systems in memory, ``/run:size=64m,noexec``, and the options that they have."""

import re
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Mount, MountType

_DEFAULT: Final = ("noexec", "nosuid", "nodev")

_OPPOSITES: Final = (
    ("exec", "noexec"),
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("rw", "ro"),
    ("async", "sync"),
    ("atime", "noatime"),
    ("diratime", "nodiratime"),
    ("relatime", "norelatime"),
    ("strictatime", "nostrictatime"),
    ("bind", "rbind"),
)
_OPPOSITE: Final = dict(_OPPOSITES) | {second: first for first, second in _OPPOSITES}
_PLAIN: Final = frozenset(
    (
        *("defaults", "remount", "dirsync", "mand", "nomand", "private", "rprivate", "shared", "rshared", "slave"),
        *("rslave", "unbindable", "runbindable"),
    )
)
_BYTES: Final = re.compile(r"[0-9]{1,18}[kmgtpeKMGTPE]?|[0-9]{1,3}%")
_ID: Final = re.compile(r"[0-9]{1,10}")
_WITH_VALUE: Final = {
    **dict.fromkeys(("size", "nr_inodes", "nr_blocks"), _BYTES),
    **dict.fromkeys(("uid", "gid"), _ID),
    "mode": re.compile(r"[0-7]{1,7}"),
    **dict.fromkeys(("mpol", "huge"), re.compile(r"[^\0]+")),
}
_MAX_ID: Final = 2**32 - 2  # the last one means none


def parse_tmpfs(target: str, options: str) -> Mount:
    """Return the file system that is asked for with options as in mount(8); ``tmpfs_options`` looks at them."""
    return Mount(MountType.TMPFS, target, options=tuple(word for word in options.split(",") if word))


def tmpfs_options(mount: Mount) -> tuple[str, ...]:
    """Return the options for ``mount``: Docker's defaults, and whatever was asked for instead of them.

    Raises:
        InvalidArgumentError: an option that a tmpfs does not have; in Docker's words.
    """
    asked = [option for text in mount.options for option in text.split(",") if option]
    if mount.tmpfs_size_bytes:
        asked.append(f"size={mount.tmpfs_size_bytes}")
    if mount.tmpfs_mode:
        asked.append(f"mode={mount.tmpfs_mode:o}")
    if mount.read_only:
        asked.append("ro")
    options: dict[str, str] = {name: name for name in _DEFAULT}
    for option in asked:
        name, separator, value = option.partition("=")
        if separator:
            if not _accepts(name, value):
                raise InvalidArgumentError(f'invalid tmpfs option "{option}"')
        elif name in _OPPOSITE:
            options.pop(_OPPOSITE[name], None)
        elif name not in _PLAIN:
            raise InvalidArgumentError(f'invalid tmpfs option "{option}"')
        options.pop(name, None)
        options[name] = option
    return tuple(options.values())


def _accepts(name: str, value: str) -> bool:
    """Whether the kernel takes ``value`` for the option ``name``."""
    pattern = _WITH_VALUE.get(name)
    if pattern is None or not pattern.fullmatch(value):
        return False
    return pattern is not _ID or int(value) <= _MAX_ID
