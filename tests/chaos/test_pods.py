"""Pods that come and go while crid is killed, its plugins fail, and nobody waits: what is left is nothing, or whole."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from sampan.api.cri.v1 import container_pb2 as c
from sampan.api.cri.v1 import runtime_pb2, stats_pb2
from sampan.api.cri.v1 import sandbox_pb2 as s
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.images import push
from tests.support.pods import SHARED, Crid, leased, network, run_crid
from tests.support.registry import Registry
from tests.support.tools import eventually
from tests.support.trees import busybox_image

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/usr/lib/cni/ptp").exists(), reason="containernetworking-plugins is not installed"),
]

KILLS = 10
WORKERS = 3
PATIENCE_S = 120.0

# What a client sees of a crid that is away, or of a call that was cut off.
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

# Debian's plugin, unless the test has taken the network down: then what is added hangs, and what is deleted fails.
_PLUGIN = """\
#!/bin/sh
if [ -e {directory}/down ]; then
    [ "$CNI_COMMAND" = ADD ] && exec sleep 1000
    [ "$CNI_COMMAND" = DEL ] && {{ echo the network is down >&2; exit 1; }}
fi
exec /usr/lib/cni/ptp
"""


@dataclass
class Pods:
    """A crid whose network can be taken down."""

    crid: Crid
    directory: Path
    image: str
    engine: Engine
    failures: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def network_down(self) -> Iterator[None]:
        (self.directory / "down").touch()
        try:
            yield
        finally:
            (self.directory / "down").unlink()

    def nothing_is_left(self) -> None:
        """See that neither an address, nor a namespace, nor a plugin is left."""
        eventually(lambda: leased(self.directory) == [], f"addresses are free: {leased(self.directory)}", PATIENCE_S)
        assert self.crid.sandboxes() == []
        assert self.crid.containers() == []
        places = self.engine.layout.run("crid") / "sandboxes"
        assert not places.exists() or list(places.iterdir()) == []
        assert str(places) not in Path("/proc/self/mounts").read_text()
        eventually(lambda: not plugins_at_work(str(self.engine.layout.run_root)), "no plugin is at work")


def plugins_at_work(run_root: str) -> list[str]:
    """Return the processes that were started for a pod's network."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"CNI_NETNS={run_root}".encode() in (process / "environ").read_bytes():
                found.append(process.name)
    return found


@pytest.fixture
def pods(engine: Engine, docker: DockerClient, registry: Registry, tmp_path: Path) -> Iterator[Pods]:
    image = f"{registry.address}/pods:1"
    push(registry, "pods", "1", busybox_image())
    docker("pull", "--quiet", image)
    net_d = network(tmp_path / "net.d", "10.125.0.0/16")
    plugins = tmp_path / "bin"
    plugins.mkdir()
    (plugins / "ptp").write_text(_PLUGIN.format(directory=net_d))
    (plugins / "ptp").chmod(0o755)
    flags = ("--cni-conf-dir", str(net_d), "--cni-bin-dirs", f"{plugins},/usr/lib/cni", "--cni-timeout-s", "60")
    with run_crid(engine.layout, tmp_path, *flags) as crid:
        yield Pods(crid, net_d, image, engine)


def until_done(call: Callable[[], object]) -> object:
    """Make a call as kubelet does: again, for as long as crid is away."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in _AWAY or time.monotonic() > end:
                raise
            time.sleep(0.05)


def test_pods_that_come_and_go_outlive_kills_of_crid_and_runtimed(pods: Pods) -> None:
    crid, stopping = pods.crid, threading.Event()
    dice = random.Random(7)
    staying = crid.run(crid.pod("staying"))
    container = crid.running(staying, crid.container("main", "sleep", "1000", image=pods.image))
    before = crid.sandbox(staying)

    def live(worker: int) -> int:
        number = 0
        while not stopping.is_set():
            number += 1
            config = crid.pod(f"pod-{worker}-{number}", pids=SHARED if number % 3 == 0 else 1)
            made = str(until_done(lambda config=config: crid.run(config)))  # type: ignore[misc]
            wanted = crid.container("main", "sleep", "1000", image=pods.image)
            one = str(until_done(lambda made=made, wanted=wanted: crid.create(made, wanted)))  # type: ignore[misc]
            until_done(lambda one=one: crid.start_container(one))  # type: ignore[misc]
            assert crid_is(c.CONTAINER_RUNNING, one)
            until_done(lambda one=one: crid.stop_container(one))  # type: ignore[misc]
            until_done(lambda made=made: crid.stop_sandbox(made))  # type: ignore[misc]
            until_done(lambda made=made: crid.remove(made))  # type: ignore[misc]
        return number

    def crid_is(state: int, one: str) -> bool:
        status = until_done(lambda: crid.status(one))
        assert isinstance(status, c.ContainerStatus)
        return status.state == state

    with ThreadPoolExecutor(WORKERS) as pool:
        living = [pool.submit(live, worker) for worker in range(WORKERS)]
        try:
            for kill in range(KILLS):
                time.sleep(dice.uniform(0.1, 1.2))
                if kill % 4 == 3:
                    pods.engine.kill("runtimed")
                else:
                    crid.kill()
                    crid.start()
        finally:
            stopping.set()
        assert sum(each.result(PATIENCE_S) for each in living) >= WORKERS
    assert crid.sandbox(staying) == before
    assert crid.status(container).state == c.CONTAINER_RUNNING
    assert leased(pods.directory) == [before.network.ip]
    crid.remove(staying)
    pods.nothing_is_left()


def test_a_network_that_is_not_taken_back_is_asked_for_until_it_is_whoever_was_killed(pods: Pods) -> None:
    crid = pods.crid
    made = [crid.run(crid.pod(f"pod-{number}")) for number in range(3)]
    with pods.network_down():
        for sandbox in made[:2]:
            with pytest.raises(grpc.RpcError, match="the network is down"):
                crid.stop_sandbox(sandbox)
            assert crid.sandbox(sandbox).state == s.SANDBOX_NOTREADY
        for _ in range(2):
            crid.kill()
            crid.start()
        assert len(leased(pods.directory)) == 3
        assert crid.sandbox(made[2]).state == s.SANDBOX_READY
    # Nobody asks: the plugins are asked again by themselves.
    eventually(lambda: len(leased(pods.directory)) == 1, "the networks of the first two are taken back", PATIENCE_S)
    for sandbox in made:
        crid.remove(sandbox)
    pods.nothing_is_left()


def test_fifty_pods_asked_for_at_once_with_the_network_down_are_refused_in_time(pods: Pods) -> None:
    crid = pods.crid
    patient = list(crid.flags)
    crid.kill()
    crid.flags[-1] = "3"
    crid.start()

    def ask(number: int) -> tuple[grpc.StatusCode, bool]:
        with pytest.raises(grpc.RpcError) as refused:
            crid.run(crid.pod(f"pod-{number}"))
        return refused.value.code(), "did not end within 3 seconds" in (refused.value.details() or "")

    with pods.network_down(), ThreadPoolExecutor(50) as pool:
        # One after the other they would take longer than a call may.
        assert set(pool.map(ask, range(50))) == {(grpc.StatusCode.UNAVAILABLE, True)}
        assert crid.runtime.Version(runtime_pb2.VersionRequest(), timeout=60).runtime_name == "sampan"
        assert crid.sandboxes() == []
        crid.kill()
        crid.flags[:] = patient
        crid.start()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: crid.run(crid.pod(f"again-{number}")), range(8)))
    for sandbox in made:
        crid.remove(sandbox)
    pods.nothing_is_left()


def test_a_deadline_in_the_middle_of_any_call_leaves_it_to_be_made_again(pods: Pods) -> None:
    crid = pods.crid
    for attempt, timeout in enumerate((0.002, 0.01, 0.02, 0.05, 0.1)):

        def cut(call: Callable[..., object], request: object, timeout: float = timeout) -> None:
            try:
                call(request, timeout=timeout)
            except grpc.RpcError as error:
                if error.code() not in _AWAY:
                    raise

        config = crid.pod(f"pod-{attempt}", pids=SHARED)
        cut(crid.runtime.RunPodSandbox, s.RunPodSandboxRequest(config=config))
        sandbox = crid.run(config)
        wanted = crid.container("main", "sleep", "1000", image=pods.image)
        cut(crid.runtime.CreateContainer, c.CreateContainerRequest(pod_sandbox_id=sandbox, config=wanted))
        container = crid.create(sandbox, wanted)
        cut(crid.runtime.StartContainer, c.StartContainerRequest(container_id=container))
        crid.start_container(container)
        calls: tuple[tuple[Callable[..., object], object], ...] = (
            (crid.runtime.ListContainers, c.ListContainersRequest()),
            (crid.runtime.ListPodSandboxStats, stats_pb2.ListPodSandboxStatsRequest()),
            (crid.runtime.ListPodSandboxMetrics, stats_pb2.ListPodSandboxMetricsRequest()),
            (crid.runtime.StopContainer, c.StopContainerRequest(container_id=container)),
            (crid.runtime.RemoveContainer, c.RemoveContainerRequest(container_id=container)),
            (crid.runtime.StopPodSandbox, s.StopPodSandboxRequest(pod_sandbox_id=sandbox)),
            (crid.runtime.RemovePodSandbox, s.RemovePodSandboxRequest(pod_sandbox_id=sandbox)),
        )
        for call, request in calls:
            cut(call, request)
            call(request, timeout=PATIENCE_S)
    pods.nothing_is_left()
