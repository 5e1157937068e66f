"""SIGKILL for each service, in the middle of each kind of work."""

import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from sampan.services import STARTED
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.images import Entry, Image, layer, tar
from tests.support.tools import eventually
from tests.support.trees import BUSYBOX_CONFIG, busybox_tar
from tests.support.web_registry import run_web_registry

pytestmark = [pytest.mark.root, pytest.mark.slow]

each_service = pytest.mark.parametrize("service", STARTED)

# When to strike, counted from the client's start: while the request is on its way in, and while the work is done.
MOMENTS_S = (0.04, 0.12)


def strike(engine: Engine, service: str, client: subprocess.Popen[bytes], moment_s: float) -> None:
    """Kill ``service`` that long after the client's start, and wait for both to be over it."""
    time.sleep(moment_s)
    engine.kill(service)
    try:
        client.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        client.kill()
        client.communicate()
        pytest.fail(f"the client hangs after {service} was killed", pytrace=False)


@each_service
def test_in_the_middle_of_a_download(
    engine: Engine, docker: DockerClient, service: str, unique: Callable[[str], str]
) -> None:
    name = unique("pull")
    image = Image([layer(busybox_tar()), layer(tar(Entry("mark", name.encode() * 1000)))], BUSYBOX_CONFIG)
    with run_web_registry() as registry:
        reference = registry.add(name, "1", image)
        digest = next(key for key in registry.blobs if registry.blobs[key] == image.layers[1].blob)
        registry.held[digest] = threading.Event()
        client = docker.start("pull", reference)
        assert registry.reached.wait(60), "the download began"
        engine.kill(service)
        registry.held[digest].set()
        client.communicate(timeout=60)
        docker("pull", reference)
        assert docker("run", "--rm", reference, "head", "-c", str(len(name)), "/mark").stdout == name
        docker("rmi", reference)


@each_service
def test_in_the_middle_of_applying_layers(
    engine: Engine, docker: DockerClient, service: str, unique: Callable[[str], str]
) -> None:
    with run_web_registry() as registry:
        for moment_s in MOMENTS_S:
            name = unique("apply")
            files = [Entry(f"d/{number}", name.encode()) for number in range(2000)]
            reference = registry.add(name, "1", Image([layer(busybox_tar()), layer(tar(*files))], BUSYBOX_CONFIG))
            strike(engine, service, docker.start("pull", reference), moment_s)
            docker("pull", reference)
            assert docker("run", "--rm", reference, "sh", "-c", "ls /d | wc -l; cat /d/1999").lines == ["2000", name]
            docker("rmi", reference)


@each_service
def test_in_the_middle_of_a_create(engine: Engine, docker: DockerClient, service: str, image: str) -> None:
    for moment_s in MOMENTS_S:
        strike(engine, service, docker.start("create", image, "true"), moment_s)


@each_service
def test_in_the_middle_of_a_start(
    engine: Engine, docker: DockerClient, service: str, image: str, unique: Callable[[str], str]
) -> None:
    for moment_s in MOMENTS_S:
        name = unique("start")
        docker("create", "--name", name, "--publish", "127.0.0.1::80", image, "sleep", "3600")
        strike(engine, service, docker.start("start", name), moment_s)
        state = docker("inspect", "--format", "{{.State.Status}}", name).line
        if state != "running":
            assert state in ("created", "exited")
            docker("start", name)
        assert docker("exec", name, "echo", "inside").line == "inside"
        docker("stop", "--time", "0", name)
        docker("rm", name)


@each_service
def test_in_the_middle_of_a_run_that_removes_itself(
    engine: Engine, docker: DockerClient, service: str, image: str
) -> None:
    for moment_s in MOMENTS_S:
        client = docker.start("run", "--rm", "--label", "brief", image, "sh", "-c", "echo x; sleep 0.2")
        strike(engine, service, client, moment_s)
    # One that was never started is kept, as dockerd does: nobody can tell it from one about to be started.
    states = ("running", "exited", "removing", "dead")
    began = [word for state in states for word in ("--filter", f"status={state}")]
    listed = ("ps", "--all", "--quiet", "--filter", "label=brief", *began)
    eventually(lambda: docker(*listed).stdout == "", "all that ran are removed")


@each_service
def test_in_the_middle_of_an_exec(engine: Engine, docker: DockerClient, service: str, steady: object) -> None:
    for moment_s in MOMENTS_S:
        client = docker.start("exec", "steady", "sh", "-c", "echo begun; sleep 0.3; echo ended")
        strike(engine, service, client, moment_s)
        assert docker("exec", "steady", "echo", "another").line == "another"
    eventually(lambda: "sleep 0.3" not in docker("top", "steady").stdout, "what was begun has ended")


@each_service
def test_in_the_middle_of_a_stop_and_a_removal(
    engine: Engine, docker: DockerClient, service: str, image: str, unique: Callable[[str], str]
) -> None:
    for moment_s in MOMENTS_S:
        name = unique("remove")
        docker("run", "--detach", "--name", name, image, "sleep", "3600")
        strike(engine, service, docker.start("rm", "--force", name), moment_s)

        def gone(name: str = name) -> bool:
            docker.fails("rm", "--force", name)  # which may be told that the first removal still goes on
            return docker.fails("inspect", name).code == 1

        eventually(gone, "it is removed")


@each_service
def test_waiting_clients_get_the_exit_code_or_an_error_but_never_hang(
    engine: Engine, docker: DockerClient, service: str, image: str, unique: Callable[[str], str]
) -> None:
    name = unique("wait")
    docker("run", "--detach", "--name", name, image, "sh", "-c", "sleep 1; exit 7")
    waiter = docker.start("wait", name)
    follower = docker.start("logs", "--follow", name)
    strike(engine, service, waiter, 0.1)
    follower.communicate(timeout=60)
    assert docker("wait", name).line == "7"
    docker("rm", name)


def test_all_services_at_once(engine: Engine, docker: DockerClient, image: str) -> None:
    for service in STARTED:
        engine.kill(service)
    assert docker("run", "--rm", image, "echo", "all back").line == "all back"
