"""The ways to an image that are compared: the docker command with BuildKit, docker-py with the classic builder, podman.

dockerd and Sampan are asked by the same program with the same words, so what the client itself takes is in both times.
"""

import functools
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import docker

from bench.engines import Engine
from bench.measure import Unmeasured
from tests.support.tools import search_path

_TIMEOUT_S = 900


def by_buildkit(engine: Engine, context: Path, tag: str) -> float:
    """Build ``context`` with the docker command and BuildKit, or with podman; return the seconds."""
    begin = time.monotonic()
    if engine.name == "podman":
        engine("build", "--tls-verify=false", *engine.run_options, "--tag", tag, str(context))
    else:
        command = [_docker(), "build", "--progress=plain", "--tag", tag, str(context)]
        env = engine.env() | {"DOCKER_BUILDKIT": "1"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_TIMEOUT_S)
        if done.returncode != 0:
            raise RuntimeError(f"{engine.name}: build of {context}: {(done.stdout + done.stderr).strip()[-1000:]}")
    return time.monotonic() - begin


def by_classic_builder(engine: Engine, context: Path, tag: str) -> float:
    """Send the tar ``context`` with docker-py, which asks for the classic builder; return the seconds.

    Raises:
        Unmeasured: the engine serves no Docker API here.
    """
    if engine.api_socket is None:
        raise Unmeasured
    begin = time.monotonic()
    client = docker.APIClient(base_url=f"unix://{engine.api_socket}", timeout=_TIMEOUT_S)
    try:
        with context.open("rb") as archive:
            lines: list[dict[str, Any]] = list(
                client.build(fileobj=archive, custom_context=True, tag=tag, rm=True, decode=True)
            )
    finally:
        client.close()
    if errors := [line["error"] for line in lines if "error" in line]:
        raise RuntimeError(f"{engine.name}: build of {context}: {errors[0]}")
    return time.monotonic() - begin


@functools.cache
def _docker() -> str:
    """Return a docker command that has BuildKit's client in it, or buildx: not every one on PATH can build so."""
    candidates = [Path(folder) / "docker" for folder in search_path().split(os.pathsep)]
    for candidate in filter(Path.exists, candidates):
        asked = subprocess.run(
            [candidate, "build", "--help"], env=os.environ | {"DOCKER_BUILDKIT": "1"}, capture_output=True
        )
        if asked.returncode == 0:
            return str(candidate)
    raise RuntimeError("no docker command on PATH can build with BuildKit")
