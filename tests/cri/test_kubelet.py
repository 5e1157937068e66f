"""A real kubelet runs its pods on crid. Building it takes some ten minutes: ``make test-cri``."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cri import Cri, run_cri
from tests.support.docker_client import DockerClient
from tests.support.kubelet import Kubelet, run_kubelet
from tests.support.tools import eventually, long_time, sleeping

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cri]:
    with run_cri(tmp_path_factory.mktemp("cri")) as running:
        yield running


@pytest.fixture(scope="module")
def kubelet(cri: Cri) -> Iterator[Kubelet]:
    cri.crictl("pull", cri.busybox)
    directory = Path(
        tempfile.mkdtemp(prefix="sk", dir="/tmp")
    )  # kubelet keeps sockets there, and removes volumes itself
    with run_kubelet(cri, directory) as running:
        yield running
    shutil.rmtree(directory)


@pytest.fixture
def name(kubelet: Kubelet, unique: Callable[[str], str]) -> Iterator[str]:
    """A pod's name; a pod that has it is gone after the test."""
    chosen = unique("pod")
    yield chosen
    kubelet.delete(chosen)


@pytest.fixture
def box(cri: Cri) -> Callable[..., dict[str, Any]]:
    """Makes a container that runs a script."""

    def make(name: str, script: str, **more: Any) -> dict[str, Any]:
        command = ["sh", "-c", script]
        return {"name": name, "image": cri.busybox, "imagePullPolicy": "Never", "command": command, **more}

    return make


Box = Callable[..., dict[str, Any]]


# A volume of all containers of a pod, and where they see it.
SHARED = {"name": "data", "emptyDir": {}}
MOUNTED = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}


def test_init_containers_and_sidecars_start_in_order(kubelet: Kubelet, name: str, box: Box) -> None:
    sidecar = {"restartPolicy": "Always", "startupProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}
    kubelet.apply(
        name,
        {
            "volumes": [SHARED],
            "initContainers": [
                box("first", "echo first >> /data/order", **MOUNTED),
                box("beside", f"echo beside >> /data/order; exec sleep {long_time()}", **MOUNTED, **sidecar),
                box("second", "echo second >> /data/order", **MOUNTED),
            ],
            "containers": [box("main", f"cat /data/order; exec sleep {long_time()}", **MOUNTED)],
        },
    )
    kubelet.ready(name)
    assert kubelet.logs(name, "main").split() == ["first", "beside", "second"]
    assert kubelet.container(name, "first")["state"]["terminated"]["reason"] == "Completed"


def test_processes_of_a_pod_see_each_other_if_it_shares_them(kubelet: Kubelet, name: str, box: Box) -> None:
    seconds = long_time()
    kubelet.apply(
        name,
        {
            "shareProcessNamespace": True,
            "containers": [box("one", f"exec sleep {seconds}"), box("other", f"exec sleep {long_time()}")],
        },
    )
    kubelet.ready(name)
    assert f"sleep {seconds}" in kubelet.run(name, "other", "ps")


def test_a_read_only_root_with_a_volume_of_its_group_is_written_to_there_alone(
    kubelet: Kubelet, name: str, box: Box
) -> None:
    security = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    script = f"id; touch /x 2>/dev/null || echo closed; touch /data/x && stat -c %g /data/x; exec sleep {long_time()}"
    kubelet.apply(
        name,
        {
            "securityContext": {"runAsUser": 1000, "runAsGroup": 1001, "fsGroup": 2000, "runAsNonRoot": True},
            "volumes": [SHARED],
            "containers": [box("main", script, securityContext=security, **MOUNTED)],
        },
    )
    kubelet.ready(name)
    said = kubelet.logs(name, "main")
    assert "uid=1000 gid=1001 groups=1001,2000" in said
    assert "closed" in said
    assert said.rstrip().endswith("2000")


def test_a_pod_on_the_hosts_network_answers_at_its_address(kubelet: Kubelet, name: str, box: Box) -> None:
    probe = {"httpGet": {"path": "/motd", "port": 18099, "host": "127.0.0.1"}, "periodSeconds": 1}
    script = "echo reached > /tmp/motd; exec httpd -f -p 127.0.0.1:18099 -h /tmp"
    kubelet.apply(name, {"hostNetwork": True, "containers": [box("web", script, readinessProbe=probe)]})
    kubelet.ready(name)


def test_a_liveness_probe_that_fails_restarts_the_container(kubelet: Kubelet, name: str, box: Box) -> None:
    probe = {"exec": {"command": ["test", "-e", "/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    script = f"touch /alive; exec sleep {long_time()}"
    kubelet.apply(name, {"containers": [box("main", script, livenessProbe={"initialDelaySeconds": 1, **probe})]})
    kubelet.ready(name)
    kubelet.run(name, "main", "rm+/alive")
    kubelet.until(name, lambda _: kubelet.container(name, "main")["restartCount"] == 1, "is restarted")
    assert kubelet.container(name, "main")["lastState"]["terminated"]["exitCode"] == 137


def test_why_a_container_ended_is_told(kubelet: Kubelet, name: str, box: Box) -> None:
    memory = {"limits": {"memory": "16Mi"}}
    kubelet.apply(
        name,
        {
            "restartPolicy": "Never",
            "containers": [
                box("eats", "tail /dev/zero", resources=memory),
                box("fails", "echo bye > /dev/termination-log; exit 7"),
                box("succeeds", "true"),
            ],
        },
    )
    kubelet.until(name, lambda pod: pod["status"]["phase"] == "Failed", "has ended")
    ended = {one: kubelet.container(name, one)["state"]["terminated"] for one in ("eats", "fails", "succeeds")}
    assert (ended["eats"]["exitCode"], ended["eats"]["reason"]) == (137, "OOMKilled")
    assert (ended["fails"]["exitCode"], ended["fails"]["reason"], ended["fails"]["message"]) == (7, "Error", "bye\n")
    assert (ended["succeeds"]["exitCode"], ended["succeeds"]["reason"]) == (0, "Completed")


def test_a_log_is_rotated_and_goes_on(kubelet: Kubelet, name: str, box: Box) -> None:
    script = "n=0; while :; do n=$((n + 1)); seq 2000; echo round $n; sleep 0.2; done"
    kubelet.apply(name, {"containers": [box("main", script)]})
    kubelet.ready(name)
    eventually(lambda: len(kubelet.log_files(name, "main")) >= 3, "two rotations", 60)
    size = kubelet.log_files(name, "main")[0].stat().st_size
    eventually(lambda: kubelet.log_files(name, "main")[0].stat().st_size != size, "the newest file is written to")


def test_a_pod_whose_time_is_over_is_ended(kubelet: Kubelet, name: str, box: Box) -> None:
    seconds = long_time()
    kubelet.apply(name, {"activeDeadlineSeconds": 3, "containers": [box("main", f"exec sleep {seconds}")]})
    kubelet.until(name, lambda pod: pod["status"].get("reason") == "DeadlineExceeded", "is ended")
    eventually(lambda: sleeping(seconds) == [], "its process is gone")


def test_a_pod_with_users_of_its_own_is_nobody_on_the_host(kubelet: Kubelet, name: str, box: Box) -> None:
    script = f"touch /x; stat -c %u /x; cat /proc/self/uid_map; exec sleep {long_time()}"
    kubelet.apply(name, {"hostUsers": False, "containers": [box("main", script)]})
    kubelet.ready(name)
    owner, inside, outside, length = kubelet.logs(name, "main").split()
    assert (owner, inside) == ("0", "0")
    assert int(outside) >= 65536
    assert int(length) >= 65536


def test_what_pods_use_is_told_to_kubelet(kubelet: Kubelet, name: str, box: Box) -> None:
    kubelet.apply(name, {"containers": [box("main", "while :; do :; done", resources={"limits": {"cpu": "100m"}})]})
    kubelet.ready(name)

    def used() -> bool:
        summary = json.loads(kubelet.get("stats/summary"))
        pods = [pod for pod in summary["pods"] if pod["podRef"]["name"].startswith(name)]
        containers = [one for pod in pods for one in pod.get("containers") or ()]
        return any(
            one["cpu"].get("usageCoreNanoSeconds", 0) > 0 and one["memory"].get("workingSetBytes", 0) > 0
            for one in containers
        )

    eventually(used, "kubelet knows what the pod uses", 60)


def test_pods_go_on_while_crid_is_killed(kubelet: Kubelet, cri: Cri, name: str, box: Box) -> None:
    kubelet.apply(name, {"containers": [box("main", f"echo there; exec sleep {long_time()}")]})
    kubelet.ready(name)
    before = kubelet.container(name, "main")
    for _ in range(3):
        cri.engine.kill("crid")
    # kubelet's own connection is back a little later.
    eventually(
        lambda: "there" in kubelet.logs(name, "main") and kubelet.answers(name, "main"), "kubelet reaches it", 60
    )
    after = kubelet.container(name, "main")
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)


def test_docker_does_not_see_pods(kubelet: Kubelet, cri: Cri, name: str, box: Box) -> None:
    kubelet.apply(name, {"containers": [box("main", f"exec sleep {long_time()}")]})
    kubelet.ready(name)
    assert DockerClient(cri.engine.host, cri.engine.config)("ps", "--all", "--quiet").lines == []


def test_nothing_of_a_pod_is_left(kubelet: Kubelet, cri: Cri, name: str, box: Box) -> None:
    kubelet.apply(name, {"containers": [box("main", f"exec sleep {long_time()}")]})
    kubelet.ready(name)
    kubelet.delete(name)
    ready = [
        one for one in json.loads(cri.crictl("pods", "--output", "json"))["items"] if one["state"] == "SANDBOX_READY"
    ]
    assert name not in {one["metadata"]["name"] for one in ready}
