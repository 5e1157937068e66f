"""``sampan manifest`` beside ``docker manifest``: the same words, files and bytes; each goes on where the other was."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.compat.conftest import TARGET
from tests.compat.image.test_image_operations import skopeo
from tests.support import images
from tests.support.docker_client import DockerClient, Result, result_of
from tests.support.engine import SAMPAN, Engine
from tests.support.images import OCI_INDEX, Entry, Image, layer, sha256, tar
from tests.support.registry import Registry, run_registry
from tests.support.tools import need
from tests.support.trees import busybox_image

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(TARGET is not None, reason="docker manifest talks to registries, not to the engine"),
]

ARM64 = Image([layer(tar(Entry("arm64", b"64")))], oci=True, architecture="arm64", variant="v8")
ARM = Image([layer(tar(Entry("arm", b"<32>")))], architecture="arm", variant="v7")


@dataclass(frozen=True, slots=True)
class Manifests:
    """A command with a directory of lists of its own."""

    program: tuple[str, ...]
    config: Path
    environment: Mapping[str, str]

    def __call__(self, *arguments: str) -> Result:
        env = dict(os.environ) | dict(self.environment) | {"DOCKER_CONFIG": str(self.config)}
        done = result_of(subprocess.run([*self.program, *arguments], capture_output=True, timeout=60, env=env))
        return replace(done, stderr=done.stderr.replace("sampan: ", ""))

    def files(self) -> dict[str, object]:
        """Return what it keeps, by path."""
        kept = [path for path in self.config.joinpath("manifests").rglob("*") if path.is_file()]
        return {str(path.relative_to(self.config)): json.loads(path.read_text()) for path in kept}


@dataclass(frozen=True, slots=True)
class Both:
    """The same command, given to docker and to sampan."""

    docker: Manifests
    sampan: Manifests

    def __call__(self, *arguments: str) -> Result:
        """Return what both said and left: the same."""
        theirs, ours = self.docker(*arguments), self.sampan(*arguments)
        assert ours == theirs, arguments
        assert self.sampan.files() == self.docker.files(), arguments
        return ours


@pytest.fixture
def both(engine: Engine, tmp_path: Path) -> Both:
    need("docker")
    env = engine.env() | {"COLUMNS": "200"}
    return Both(
        Manifests(("docker", "manifest"), tmp_path / "docker", env),
        Manifests((str(SAMPAN), "manifest"), tmp_path / "sampan", env),
    )


@pytest.fixture
def app(registry: Registry, unique: Callable[[str], str]) -> str:
    """A repository with an image for each of two platforms; that of a third is beside it, in ``…-arm``."""
    repository = unique("list")
    images.push(registry, repository, "amd64", replace(busybox_image(), oci=True))
    images.push(registry, repository, "arm64", ARM64)
    images.push(registry, f"{repository}-arm", "1", ARM)
    return f"{registry.address}/{repository}"


def test_lists_are_made_annotated_shown_and_pushed_alike(both: Both, app: str, registry: Registry) -> None:
    parts = (f"{app}:amd64", f"{app}:arm64")
    assert both("create", "--insecure", f"{app}:1", *parts).line == f"Created manifest list {app}:1"
    assert both("create", "--insecure", f"{app}:1", *parts).code == 1
    both("create", "--insecure", "--amend", f"{app}:1", f"{app}-arm:1")
    shown = json.loads(both("inspect", f"{app}:1").stdout)
    assert [each["platform"]["architecture"] for each in shown["manifests"]] == ["amd64", "arm", "arm64"]
    both("annotate", f"{app}:1", f"{app}:arm64", "--os-version", "<10>", "--os-features", "a,b", "--os-features", "a")
    both("annotate", f"{app}:1", f"{app}:arm64", "--arch", "arm", "--variant", "v6", "--os", "linux")
    for flags in ((), ("-v",)):
        both("inspect", *flags, f"{app}:1")
        both("inspect", *flags, f"{app}:1", f"{app}:arm64")
    pushed = both("push", "--insecure", f"{app}:1")
    arm = sha256(ARM.manifest())
    assert pushed.lines[:-1] == [f"Pushed ref {app}@{arm} with digest: {arm}"]
    both("push", "--purge", f"{app}:1")
    assert both.sampan.files() == {}
    for flags in ((), ("--verbose",)):
        shown = json.loads(both("inspect", "--insecure", *flags, f"{app}:1").stdout)
    assert [each["Descriptor"]["platform"].get("variant") for each in shown] == [None, "v7", "v6"]
    both("inspect", "--insecure", f"{app}:amd64")
    both("inspect", "--insecure", "--verbose", f"{app}@{arm}")
    assert both("rm", f"{app}:1", f"{app}:1").code == 1
    with registry.session() as session:
        path = f"{registry.url}/v2/{app.partition('/')[2]}/manifests/{pushed.lines[-1]}"
        content = session.get(path, headers={"Accept": OCI_INDEX}, timeout=60).content
    assert sha256(content) == pushed.lines[-1]


def test_names_without_a_registry_and_with_a_digest_are_files_alike(both: Both, app: str) -> None:
    digest = sha256(ARM64.manifest())
    both("create", "--insecure", f"{app}:d", f"{app}@{digest}")
    both("annotate", f"{app}:d", f"{app}@{digest}", "--variant", "v9")
    both("rm", f"{app}:d")
    both("inspect", "nosuch-list", f"{app}:amd64")


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--insecure", "APP:x", "APP:nosuch"),
        ("create", "--insecure", "APP:x", "APP:2"),
        ("inspect", "--insecure", "APP:nosuch"),
        ("inspect", "APP:2", "APP:nosuch"),
        ("annotate", "APP:2", "APP:nosuch", "--arch", "arm"),
        ("annotate", "APP:nosuch", "APP:amd64", "--arch", "arm"),
        ("annotate", "APP:2", "APP:amd64", "--arch", "vax"),
        ("push", "APP:nosuch"),
        ("rm", "APP:nosuch"),
    ],
)
def test_what_cannot_be_is_refused_in_the_same_words(both: Both, app: str, arguments: tuple[str, ...]) -> None:
    both("create", "--insecure", f"{app}:2", f"{app}:amd64")
    both("push", f"{app}:2")  # so that the name is a list at the registry, too
    refused = both(*(each.replace("APP", app) for each in arguments))
    assert (refused.code, bool(refused.stderr)) == (1, True)


def test_list_of_another_registrys_images_is_refused(both: Both, app: str) -> None:
    both("create", "--insecure", "127.0.0.1:1/other:1", f"{app}:amd64")
    for arguments in (("inspect",), ("push", "--insecure")):
        refused = both(*arguments, "127.0.0.1:1/other:1")
        assert "cannot use source images from a different registry than the target image" in refused.stderr


def test_either_command_goes_on_where_the_other_was(both: Both, app: str) -> None:
    shared = replace(both.sampan, config=both.docker.config)
    assert both.docker("create", "--insecure", f"{app}:3", f"{app}:amd64").code == 0
    assert shared("create", "--amend", f"{app}:3", f"{app}:arm64").code == 0
    assert both.docker("annotate", f"{app}:3", f"{app}:arm64", "--variant", "v7").code == 0
    assert shared("inspect", f"{app}:3") == both.docker("inspect", f"{app}:3")
    theirs = both.docker("push", "--insecure", f"{app}:3")
    assert (theirs.code, shared("push", "--purge", f"{app}:3")) == (0, theirs)
    assert both.docker("rm", f"{app}:3").code == 1


def test_what_is_pushed_is_an_image_for_each_platform(both: Both, app: str, docker: DockerClient) -> None:
    both.sampan("create", f"{app}:all", f"{app}:amd64", f"{app}:arm64", f"{app}-arm:1")
    digest = both.sampan("push", f"{app}:all").lines[-1]
    docker("pull", "--quiet", f"{app}:all")
    assert docker("run", "--rm", "--network", "none", f"{app}:all", "echo", "hi").line == "hi"
    docker("pull", "--quiet", "--platform", "linux/arm/v7", f"{app}:all")
    docker("rmi", "--force", f"{app}:all", ARM.id)
    flags = ("--tls-verify=false", "--override-arch", "arm64", "--override-variant", "v8")
    assert json.loads(skopeo("inspect", *flags, f"docker://{app}:all"))["Architecture"] == "arm64"
    if docker.fails("buildx", "version").code == 0:
        shown = docker("buildx", "imagetools", "inspect", "--raw", f"{app}:all").stdout
        assert sha256(shown.encode()) == digest


def test_registry_with_a_certificate_of_its_own_is_taken_by_insecure_alone(both: Both, tmp_path: Path) -> None:
    with run_registry(tmp_path / "tls", tls=True) as registry:
        images.push(registry, "app", "1", replace(busybox_image(), oci=True))
        # By a name that is not taken for insecure anyway.
        name = f"{os.uname().nodename}:{registry.address.rpartition(':')[2]}/app"
        refused = both.sampan("create", f"{name}:list", f"{name}:1")
        assert (refused.code, both.sampan.files()) == (1, {}), refused
        made = both.sampan("create", "--insecure", f"{name}:list", f"{name}:1")
        if "connection refused" in made.stderr.lower():
            pytest.skip("this machine's name does not lead to its loopback")
        assert made.line == f"Created manifest list {name}:list"
        assert both.sampan("push", f"{name}:list").code == 1
        assert both.sampan("push", "--insecure", f"{name}:list").code == 0


def test_index_with_attestations_is_shown_alike(both: Both, app: str, registry: Registry) -> None:
    repository = app.partition("/")[2]
    attestation = {
        **images.descriptor(ARM64.media_type, ARM64.manifest(), len(ARM64.manifest())),
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    }
    content = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [attestation]}).encode()
    images.push_manifest(registry, repository, "attested", OCI_INDEX, content)
    for flags in ((), ("--verbose",)):
        both("inspect", "--insecure", *flags, f"{app}:attested")


def test_file_that_is_no_manifest_is_named(both: Both, app: str) -> None:
    both.sampan("create", f"{app}:4", f"{app}:amd64")
    (file,) = (path for path in both.sampan.config.rglob("*amd64") if path.is_file())
    file.write_text('{"Ref": 5}')
    for arguments in (("inspect", f"{app}:4"), ("push", f"{app}:4"), ("annotate", f"{app}:4", f"{app}:amd64")):
        refused = both.sampan(*arguments)
        assert (refused.code, str(file) in refused.stderr) == (1, True)
    assert both.sampan("rm", f"{app}:4").code == 0
