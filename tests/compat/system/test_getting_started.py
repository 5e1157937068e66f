"""What guides tell people to type does what they say."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient
from tests.support.engine import SAMPAN, Engine
from tests.support.tools import need

pytestmark = pytest.mark.skipif(TARGET is not None, reason="about this engine")

DOCS = Path(__file__).parents[3] / "docs"


def typed(page: str) -> str:
    """Return all that a page has in its blocks of shell."""
    return "\n".join(re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(), re.DOTALL))


@pytest.mark.parametrize("page", ["getting-started.md", "coming-from-docker.md", "operating.md"])
def test_commands_of_guides_work(engine: Engine, docker: DockerClient, tmp_path: Path, page: str) -> None:
    need("busybox", "tar")
    environment = docker.env() | engine.env()
    environment["PATH"] = f"{SAMPAN.parent}{os.pathsep}{environment['PATH']}"
    environment.pop("DOCKER_HOST")  # pages set it
    script = f"set -eu -o pipefail\n{typed(page)}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    if page == "getting-started.md":
        assert done.stdout.count("hello\n") == 2
        assert done.stdout.rstrip().endswith("built")
