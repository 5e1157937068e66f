"""Devices of the Container Device Interface: files, names, and what they change in a bundle."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtimed.oci.devices.cdi import read_devices
from runtimed.oci.devices.cdi_edits import inject
from sampan.docker.options.devices import cdi_request
from sampan.errors import StartError
from sampan.json_types import JsonObject
from sampan.resource.container_spec import Capabilities, DeviceRequest

GPU = (Capabilities(("gpu",)),)


def document(kind: str, *names: str, common: JsonObject | None = None, **edits: object) -> JsonObject:
    devices = [{"name": name, "containerEdits": edits | {"env": [f"DEVICE_{name}=1"]}} for name in names]
    return {"cdiVersion": "0.6.0", "kind": kind, "devices": devices, "containerEdits": common or {}}


def write(directory: Path, name: str, content: JsonObject) -> str:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(json.dumps(content))
    return str(directory)


def config() -> JsonObject:
    return {
        "process": {"env": ["PATH=/bin", "DEVICE_one=0"], "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": []}],
        "linux": {"devices": [], "resources": {"devices": []}},
    }


def injected(directories: Sequence[str], *requests: DeviceRequest) -> JsonObject:
    made = config()
    inject(made, requests, read_devices(directories))
    return made


def test_a_device_brings_what_its_file_says(tmp_path: Path) -> None:
    common = {
        "mounts": [{"hostPath": "/opt/lib", "containerPath": "/usr/lib/vendor", "options": ["ro", "nosuid"]}],
        "hooks": [{"hookName": "createContainer", "path": "/usr/bin/hook", "args": ["hook", "ldconfig"]}],
        "additionalGids": [44, 0],
    }
    nodes = [{"path": "/dev/vendor0", "hostPath": "/dev/null", "permissions": "rw"}]
    where = write(tmp_path / "a", "v.json", document("vendor.com/net", "one", "two", common=common, deviceNodes=nodes))
    made = injected([where], cdi_request(("vendor.com/net=one", "vendor.com/net=two", "vendor.com/net=one")))
    assert made["process"]["env"] == ["PATH=/bin", "DEVICE_one=1", "DEVICE_two=1"]
    assert made["process"]["user"]["additionalGids"] == [44]
    (node,) = made["linux"]["devices"]
    assert (node["path"], node["type"], node["major"], node["minor"]) == ("/dev/vendor0", "c", 1, 3)
    assert {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"} in made["linux"]["resources"]["devices"]
    (_, mount) = made["mounts"]  # of the file, and so once
    assert (mount["destination"], mount["options"]) == ("/usr/lib/vendor", ["ro", "nosuid", "rbind"])
    assert made["hooks"] == {"createContainer": [{"path": "/usr/bin/hook", "args": ["hook", "ldconfig"]}]}


def test_files_are_yaml_too(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text("cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- name: '0'\n  containerEdits: {}\n")
    assert read_devices([str(tmp_path)]).names == ("v.com/c=0",)


def test_later_directories_win_and_conflicts_in_one_leave_nothing(tmp_path: Path) -> None:
    first = write(tmp_path / "first", "a.json", document("v.com/c", "x", "y"))
    write(tmp_path / "first", "b.json", document("v.com/c", "y"))
    second = write(tmp_path / "second", "c.json", document("v.com/c", "x", common={"env": ["SECOND=1"]}))
    found = read_devices([first, second, str(tmp_path / "nowhere")])
    assert found.names == ("v.com/c=x",)
    assert found.files["v.com/c=x"].path.endswith("c.json")
    assert ['conflicting device "v.com/c=y"' in problem for problem in found.problems] == [True]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "Expecting property name"),
        ("[]", "not an object"),
        (json.dumps(document("vendor", "x")), "invalid kind"),
        (json.dumps(document("v.com/c")), "no devices"),
        (json.dumps(document("v.com/c", "x", "x")), "twice"),
        (json.dumps(document("v.com/c", "-x")), "invalid device name"),
        (json.dumps(document("v.com/c", "x", netDevices=[])), "netDevices is not known"),
        (json.dumps(document("v.com/c", "x", deviceNodes=[{"path": "dev"}])), "not an absolute path"),
        (json.dumps(document("v.com/c", "x", deviceNodes=[{"path": "/d", "permissions": "x"}])), "permissions"),
        (json.dumps(document("v.com/c", "x", mounts=[{"containerPath": "/d"}])), "no hostPath"),
        (json.dumps(document("v.com/c", "x", hooks=[{"path": "/d", "hookName": "after"}])), "unknown hook"),
    ],
)
def test_a_bad_file_is_a_problem_and_spoils_nothing_else(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    found = read_devices([write(tmp_path, "good.json", document("good.com/c", "x"))])
    assert found.names == ("good.com/c=x",)
    (problem,) = found.problems
    assert "bad.json" in problem
    assert words in problem


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (cdi_request(("v.com/c=x", "v.com/c=no")), "CDI device injection failed: unresolvable CDI devices v.com/c=no"),
        (DeviceRequest(count=-1, capabilities=GPU), 'could not select device driver "" with capabilities: [[gpu]]'),
        (
            DeviceRequest("other", capabilities=(Capabilities(("gpu", "utility")), Capabilities(("x",)))),
            'could not select device driver "other" with capabilities: [[gpu utility] [x]]',
        ),
    ],
)
def test_what_nobody_has_is_refused_in_dockers_words(tmp_path: Path, request_: DeviceRequest, words: str) -> None:
    where = write(tmp_path, "v.json", document("v.com/c", "x"))
    with pytest.raises(StartError) as refused:
        injected([where], request_)
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (DeviceRequest(count=-1, capabilities=GPU), ["all"]),
        (DeviceRequest(count=2, capabilities=GPU), ["0", "1"]),
        (DeviceRequest("nvidia", device_ids=("1", "nvidia.com/gpu=0"), capabilities=GPU), ["1", "0"]),
    ],
)
def test_gpus_are_the_vendors_devices(tmp_path: Path, request_: DeviceRequest, names: list[str]) -> None:
    where = write(tmp_path, "nvidia.json", document("nvidia.com/gpu", "0", "1", "all"))
    made = injected([where], request_)
    assert made["process"]["env"][2:] == [f"DEVICE_{name}=1" for name in names]


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    nodes = [{"path": "/dev/nonesuch-vendor"}]
    where = write(tmp_path, "v.json", document("v.com/c", "x", deviceNodes=nodes))
    with pytest.raises(StartError, match="failed to stat CDI host device /dev/nonesuch-vendor: No such file"):
        injected([where], cdi_request(("v.com/c=x",)))
