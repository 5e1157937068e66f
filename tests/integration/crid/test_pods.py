"""Pods on a real engine, with Debian's CNI plugins."""

import contextlib
import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from sampan.api.cri.v1 import container_pb2 as c
from sampan.api.cri.v1 import sandbox_pb2 as s
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.pods import NODE, SHARED, Crid, leased
from tests.support.tools import eventually, unmount

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/usr/lib/cni/ptp").exists(), reason="containernetworking-plugins is not installed"),
]

SLEEP = ("sleep", "1000")


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Return with what code and words a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details() or ""


def pids_beside(pid: int) -> list[int]:
    """Return the processes in the pid namespace of one."""
    wanted = os.stat(f"/proc/{pid}/ns/pid").st_ino
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.stat(process / "ns/pid").st_ino == wanted:
                found.append(int(process.name))
    return found


def within(timeout: float, call: Callable[..., object], request: object) -> None:
    """Make a call that may take so long; any other error than that it took longer is raised."""
    try:
        call(request, timeout=timeout)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise


def test_a_pod_has_a_name_an_address_a_resolver_and_shared_memory_of_its_own(
    cri: Crid, image: str, name: str, net_d: Path
) -> None:
    config = cri.pod(
        name,
        dns_config={"servers": ["10.0.0.10"], "searches": ["svc"], "options": ["ndots:5"]},
        linux={"sysctls": {"net.ipv4.ip_unprivileged_port_start": "80"}},
    )
    sandbox = cri.run(config)
    address = cri.sandbox(sandbox).network.ip
    assert address in leased(net_d)
    container = cri.running(sandbox, cri.container("main", *SLEEP, image=image))
    said = cri.output(
        container,
        "sh",
        "-c",
        "hostname; echo $HOSTNAME; cat /etc/hostname /etc/resolv.conf /etc/hosts; ip -o -4 addr show eth0;"
        " cat /proc/sys/net/ipv4/ip_unprivileged_port_start; echo x > /dev/shm/seen",
    )
    assert said.splitlines()[:3] == [name] * 3
    assert "search svc\nnameserver 10.0.0.10\noptions ndots:5\n" in said
    assert f"{address}\t{name}\n" in said
    assert f"inet {address}/16" in said
    assert said.endswith("\n80\n")
    other = cri.running(sandbox, cri.container("other", *SLEEP, image=image))
    assert cri.output(other, "sh", "-c", "cat /dev/shm/seen; hostname") == f"x\n{name}\n"
    cri.remove(sandbox)
    assert address not in leased(net_d)


def test_a_container_s_end_has_its_reason(cri: Crid, image: str, name: str) -> None:
    sandbox = cri.run(cri.pod(name))

    def end(title: str, *command: str, **more: dict[str, int]) -> tuple[str, int]:
        status = cri.ended(
            cri.running(sandbox, cri.container(title, *command, image=image, resources=more.get("resources", {})))
        )
        assert status.finished_at >= status.started_at > status.created_at > 0
        return status.reason, status.exit_code

    assert end("well", "true") == ("Completed", 0)
    assert end("badly", "sh", "-c", "exit 3") == ("Error", 3)
    eater = ("sh", "-c", "a=x; while :; do a=$a$a; done")
    assert end("much", *eater, resources={"memory_limit_in_bytes": 16 << 20}) == ("OOMKilled", 137)
    missing = cri.create(sandbox, cri.container("missing", "/nope", image=image))
    assert refused(lambda: cri.start_container(missing))[0] is grpc.StatusCode.ABORTED
    assert cri.status(missing).reason == "StartError"
    cri.remove(sandbox)


def test_logs_are_kubelet_s_and_are_opened_anew(cri: Crid, image: str, name: str, tmp_path: Path) -> None:
    sandbox = cri.run(cri.pod(name, log_directory=str(tmp_path / "logs")))
    script = "echo one; echo two >&2; while [ ! -e /go ]; do sleep 0.05; done; echo three; sleep 1000"
    container = cri.running(sandbox, cri.container("main", "sh", "-c", script, image=image, log_path="main/0.log"))
    log = tmp_path / "logs/main/0.log"
    assert cri.status(container).log_path == str(log)
    eventually(lambda: log.exists() and log.read_text().count("\n") == 2, "what was said is logged")
    log.rename(log.with_name("0.log.old"))
    reopen = c.ReopenContainerLogRequest(container_id=container)
    for place in (log, log.with_name("0.log.tmp")):  # either would be the end of the container's monitor
        place.mkdir()
        code, words = refused(lambda: cri.runtime.ReopenContainerLog(reopen))
        assert (code, f"{place} is a directory" in words) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        place.rmdir()
    os.mkfifo(log.with_name("0.log.tmp"))
    assert "is a pipe" in refused(lambda: cri.runtime.ReopenContainerLog(reopen))[1]
    log.with_name("0.log.tmp").unlink()
    assert cri.status(container).state == c.CONTAINER_RUNNING
    cri.runtime.ReopenContainerLog(reopen)
    cri.output(container, "touch", "/go")
    eventually(lambda: log.exists() and log.read_text().endswith(" stdout F three\n"), "the new file is written")
    old = [line.split(" ", 1)[1] for line in log.with_name("0.log.old").read_text().splitlines()]
    assert sorted(old) == ["stderr F two", "stdout F one"]
    cri.stop_container(container)
    code, words = refused(lambda: cri.runtime.ReopenContainerLog(c.ReopenContainerLogRequest(container_id=container)))
    assert (code, "is not running" in words) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    cri.remove(sandbox)


def test_a_command_that_takes_too_long_is_a_deadline_and_leaves_no_process(cri: Crid, image: str, name: str) -> None:
    sandbox = cri.run(cri.pod(name))
    container = cri.running(sandbox, cri.container("main", *SLEEP, image=image))
    done = cri.exec(container, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.exit_code, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    code, _ = refused(lambda: cri.exec(container, "sh", "-c", "sleep 321 & sleep 322", timeout=1))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    # It is told as soon as they have ended, or after a while that a busy machine may need for it.
    eventually(lambda: "sleep 32" not in cri.output(container, "ps"), "none is left")
    flood = cri.exec(container, "sh", "-c", "head -c 20000000 /dev/zero; exit 4")
    assert (flood.exit_code, 15 << 20 < len(flood.stdout) < 16 << 20) == (4, True)
    cri.remove(sandbox)


def test_processes_are_shared_without_a_container_that_is_shown_for_it(cri: Crid, image: str, name: str) -> None:
    sandbox = cri.run(cri.pod(name, pids=SHARED))
    one = cri.running(sandbox, cri.container("one", "sleep", "1001", pids=SHARED, image=image))
    two = cri.running(sandbox, cri.container("two", "sleep", "1002", pids=SHARED, image=image))
    assert "sleep 1001" in cri.output(two, "ps")
    assert {each.id for each in cri.containers(sandbox)} == {one, two}
    cri.stop_container(one)
    assert cri.status(two).state == c.CONTAINER_RUNNING
    cri.remove(sandbox)


def test_a_pod_whose_pid_namespace_is_killed_is_not_ready(cri: Crid, image: str, name: str, net_d: Path) -> None:
    sandbox = cri.run(cri.pod(name, pids=SHARED))
    container = cri.running(sandbox, cri.container("main", *SLEEP, pids=SHARED, image=image))
    seen = json.loads(cri.verbose(container)["info"])["pid"]
    (init,) = (pid for pid in pids_beside(seen) if Path(f"/proc/{pid}/comm").read_text() == "docker-init\n")
    os.kill(init, signal.SIGKILL)
    eventually(lambda: cri.sandbox(sandbox).state == s.SANDBOX_NOTREADY, "the pod is not ready")
    assert cri.ended(container).exit_code == 137
    eventually(lambda: leased(net_d) == [], "its address is given back")
    cri.remove(sandbox)


def test_a_pod_in_the_host_s_network_has_its_name_and_no_address_of_its_own(cri: Crid, image: str, name: str) -> None:
    sandbox = cri.run(cri.pod(name, network=NODE))
    container = cri.running(sandbox, cri.container("main", *SLEEP, network=NODE, image=image))
    assert cri.sandbox(sandbox).network.ip == ""
    assert cri.output(container, "hostname") == f"{os.uname().nodename}\n"
    cri.remove(sandbox)


def test_a_pod_has_users_of_its_own_and_its_volumes_show_them(cri: Crid, image: str, name: str, tmp_path: Path) -> None:
    ids = [{"host_id": 300_000, "container_id": 0, "length": 65_536}]
    users = {"namespace_options": {"pid": SHARED, "userns_options": {"mode": "POD", "uids": ids, "gids": ids}}}
    sandbox = cri.run(cri.pod(name, security=users))
    volume = {"container_path": "/v", "host_path": str(tmp_path), "uid_mappings": ids, "gid_mappings": ids}
    container = cri.running(sandbox, cri.container("main", *SLEEP, image=image, security=users, mounts=[volume]))
    said = cri.output(container, "sh", "-c", "id -u; hostname; touch /v/made; stat -c %u /v/made /etc/hosts; ps")
    assert said.startswith(f"0\n{name}\n0\n0\n")
    assert (tmp_path / "made").stat().st_uid == 0
    pid = json.loads(cri.verbose(container)["info"])["pid"]
    assert Path(f"/proc/{pid}").stat().st_uid == 300_000
    cri.remove(sandbox)


def test_options_of_a_mount_have_their_effect(cri: Crid, image: str, name: str, tmp_path: Path) -> None:
    sandbox = cri.run(cri.pod(name))
    mount = {"container_path": "/v", "host_path": str(tmp_path), "mount_options": ["noexec", "nosuid", "nodev"]}
    container = cri.running(sandbox, cri.container("main", *SLEEP, image=image, mounts=[mount]))
    assert "rw,nosuid,nodev,noexec" in cri.output(container, "grep", " /v ", "/proc/self/mountinfo")
    cri.remove(sandbox)


def test_docker_sees_nothing_of_pods_and_kubelet_nothing_of_docker_s(
    cri: Crid, image: str, name: str, docker: DockerClient
) -> None:
    sandbox = cri.run(cri.pod(name, pids=SHARED))
    container = cri.running(sandbox, cri.container("main", *SLEEP, image=image))
    docker("create", "--name", name, image)
    listed = docker("ps", "-a", "--format", "{{.Names}}").stdout.split()
    assert name in listed
    assert [each for each in listed if each.startswith("k8s_")] == []
    assert {each.id for each in cri.containers()} == {container}
    docker("rm", name)
    cri.remove(sandbox)


def test_what_is_gone_may_be_stopped_and_removed(cri: Crid) -> None:
    for call in (cri.stop_container, cri.remove_container, cri.stop_sandbox, cri.remove):
        call("f" * 64)
        assert refused(lambda call=call: call(""))[0] is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[misc]
    for ask in (cri.status, cri.sandbox, cri.start_container):
        assert refused(lambda ask=ask: ask("f" * 64))[0] is grpc.StatusCode.NOT_FOUND  # type: ignore[misc]


def test_a_deadline_in_the_middle_of_a_call_leaves_nothing_and_the_same_call_works(
    cri: Crid, image: str, name: str
) -> None:
    config = cri.pod(name, pids=SHARED)
    for timeout in (0.001, 0.01, 0.03, 0.08, 0.15):
        within(timeout, cri.runtime.RunPodSandbox, s.RunPodSandboxRequest(config=config))
    sandbox = cri.run(config)
    wanted = cri.container("main", *SLEEP, image=image)
    for timeout in (0.001, 0.01, 0.03, 0.08):
        within(timeout, cri.runtime.CreateContainer, c.CreateContainerRequest(pod_sandbox_id=sandbox, config=wanted))
    container = cri.running(sandbox, wanted)
    assert [each.id for each in cri.containers(sandbox)] == [container]
    assert [each.id for each in cri.sandboxes() if each.metadata.name == name] == [sandbox]
    cri.remove(sandbox)


def test_many_pods_are_made_at_once(cri: Crid, image: str, name: str, net_d: Path) -> None:
    def make(number: int) -> str:
        sandbox = cri.run(cri.pod(f"{name}-{number}"))
        cri.running(sandbox, cri.container("main", *SLEEP, image=image))
        return sandbox

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(16)))
        assert len(leased(net_d)) == 16
        list(pool.map(cri.remove, made))
    assert leased(net_d) == []


def test_a_killed_crid_finds_its_pods_as_they_were(cri: Crid, image: str, name: str, engine: Engine) -> None:
    sandbox = cri.run(cri.pod(name, pids=SHARED))
    container = cri.running(sandbox, cri.container("main", *SLEEP, pids=SHARED, image=image))
    before = cri.sandbox(sandbox)
    cri.kill()
    cri.start()
    assert cri.sandbox(sandbox) == before
    assert cri.status(container).state == c.CONTAINER_RUNNING
    assert cri.output(container, "hostname") == f"{name}\n"
    engine.kill("runtimed")
    assert cri.status(container).state == c.CONTAINER_RUNNING
    cri.remove(sandbox)


def test_a_sandbox_whose_namespaces_are_gone_is_not_ready(cri: Crid, name: str, engine: Engine, net_d: Path) -> None:
    sandbox = cri.run(cri.pod(name))
    cri.kill()
    held = engine.layout.run("crid") / "sandboxes" / sandbox / "ns"
    for kind in ("net", "ipc", "uts"):
        unmount(held / kind)
    cri.start()
    assert cri.sandbox(sandbox).state == s.SANDBOX_NOTREADY
    eventually(lambda: leased(net_d) == [], "its address is given back")
    cri.remove(sandbox)
