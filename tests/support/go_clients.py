"""BuildKit's and Kubernetes' own clients, built from their Go modules when a test first asks, kept in ``.cache/go``.

Each is built in a module of its own, which nothing of ours depends on. ``make clean`` removes them.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.docker_client import Result, result_of

_CACHE: Final = Path(__file__).parents[2] / ".cache/go"
_SOURCES: Final = Path(__file__).parent / "go"
_BUILD_S: Final = 1800  # all modules are fetched and compiled

# A module that another one's source tree holds.
_STAGED: Final = re.compile(r"^\s*(\S+) => \./staging/", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Program:
    """A program of a module; ``source`` is a directory of ours that uses the module.

    ``tests``: the program is the package's tests. ``staged``: the version of the modules that the module's own source
    tree holds beside it. ``stamp``: the variable that tells the program its version, which other programs ask it for.
    """

    module: str
    version: str
    package: str = ""
    source: str = ""
    tests: bool = False
    staged: str = ""
    stamp: str = ""


PROGRAMS: Final = {
    "buildctl": Program("github.com/moby/buildkit", "v0.34.2", "github.com/moby/buildkit/cmd/buildctl"),
    "buildkitd": Program("github.com/moby/buildkit", "v0.34.2", "github.com/moby/buildkit/cmd/buildkitd"),
    "buildx": Program(
        "github.com/docker/buildx",
        "v0.38.2",
        "github.com/docker/buildx/cmd/buildx",
        stamp="github.com/docker/buildx/version.Version",
    ),
    "compose": Program(
        "github.com/docker/compose/v2",
        "v2.40.3",
        "github.com/docker/compose/v2/cmd",
        stamp="github.com/docker/compose/v2/internal.Version",
    ),
    "coredns": Program("github.com/coredns/coredns", "v1.15.0", source="coredns"),
    "crictl": Program("sigs.k8s.io/cri-tools", "v1.37.0", "sigs.k8s.io/cri-tools/cmd/crictl"),
    "critest": Program("sigs.k8s.io/cri-tools", "v1.37.0", "sigs.k8s.io/cri-tools/cmd/critest", tests=True),
    "kubelet": Program("k8s.io/kubernetes", "v1.37.2", "k8s.io/kubernetes/cmd/kubelet", staged="v0.37.2"),
    "kubernetes": Program("k8s.io/kubernetes", "v1.37.2", source="kubernetes", staged="v0.37.2"),
    "frontend": Program("github.com/moby/buildkit", "v0.34.2", source="frontend"),
    "attestations": Program("github.com/moby/buildkit", "v0.34.2", source="attestations"),
    "descriptors": Program("github.com/moby/buildkit", "v0.34.2", source="descriptors"),
}


def go_program(name: str) -> Path:
    """Return a program, which is built if it is not there; without Go the test that asks is skipped."""
    go = shutil.which("go", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/go/bin")))
    if go is None:
        pytest.skip("Go is not installed")
    wanted = PROGRAMS[name]
    directory = _CACHE / f"{name}-{wanted.version}"
    binary = directory / name
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists() or _is_older(binary, wanted) or _built_as(directory) != repr(wanted):
            _build(go, name, wanted, directory)
            (directory / "program").write_text(repr(wanted))
    return binary


def _built_as(directory: Path) -> str:
    try:
        return (directory / "program").read_text()
    except FileNotFoundError:
        return ""


def _is_older(binary: Path, wanted: Program) -> bool:
    sources = (_SOURCES / wanted.source).glob("*.go") if wanted.source else ()
    return any(source.stat().st_mtime > binary.stat().st_mtime for source in sources)


def _build(go: str, name: str, wanted: Program, directory: Path) -> None:
    def run(*arguments: str) -> str:
        # The toolchain that a module asks for is a module, too.
        env = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "auto", "GOWORK": "off", "CGO_ENABLED": "0"}
        done = subprocess.run(
            [go, *arguments], cwd=directory, env=env, capture_output=True, text=True, timeout=_BUILD_S
        )
        if done.returncode:
            pytest.fail(f"go {' '.join(arguments)}: {done.stderr[-2000:]}", pytrace=False)
        return done.stdout

    (directory / "go.mod").write_text("module sampan.test/clients\n\ngo 1.24\n")
    (directory / "go.sum").unlink(missing_ok=True)
    if wanted.staged:
        told = json.loads(run("mod", "download", "-json", f"{wanted.module}@{wanted.version}"))
        with (directory / "go.mod").open("a") as file:
            for module in _STAGED.findall(Path(told["GoMod"]).read_text()):
                file.write(f"\nreplace {module} => {module} {wanted.staged}\n")
    package = wanted.package
    if wanted.source:
        package = "./main"
        shutil.copytree(_SOURCES / wanted.source, directory / "main", dirs_exist_ok=True)
    # Of a program that is tests, what the tests import as well.
    run("get", *(("-t",) if wanted.tests else ()), f"{wanted.package or wanted.module}@{wanted.version}")
    stamped = (f"-ldflags=-X {wanted.stamp}={wanted.version}",) if wanted.stamp else ()
    run(*(("test", "-c") if wanted.tests else ("build",)), *stamped, "-o", f"{name}.new", package)
    (directory / f"{name}.new").rename(directory / name)


@dataclass(frozen=True, slots=True)
class GoClient:
    """A client of the builder that listens on ``socket``, with a home of its own."""

    program: Path
    home: Path
    before: tuple[str, ...] = ()

    def __call__(
        self, *arguments: str, cwd: Path, timeout: float = 120, env: Mapping[str, str] | None = None
    ) -> Result:
        """Run it; it must succeed."""
        result = self.fails(*arguments, cwd=cwd, timeout=timeout, env=env)
        assert result.code == 0, f"{self.program.name} {' '.join(arguments)}: {result.code}\n{result.stderr}"
        return result

    def fails(self, *arguments: str, cwd: Path, timeout: float = 120, env: Mapping[str, str] | None = None) -> Result:
        """Run it, whatever its exit code."""
        own = {"HOME": str(self.home), "DOCKER_CONFIG": str(self.home), "BUILDX_CONFIG": str(self.home / "buildx")}
        done = subprocess.run(
            [self.program, *self.before, *arguments],
            cwd=cwd,
            env={**os.environ, **own, **(env or {})},
            capture_output=True,
            timeout=timeout,
        )
        return result_of(done)
