"""Memory that was needed once goes back to the kernel.

Reference: malloc_trim(3), madvise(2), proc_pid_smaps(5).
"""

import ctypes
import re
from pathlib import Path
from typing import Final

from sampan.sys.libc import LIBC

_MADV_DONTNEED: Final = 4
_MAPPING: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-[-x]p [0-9a-f]+ \S+ (\d+)")


def trim() -> None:
    """Give back what was freed: the pieces of a large blob stay with every thread's arena otherwise."""
    give_back = getattr(LIBC, "malloc_trim", None)  # musl has none, and needs none
    if give_back is not None:
        give_back(0)


def drop_clean_pages() -> None:
    """Unmap what was read from files: most of it ran at start-up and never again.

    The pages stay in the kernel's cache; one that is needed after all comes back from there within a microsecond. A
    mapping that is writable or has pages of its own (relocated data) keeps everything: those could not come back.
    """
    try:
        text = Path("/proc/self/smaps").read_text()
    except OSError:
        return  # a kernel without smaps: nothing is lost but the saving
    # All calls in a row: whatever else runs in between brings its own pages back.
    for start, size in [(ctypes.c_void_p(start), ctypes.c_size_t(size)) for start, size in _clean_mappings(text)]:
        LIBC.madvise(start, size, _MADV_DONTNEED)


def _clean_mappings(smaps: str) -> list[tuple[int, int]]:
    """Return start and size of each mapping of a file that is not writable and has no page of its own."""
    found: list[tuple[int, int]] = []
    mapping: re.Match[str] | None = None
    for line in smaps.splitlines():
        match = _MAPPING.match(line)
        if match is not None or " " in line.partition(":")[0]:
            mapping = match if match is not None and match[3] != "0" else None
        elif mapping is not None and line.startswith("Anonymous:"):
            if line.split()[1] == "0":
                start, end = (int(part, 16) for part in mapping.group(1, 2))
                found.append((start, end - start))
            mapping = None
    return found
