"""CDI devices, and GPUs that are such: through both clients of an engine that has some."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient, Result
from tests.support.engine import Engine, run_engine
from tests.support.trees import busybox_tar

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(TARGET), reason="dockerd 20.10 knows no CDI devices")]

Client = Callable[..., Result]

IMAGE = "busybox:cdi"


def _document(kind: str, name: str, node: str) -> str:
    edits = {
        "env": [f"DEVICE={kind}={name}"],
        "deviceNodes": [{"path": node, "hostPath": "/dev/null"}],
        "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/opt/vendor/name", "options": ["ro"]}],
    }
    return json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": [{"name": name, "containerEdits": edits}]})


@pytest.fixture(scope="module")
def equipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    specs = tmp_path_factory.mktemp("cdi")
    (specs / "vendor.json").write_text(_document("vendor.com/net", "one", "/dev/vendor0"))
    (specs / "nvidia.yaml").write_text(_document("nvidia.com/gpu", "all", "/dev/nvidia0"))  # JSON is YAML
    (specs / "broken.json").write_text("{")
    with run_engine({"runtimed": f'cdi_spec_dirs = ["{specs}"]\n'}) as engine:
        yield engine


@pytest.fixture(scope="module", params=["docker", "sampan"])
def client(
    request: pytest.FixtureRequest, equipped: Engine, docker_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Client:
    docker = DockerClient(equipped.host, docker_config)
    if IMAGE not in docker("images", "--format", "{{.Repository}}:{{.Tag}}").lines:
        archive = tmp_path_factory.mktemp("image") / "root.tar"
        archive.write_bytes(busybox_tar())
        docker("import", str(archive), IMAGE)
    return docker.fails if request.param == "docker" else equipped.sampan_fails


@pytest.mark.parametrize(
    ("flags", "node", "name"),
    [
        (("--device", "vendor.com/net=one"), "/dev/vendor0", "vendor.com/net=one"),
        (("--gpus", "all"), "/dev/nvidia0", "nvidia.com/gpu=all"),
        (("--gpus", "device=all"), "/dev/nvidia0", "nvidia.com/gpu=all"),
        (("--privileged", "--device", "vendor.com/net=one"), "/dev/vendor0", "vendor.com/net=one"),
    ],
)
def test_a_device_is_there_with_what_it_needs(client: Client, flags: tuple[str, ...], node: str, name: str) -> None:
    script = f"echo $DEVICE; echo x > {node} && test -c {node} && test -s /opt/vendor/name && echo there"
    shown = client("run", "--rm", "--network", "none", *flags, IMAGE, "sh", "-c", script)
    assert shown.lines == [name, "there"], shown.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--device", "vendor.com/net=two"), "unresolvable CDI devices vendor.com/net=two"),
        (("--gpus", "2"), "unresolvable CDI devices nvidia.com/gpu=0, nvidia.com/gpu=1"),
        (("--gpus", "driver=other"), 'could not select device driver "other" with capabilities: [[gpu]]'),
    ],
)
def test_one_that_nobody_has_is_named(client: Client, flags: tuple[str, ...], words: str) -> None:
    refused = client("run", "--rm", "--network", "none", *flags, IMAGE, "true")
    assert refused.code == 125
    assert words in refused.stderr


def test_inspect_shows_what_was_asked_for(client: Client) -> None:
    client("create", "--name", "asked", "--device", "vendor.com/net=one", "--gpus", "device=0", IMAGE, "true")
    shown = client("inspect", "--format", "{{json .HostConfig.DeviceRequests}}", "asked")
    client("rm", "asked")
    gpus, named = sorted(json.loads(shown.stdout), key=lambda each: str(each["Driver"]))
    assert (named["Driver"], named["DeviceIDs"]) == ("cdi", ["vendor.com/net=one"])
    assert (gpus["Driver"], gpus["DeviceIDs"], gpus["Capabilities"]) == ("", ["0"], [["gpu"]])


def test_info_shows_them_and_what_is_wrong_with_a_file(client: Client) -> None:
    shown = client("info")
    assert "nvidia.com/gpu=all" in shown.stdout
    assert "broken.json" in shown.stderr
