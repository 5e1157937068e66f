"""The versions of the engine and of what runs containers, in the shape that Docker's clients know."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sampan.docker.views.info_view import default_runtime, host_facts
from sampan.json_types import JsonObject
from sampan.resource.stats import HostInfo
from sampan.version import VERSION

# Of the Docker Engine API, the newest and the oldest that are spoken.
NEWEST_API: Final = (1, 52)
# Docker 29 raised its own floor to 1.44 and left many clients behind.
OLDEST_API: Final = (1, 24)

_NOT_APPLICABLE: Final = "n/a"  # clients print what a Go program would say; an empty line looks like a fault


def version_text(version: tuple[int, int]) -> str:
    """Return an API version as Docker writes it."""
    return f"{version[0]}.{version[1]}"


def version_json(host: HostInfo) -> JsonObject:
    """Return what ``version`` shows of the engine; ``BuildTime`` is when it came to this machine. Blocks."""
    facts = host_facts()
    runtime = default_runtime(host)
    python = sys.version.partition(" ")[0]
    engine = {
        "ApiVersion": version_text(NEWEST_API),
        "MinAPIVersion": version_text(OLDEST_API),
        "GitCommit": _NOT_APPLICABLE,
        "GoVersion": f"{_NOT_APPLICABLE} (Python {python})",
        "Os": "linux",
        "Arch": facts.architecture,
        "KernelVersion": facts.kernel,
        "BuildTime": datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC).isoformat(),
    }
    details = engine | {"Experimental": "false", "PythonVersion": python}
    return {
        "Platform": {"Name": "Sampan"},
        "Components": [
            {"Name": "Engine", "Version": VERSION, "Details": details},
            {"Name": "conmon", "Version": host.conmon_version, "Details": {}},
            {"Name": runtime.name, "Version": runtime.version, "Details": {}},
        ],
        "Version": VERSION,
        **engine,
    }
