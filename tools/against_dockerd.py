"""Run the compatibility tests against dockerd, to see whether a test asks for what Docker does.

``.venv/bin/python -m tools.against_dockerd [pytest arguments]``; dockerd works in a network namespace of its own.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.engines import dockerd
from bench.netns import network_namespace


def main(arguments: list[str]) -> int:
    """Start dockerd, run pytest on tests/compat, and return its exit code."""
    with (
        tempfile.TemporaryDirectory(prefix="sb", dir="/tmp") as directory,
        network_namespace() as namespace,
        dockerd(Path(directory), namespace) as engine,
    ):
        target = {"SAMPAN_TEST_TARGET": engine.environment["DOCKER_HOST"]}
        command = [sys.executable, "-m", "pytest", *(arguments or ["tests/compat"])]
        return subprocess.run(namespace.enter(*command), env=os.environ | target).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
