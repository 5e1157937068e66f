"""What a tar archive says about one file, after all its header forms have been reduced to one."""

import enum
import os
import stat
from dataclasses import dataclass, field
from typing import Final, Self

# (uid_t)-1 means "leave as it is" to chown(2), so it is nobody's number.
MAX_ID: Final = 2**32 - 2


class EntryType(enum.Enum):
    """Kind of file; the value is the header's type byte."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    CHAR_DEVICE = b"3"
    BLOCK_DEVICE = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


MAX_NAME_BYTES: Final = 4095  # PATH_MAX, which counts a NUL: no program can name more at once

# What containers make directory by directory may be longer, and who copies it from them shall have it. Two such names,
# of a hard link, are half of the MiB that readers take for the header before an entry, Go's and ours among them.
MAX_COPIED_NAME_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may ask of its reader. Each default is far above any real layer."""

    name_bytes: int = MAX_NAME_BYTES
    component_bytes: int = 255  # NAME_MAX
    header_bytes: int = 1 << 20  # the pax headers and GNU long names before one entry
    sparse_parts: int = 1 << 20
    entries: int = 2_000_000
    total_bytes: int = 1 << 40  # of file data, holes included


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive. Names are bytes, as the kernel has them, without a trailing slash."""

    name: bytes
    type: EntryType
    mode: int  # permission, set-id and sticky bits alone
    uid: int
    gid: int
    size: int  # of the file, holes included; 0 for all but FILE
    mtime_ns: int
    link: bytes = b""  # target of HARD_LINK and SYMLINK
    device: tuple[int, int] = (0, 0)  # major and minor, of the two DEVICE types
    xattrs: dict[str, bytes] = field(default_factory=dict)
    # For a sparse file: the parts that hold data, as (offset, length), in order and apart. None: all of it.
    parts: tuple[tuple[int, int], ...] | None = None

    @classmethod
    def of(
        cls,
        name: bytes,
        type: EntryType,
        status: os.stat_result,
        xattrs: dict[str, bytes],
        link: bytes = b"",
        newest_ns: int | None = None,
    ) -> Self:
        """Return what an archive says of a file with this status; one that was changed later has ``newest_ns``."""
        is_device = type in (EntryType.CHAR_DEVICE, EntryType.BLOCK_DEVICE)
        return cls(
            name,
            type,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_size if type is EntryType.FILE else 0,
            status.st_mtime_ns if newest_ns is None else min(status.st_mtime_ns, newest_ns),
            link,
            (os.major(status.st_rdev), os.minor(status.st_rdev)) if is_device else (0, 0),
            xattrs,
        )

    @property
    def shown(self) -> str:
        """The name for a message: printable and not longer than a line."""
        text = self.name.decode(errors="backslashreplace")
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        return repr(text if len(text) <= 120 else f"{text[:120]}…")
