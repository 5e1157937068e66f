"""Directories below a directory, reached without following a single link."""

import os
from typing import Final

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(root: int, path: bytes) -> int:
    """Return a new descriptor of the directory ``path`` below ``root``: one openat(2) per component, none a link.

    ``path`` is relative, and empty for the root itself; ``..`` is the caller's to refuse.

    Raises:
        FileNotFoundError, NotADirectoryError: a component is missing, or is a link or a file.
    """
    fd = os.open(".", OPEN_DIRECTORY, dir_fd=root)
    if not path:
        return fd
    for name in path.split(b"/"):
        parent = fd
        try:
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
        finally:
            os.close(parent)
    return fd
