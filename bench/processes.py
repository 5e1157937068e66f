"""What processes cost in memory, read from /proc."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


def with_argument(fragment: str) -> Iterator[tuple[int, str]]:
    """Yield pid and program name of each process that has ``fragment`` in its command line."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            name = (entry / "comm").read_text().strip()
        except OSError:
            continue  # it ended in the meantime
        if fragment in command:
            yield int(entry.name), name


def descendants(pid: int) -> set[int]:
    """Return ``pid`` and everything started below it."""
    found = {pid}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found |= descendants(int(child))
    return found


def rss_bytes(pid: int) -> int:
    """Resident set of a process: what ``ps`` shows."""
    return _smaps(pid, "Rss")


def pss_bytes(pid: int) -> int:
    """Proportional set of a process: pages shared with others count in part."""
    return _smaps(pid, "Pss")


def pss_bytes_if_there(pid: int) -> int:
    """The same of a process that may have ended, and then has none."""
    try:
        return pss_bytes(pid)
    except (OSError, ValueError):
        return 0


def _smaps(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise ValueError(f"process {pid} has no {field}")
