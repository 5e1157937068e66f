"""The init program that ``--init`` puts in front of a command: reaps zombies and passes signals on."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# Statically linked ones alone: the container's own libraries are none of ours.
_CANDIDATES: Final = (
    "/usr/bin/docker-init",
    "/usr/libexec/docker/docker-init",
    "/usr/bin/tini-static",
    "/usr/bin/catatonit",
    "/usr/libexec/podman/catatonit",
)


def find_init(candidates: Sequence[str] = _CANDIDATES) -> str | None:
    """Return the path of the first init program that is installed, or None."""
    found = shutil.which("docker-init")
    return found or next((path for path in candidates if Path(path).is_file()), None)
