"""Those who build the examples: Sampan, dockerd's BuildKit, BuildKit of today, podman; each with images of its own."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.engines import Engine as Other
from tests.support.docker_client import DockerClient
from tests.support.go_clients import GoClient

_BUILD_S = 900  # packages are fetched and installed, perhaps on a busy machine


@dataclass(frozen=True, slots=True)
class Example:
    """A directory that an image is made of."""

    context: Path
    dockerfile: str = "Dockerfile"
    build_args: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)
    agent: Path | None = None

    def arguments(self) -> list[str]:
        """Return how ``docker build`` is told of it; the other builders' commands are alike."""
        told = ["--network", "host", "--file", str(self.context / self.dockerfile)]
        told += [f"--build-arg={name}={value}" for name, value in self.build_args.items()]
        told += [f"--secret=id={name},src={path}" for name, path in self.secrets.items()]
        return [*told, *(["--ssh=default"] if self.agent else [])]

    def env(self) -> dict[str, str]:
        """Return the environment of whoever builds."""
        return {"SSH_AUTH_SOCK": str(self.agent)} if self.agent else {}


class Builder(Protocol):
    """Build images, from others that were loaded."""

    @property
    def name(self) -> str: ...

    def load(self, archive: Path, name: str) -> None:
        """Know the image of an archive of ``docker save`` by its name."""

    def build(self, example: Example, name: str, archive: Path) -> None:
        """Build, and write the image to an archive."""


@dataclass(frozen=True, slots=True)
class Sampan:
    """This engine, driven by buildx as users have it."""

    docker: DockerClient
    buildx: GoClient
    name: str = "sampan"

    def load(self, archive: Path, name: str) -> None:
        """Load it."""
        self.docker("load", "--input", str(archive), timeout=120)
        assert self.docker("images", "--quiet", name).line

    def build(self, example: Example, name: str, archive: Path) -> None:
        """Build with the docker driver, and save."""
        command = ("build", "--progress", "plain", "--tag", name, *example.arguments(), ".")
        self.buildx(
            *command, cwd=example.context, timeout=_BUILD_S, env={"DOCKER_HOST": self.docker.host, **example.env()}
        )
        self.docker("save", "--output", str(archive), name, timeout=120)


@dataclass(frozen=True, slots=True)
class Dockerd:
    """Debian's dockerd with the BuildKit that is in it, driven by the client that came with it."""

    engine: Other
    name: str = "dockerd"

    def load(self, archive: Path, name: str) -> None:
        """Load it."""
        self.engine("load", "--input", str(archive))
        assert self.engine("images", "--quiet", name)

    def build(self, example: Example, name: str, archive: Path) -> None:
        """Build, and save."""
        env = {"DOCKER_BUILDKIT": "1", **example.env()}
        command = ["/usr/bin/docker", "build", "--progress=plain", "--tag", name, *example.arguments(), "."]
        _run(command, example.context, self.engine.env() | env)
        self.engine("save", "--output", str(archive), name)


@dataclass(frozen=True, slots=True)
class Podman:
    """podman, which is buildah as far as builds go."""

    engine: Other
    name: str = "podman"

    def load(self, archive: Path, name: str) -> None:
        """Load it."""
        self.engine("load", "--input", str(archive))
        assert self.engine("images", "--quiet", name)

    def build(self, example: Example, name: str, archive: Path) -> None:
        """Build in Docker's format, since OCI's has no health checks and no triggers; save."""
        command = self.engine.command(
            "build",
            "--format=docker",
            "--layers",
            "--identity-label=false",
            "--tag",
            name,
            *self.engine.run_options,
            *example.arguments(),
            ".",
        )
        _run(command, example.context, self.engine.env() | example.env())
        self.engine("save", "--quiet", "--format=docker-archive", "--output", str(archive), name)


@dataclass(slots=True)
class BuildKit:
    """buildkitd of today. It has no images: each one that it builds from is a directory beside the context."""

    buildx: GoClient
    directory: Path
    name: str = "buildkit"
    layouts: dict[str, str] = field(default_factory=dict)

    def load(self, archive: Path, name: str) -> None:
        """Unpack it: Sampan's archives are layouts of OCI's, too."""
        layout = self.directory / f"layout-{len(self.layouts)}"
        layout.mkdir(parents=True)
        subprocess.run(["tar", "--extract", "--file", archive, "--directory", layout], check=True)
        (manifest,) = json.loads((layout / "index.json").read_text())["manifests"]
        self.layouts[name] = f"oci-layout://{layout}@{manifest['digest']}"

    def build(self, example: Example, name: str, archive: Path) -> None:
        """Build, and let the exporter write the archive."""
        contexts = [f"--build-context={known}={where}" for known, where in self.layouts.items()]
        output = f"--output=type=docker,name={name},dest={archive}"
        self.buildx(
            "build", "--progress", "plain", "--provenance=false", "--allow=network.host", output, *contexts,
            *example.arguments(), ".",
            cwd=example.context, timeout=_BUILD_S, env=example.env(),
        )  # fmt: skip


def _run(command: Sequence[str], directory: Path, env: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, **env}, capture_output=True, text=True, timeout=_BUILD_S
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
