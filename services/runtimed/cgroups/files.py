"""Read the kernel's small files. A cgroup may vanish between two reads: what cannot be read is empty."""

import os


def text(path: str) -> str:
    """Return the content of a cgroup file, or an empty string."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        parts = []
        while part := os.read(descriptor, 65536):
            parts.append(part)
        return b"".join(parts).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def number(path: str) -> int:
    """Return the number in the file; 0 for none and for ``max``."""
    content = text(path).strip()
    return int(content) if content.isdigit() else 0


def table(path: str) -> dict[str, int]:
    """Return a file of lines ``name number``."""
    rows = {}
    for line in text(path).splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit():
            rows[name] = int(value)
    return rows
