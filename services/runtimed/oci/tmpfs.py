"""Options of a tmpfs in a container, from ``--tmpfs`` and ``--mount type=tmpfs``."""

from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Mount

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
_WITH_VALUE: Final = frozenset(("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"))


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
        name, separator, _ = option.partition("=")
        if separator:
            if name not in _WITH_VALUE or option.endswith("="):
                raise InvalidArgumentError(f'invalid tmpfs option "{option}"')
        elif name in _OPPOSITE:
            options.pop(_OPPOSITE[name], None)
        elif name not in _PLAIN:
            raise InvalidArgumentError(f'invalid tmpfs option "{option}"')
        options.pop(name, None)
        options[name] = option
    return tuple(options.values())
