"""Pods with user namespaces, on a real engine."""

from pathlib import Path

import pytest

from tests.support.pods import PRIVATE, Crid

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/usr/lib/cni/ptp").exists(), reason="containernetworking-plugins is not installed"),
]

MAPPING = {"container_id": 0, "host_id": 400_000, "length": 65_536}
USERS = {"mode": "POD", "uids": [MAPPING], "gids": [MAPPING]}


def test_a_pod_s_users_are_others_on_the_host_and_its_volumes_are_mapped(
    cri: Crid, image: str, name: str, tmp_path: Path
) -> None:
    security = {"namespace_options": {"pid": PRIVATE, "userns_options": USERS}}
    sandbox = cri.run(cri.pod(name, security=security))
    volume = tmp_path / "volume"
    volume.mkdir()
    mounts = [
        {"host_path": str(volume), "container_path": "/data", "uid_mappings": [MAPPING], "gid_mappings": [MAPPING]}
    ]
    config = cri.container("main", "sleep", "1000", image=image, mounts=mounts, security=security)
    container = cri.running(sandbox, config)
    said = cri.output(
        container,
        "sh",
        "-c",
        "cat /proc/self/uid_map; touch /data/f /made; stat -c %u:%g /data /data/f /made /; ls /sys/class/net; hostname",
    ).split()
    assert said[:3] == ["0", "400000", "65536"]
    assert said[3:7] == ["0:0"] * 4
    assert said[7:] == ["eth0", "lo", name]
    assert (volume / "f").stat().st_uid == 0
    cri.remove(sandbox)
