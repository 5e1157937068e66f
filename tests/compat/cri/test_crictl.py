"""crictl's commands, one after another, as whoever looks after a node uses them."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.cri import SUBNET, Cri, Pod
from tests.support.terminal import at_terminal
from tests.support.tools import eventually

pytestmark = pytest.mark.root


def test_version_and_info_say_who_it_is_and_that_it_is_ready(cri: Cri) -> None:
    assert "RuntimeName:  sampan" in cri.crictl("version")
    info = json.loads(cri.crictl("info"))
    conditions = {each["type"]: each["status"] for each in info["status"]["conditions"]}
    assert conditions["RuntimeReady"] is True
    assert conditions["NetworkReady"] is True
    assert "cgroup driver:" in cri.crictl("runtime-config")


def test_pod_is_listed_inspected_stopped_and_removed(cri: Cri, busybox: str, tmp_path: Path) -> None:
    pod = Pod.run(cri, "life", tmp_path, busybox)
    listed = json.loads(cri.crictl("pods", "--id", pod.id, "--output", "json"))["items"]
    assert [(each["id"], each["state"]) for each in listed] == [(pod.id, "SANDBOX_READY")]
    inspected = json.loads(cri.crictl("inspectp", pod.id))["status"]
    assert inspected["network"]["ip"].startswith(SUBNET[:6])
    cri.crictl("stopp", pod.id)
    assert json.loads(cri.crictl("inspectp", pod.id))["status"]["state"] == "SANDBOX_NOTREADY"
    cri.crictl("rmp", pod.id)
    assert cri.crictl("pods", "--quiet", "--id", pod.id) == ""


def test_container_is_made_started_inspected_stopped_and_removed(cri: Cri, pod: Pod) -> None:
    container = pod.create("main", "sleep", "1000")
    assert pod.state(container) == "CONTAINER_CREATED"
    cri.crictl("start", container)
    assert pod.state(container) == "CONTAINER_RUNNING"
    assert cri.crictl("ps", "--quiet", "--pod", pod.id).split() == [container]
    cri.crictl("stop", "--timeout", "0", container)
    status = json.loads(cri.crictl("inspect", container))["status"]
    assert status["state"] == "CONTAINER_EXITED"
    assert status["exitCode"] in (137, 143)  # whichever signal came first
    cri.crictl("rm", container)
    assert cri.crictl("ps", "--all", "--quiet", "--pod", pod.id) == ""


def test_run_makes_a_pod_and_a_container_at_once(cri: Cri, busybox: str, tmp_path: Path) -> None:
    pod = Pod(cri, "", cri.write("run-pod.json", Pod.config("run", tmp_path)), busybox)
    container = cri.crictl("run", pod.container_config("main", "sleep", "1000"), pod.document).strip()
    assert pod.state(container) == "CONTAINER_RUNNING"
    cri.crictl("rmp", "--force", *cri.crictl("pods", "--quiet", "--name", "run").split())


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_exec_carries_streams_and_the_exit_code(cri: Cri, pod: Pod, transport: str) -> None:
    container = pod.start("main", "sleep", "1000")
    options = ("--transport", transport)
    assert cri.crictl("exec", *options, container, "echo", "out") == "out\n"
    assert cri.crictl("exec", "--interactive", *options, container, "cat", input="typed") == "typed"
    result = cri.crictl_fails("exec", *options, container, "sh", "-c", "echo oops >&2; exit 3")
    assert result.code == 1
    assert result.stderr.startswith("oops\n")
    assert "exit code 3" in result.stderr
    missing = cri.crictl_fails("exec", *options, container, "nothing-like-it")
    assert "nothing-like-it" in missing.stderr
    size = 3_000_000
    copied = cri.crictl("exec", "--interactive", *options, container, "wc", "-c", input="x" * size)
    assert int(copied) == size
    told = cri.crictl("exec", *options, container, "head", "-c", str(size), "/dev/zero")
    assert len(told) == size


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_exec_at_a_terminal_has_its_size_and_all_of_its_keys(cri: Cri, pod: Pod, transport: str) -> None:
    container = pod.start("main", "sleep", "1000")
    command = cri.command("exec", "--interactive", "--tty", "--transport", transport, container, "sh")
    with at_terminal(command, os.environ, rows=33, columns=101) as terminal:
        terminal.expect("#")
        terminal.expect_size(33, 101)
        terminal.resize(20, 60)
        terminal.expect_size(20, 60)
        terminal.type("exit 0\n")
        assert terminal.wait() == 0


def test_exec_sync_ends_with_its_limit(cri: Cri, pod: Pod) -> None:
    container = pod.start("main", "sleep", "1000")
    assert cri.crictl("exec", "--sync", container, "echo", "out").strip() == "out"
    late = cri.crictl_fails("exec", "--sync", "--timeout", "1", container, "sleep", "987")
    assert late.code != 0
    assert "DeadlineExceeded" in late.stderr
    assert "987" not in cri.crictl("exec", container, "ps")


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_attach_reaches_the_containers_own_process(cri: Cri, pod: Pod, transport: str) -> None:
    shell = pod.start("main", "sh", stdin=True, stdin_once=True)
    said = cri.crictl("attach", "--stdin", "--transport", transport, shell, input="echo $((40 + 2))\n")
    assert said == "42\n"
    eventually(lambda: pod.state(shell) == "CONTAINER_EXITED", "the shell ends with its input")


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_port_of_a_pod_is_forwarded(cri: Cri, pod: Pod, transport: str) -> None:
    pod.start("web", "sh", "-c", "echo served > /tmp/index.html; exec httpd -f -p 8080 -h /tmp")
    command = cri.command("port-forward", "--transport", transport, pod.id, "18080:8080")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as forwarding:
        try:
            assert forwarding.stdout is not None
            assert b"Forwarding from 127.0.0.1:18080" in forwarding.stdout.readline()
            curl = cri.namespace.enter("curl", "--silent", "--max-time", "60", "http://127.0.0.1:18080/")

            def served() -> bool:
                return subprocess.run(curl, capture_output=True).stdout == b"served\n"

            eventually(served, "the server has begun and is reached")
            assert all(served() for _ in range(5))
        finally:
            forwarding.kill()


def test_logs_are_in_kubelets_format_and_go_on_after_a_rotation(cri: Cri, pod: Pod) -> None:
    script = "echo first; echo wrong >&2; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo second; sleep 1000"
    container = pod.start("main", "sh", "-c", script)
    path = Path(json.loads(cri.crictl("inspect", container))["status"]["logPath"])
    eventually(lambda: path.exists() and path.read_text().count("\n") == 2, "both lines are logged")
    assert "wrong" in cri.crictl_fails("logs", container).stderr
    assert {line.split(" ", 1)[1] for line in path.read_text().splitlines()} == {"stdout F first", "stderr F wrong"}
    path.rename(path.with_suffix(".old"))
    cri.crictl("exec", container, "touch", "/tmp/go")
    eventually(lambda: "second" in path.with_suffix(".old").read_text(), "the old file is written until it is reopened")


def test_images_are_pulled_listed_inspected_and_removed(cri: Cri) -> None:
    name = f"{cri.registry.address}/pause:3.9"
    cri.crictl("pull", name)
    (found,) = json.loads(cri.crictl("images", "--output", "json", name))["images"]
    assert found["repoTags"] == [name]
    assert json.loads(cri.crictl("inspecti", name))["status"]["id"] == found["id"]
    usage = json.loads(cri.crictl("imagefsinfo"))["status"]["imageFilesystems"][0]
    assert int(usage["usedBytes"]["value"]) > 0
    cri.crictl("rmi", name)
    assert cri.crictl("images", "--quiet", name) == ""


def test_stats_and_metrics_tell_of_a_container(cri: Cri, pod: Pod) -> None:
    container = pod.start("main", "sleep", "1000")
    (stats,) = json.loads(cri.crictl("stats", "--id", container, "--output", "json"))["stats"]
    assert int(stats["memory"]["workingSetBytes"]["value"]) > 0
    (of_pod,) = json.loads(cri.crictl("statsp", "--id", pod.id, "--output", "json"))["stats"]
    assert of_pod["attributes"]["id"] == pod.id
    assert "container_memory_working_set_bytes" in cri.crictl("metricdescs")
    assert container[:13] in cri.crictl("metricsp") or "podSandboxId" in cri.crictl("metricsp")


def test_update_changes_a_containers_limits(cri: Cri, pod: Pod) -> None:
    container = pod.start("main", "sleep", "1000")
    cri.crictl("update", "--memory", str(64 << 20), container)
    resources = json.loads(cri.crictl("inspect", container))["status"]["resources"]["linux"]
    assert int(resources["memoryLimitInBytes"]) == 64 << 20


def test_docker_sees_no_pods(cri: Cri, pod: Pod) -> None:
    container = pod.start("main", "sleep", "1000")
    shown = cri.engine.sampan("ps", "--all", "--quiet", "--no-trunc").lines
    assert container not in shown
