"""Bases that are for another machine than the build: taken, with a warning, if no index says what else there is."""

import struct
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient
from tests.support.go_clients import GoClient
from tests.support.images import Entry, Image, layer, push, push_index, tar
from tests.support.registry import Registry

pytestmark = pytest.mark.root

BUILD = ("build", "--progress", "plain", "--provenance=false")

# Nobody has an emulator for the machine of the image, nor for that of the program in it (EM_M32).
ARCHITECTURE = "ppc64"
_PROGRAM = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 1, 1, 0, 0, 0, 0, 64, 56, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def foreign() -> Image:
    """Return an image whose shell no kernel starts."""
    files = tar(Entry("bin/sh", _PROGRAM, mode=0o755), Entry("theirs", b"theirs"))
    return Image([layer(files)], architecture=ARCHITECTURE)


def test_files_are_copied_onto_one_and_it_stays_what_it_is(
    buildx: GoClient, docker: DockerClient, registry: Registry, foreign: Image, context: Path
) -> None:
    base, made = f"{registry.address}/foreign:1", f"{registry.address}/foreign-made:1"
    push(registry, "foreign", "1", foreign)
    (context / "own").write_text("own")
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY own /\n")
    shown = buildx(*BUILD, "-o", "type=image", "-t", made, ".", cwd=context).stderr
    assert (
        f'InvalidBaseImagePlatform: Base image {base} was pulled with platform "linux/{ARCHITECTURE}", expected "linux/'
        in shown
    )
    platform = ("image", "inspect", "--format", "{{.Os}}/{{.Architecture}}", made)
    assert docker(*platform).line == f"linux/{ARCHITECTURE}"
    # One that is here, and not in its registry, is a base no less.
    (context / "Dockerfile").write_text(f"FROM {made} AS made\nFROM scratch\nCOPY --from=made /own /theirs /\n")
    shown = buildx(*BUILD, "-o", "out", ".", cwd=context).stderr
    assert f"InvalidBaseImagePlatform: Base image {made} was pulled" in shown
    assert {each.name: each.read_text() for each in (context / "out").iterdir()} == {"own": "own", "theirs": "theirs"}
    # Who names a platform gets a result of that.
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY own /\n")
    buildx(*BUILD, "--platform", "linux/amd64", "-o", "type=image", "-t", made, ".", cwd=context)
    assert docker(*platform).line == "linux/amd64"
    docker("rmi", made)


def test_a_program_of_one_fails_as_the_kernel_says(
    buildx: GoClient, registry: Registry, foreign: Image, context: Path
) -> None:
    push(registry, "foreign", "1", foreign)
    (context / "Dockerfile").write_text(f"FROM {registry.address}/foreign:1\nRUN echo never\n")
    failed = buildx.fails(*BUILD, ".", cwd=context)
    assert failed.code == 1
    assert "exec format error" in failed.stderr
    assert 'process "/bin/sh -c echo never" did not complete successfully' in failed.stderr


def test_an_index_that_has_nothing_for_the_build_is_refused(
    buildx: GoClient, registry: Registry, foreign: Image, context: Path
) -> None:
    push_index(registry, "foreign", "index", [foreign])
    (context / "Dockerfile").write_text(f"FROM {registry.address}/foreign:index\n")
    failed = buildx.fails(*BUILD, ".", cwd=context)
    assert failed.code == 1
    assert "no match for platform in manifest: not found" in failed.stderr
