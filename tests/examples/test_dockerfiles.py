"""Dockerfiles of the kinds that people publish, built by Sampan and by others: the images are the same."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.examples.builders import Builder, Example
from tests.examples.kinds import KINDS, TOKEN, Kind, copy_of, licences
from tests.support.docker_client import DockerClient
from tests.support.image_contents import ImageContents, differences, read_image
from tests.support.uplink import Neighbour

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]

AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")

# What a package manager writes differs with the time, whoever builds.
NEVER_THE_SAME: Final = (
    "/var/log",
    "/var/cache/ldconfig/aux-cache",
    "/var/cache/apt/pkgcache.bin",
    "/var/cache/apt/srcpkgcache.bin",
)

# Where the others do something else than BuildKit of today, by builder and kind; "" is every kind.
THEIRS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    # Its fsutil copied no FIFOs, and gave directories on the way of a copy no mode.
    ("dockerd", "copy-link"): ("/opt/made/fifo", "/etc/app"),
    # It leaves the places where secrets were mounted.
    ("dockerd", "secret-token"): ("/etc/tokens", "/run"),
    # It has no ArgsEscaped, keeps the name of the container that ran the steps, and the files that it mounts over.
    ("podman", ""): (
        "config ArgsEscaped",
        "config Hostname",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/run",
    ),
    ("podman", "c-scratch"): ("config WorkingDir",),
    # It removes the directory that a cache was mounted on, with what the base image has there.
    ("podman", "apt-cache"): ("/var/cache/apt", "/var/lib/apt"),
    # It gives a directory that is there the owner of what is copied into it.
    ("podman", "onbuild"): ("/app",),
    ("podman", "python-requirements"): ("/app",),
    # It gives directories on the way of a copy no mode, and leaves the places where secrets were mounted.
    ("podman", "copy-link"): ("/etc/app",),
    ("podman", "secret-token"): ("/etc/tokens",),
}


@pytest.fixture(scope="module")
def server(other_machine: Neighbour) -> Iterator[str]:
    """A server that wants the token, on the address by which every builder gets here."""
    with licences(other_machine.here) as url:
        yield url


@pytest.fixture(scope="module")
def agent(short: Path) -> Iterator[Path]:
    """An agent with one key."""
    path = short / "agent"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "examples", "-f", short / "key"], check=True)
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        subprocess.run(
            ["sh", "-c", "until ssh-add -q key 2>/dev/null; do sleep 0.1; done"],
            cwd=short,
            env=os.environ | {"SSH_AUTH_SOCK": str(path)},
            check=True,
            timeout=60,
        )
        yield path
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Kind], Example]:
    """Return an example as it is built, of a copy of its directory."""

    def make(kind: Kind) -> Example:
        made = Example(copy_of(kind, tmp_path), build_args={"BASE": kind.base})
        if kind.name in ("python-requirements", "node-lock") and AUTHORITIES.exists():
            return replace(made, secrets={"ca": AUTHORITIES})
        if kind.name == "ssh-key":
            return replace(made, agent=request.getfixturevalue("agent"))
        if kind.name == "secret-token":
            token = tmp_path / "token"
            token.write_text(TOKEN)
            server = request.getfixturevalue("server")
            return replace(made, secrets={"token": token}, build_args={"BASE": kind.base, "SERVER": server})
        if kind.name == "onbuild":
            return replace(made, build_args={"LANGUAGE": "language:1", "VERSION": "3"})
        return made

    return make


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Builder, Kind, Example], ImageContents]:
    """Build an example with one builder, and read the image; Sampan's are kept for the next comparison."""
    kept: dict[tuple[str, str], ImageContents] = {}

    def build(builder: Builder, kind: Kind, example: Example) -> ImageContents:
        key = (kind.name, example.dockerfile)
        if builder.name == "sampan" and key in kept:
            return kept[key]
        directory = tmp_path_factory.mktemp(f"{kind.name}-{builder.name}")
        if kind.name == "onbuild":
            language = Example(example.context / "language", build_args={"BASE": kind.base})
            builder.build(language, "language:1", directory / "language.tar")
            if builder.name == "buildkit":
                builder.load(directory / "language.tar", "language:1")
        builder.build(example, f"{kind.name}:1", directory / "image.tar")
        contents = read_image(directory / "image.tar")
        shutil.rmtree(directory)
        if builder.name == "sampan":
            kept[key] = contents
        return contents

    return build


@pytest.mark.parametrize("other", ["buildkit", "dockerd", "podman"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_image_is_the_same_whoever_builds_it(
    kind: Kind,
    other: str,
    example: Callable[[Kind], Example],
    builders: Callable[[str], Builder],
    built: Callable[[Builder, Kind, Example], ImageContents],
    docker: DockerClient,
) -> None:
    prepared = example(kind)
    # dockerd 20.10 and podman 4.3 know neither heredocs nor --link: there is another way to say the same.
    if other != "buildkit" and (prepared.context / "Dockerfile.without").exists():
        prepared = replace(prepared, dockerfile="Dockerfile.without")
    ours = built(builders("sampan"), kind, prepared)
    assert docker("run", "--rm", "--network", "none", f"{kind.name}:1").stdout == kind.says
    theirs = built(builders(other), kind, prepared)
    assert (
        differences(ours, theirs, NEVER_THE_SAME + THEIRS.get((other, ""), ()) + THEIRS.get((other, kind.name), ()))
        == []
    )
