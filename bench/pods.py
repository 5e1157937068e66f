"""Pods on this project's engine and on Debian's containerd, by one gRPC client: ``make bench-pods``.

Both have the same image, the same CNI plugins and configuration, and a network namespace of their own. A round makes
one pod on each, in turns.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from bench import processes
from bench.engines import SAMPAN
from bench.netns import Namespace, network_namespace
from bench.table import cell
from sampan.api.cri.v1 import (
    config_pb2,
    container_pb2,
    image_pb2,
    image_pb2_grpc,
    runtime_pb2_grpc,
    sandbox_pb2,
    security_pb2,
    stats_pb2,
)
from sampan.layout import Layout
from tests.support.footprint import remove_kernel_objects
from tests.support.images import Image, layer, push
from tests.support.registry import Registry, run_registry
from tests.support.tools import eventually, need, need_root, search_path
from tests.support.trees import busybox_tar

_PLUGINS: Final = "/usr/lib/cni"
_MANY: Final = 100
_AT_A_TIME: Final = 8
_ASKED: Final = 20  # times that a list is asked for
_SETTLE_S: Final = 12.0  # what has ended is tidied up meanwhile


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime that serves CRI."""

    name: str
    socket: Path
    root: Path
    daemons: Callable[[], set[int]]
    helpers: Sequence[str]  # names of processes that stay with pods

    def channel(self) -> grpc.Channel:
        """Connect."""
        return grpc.insecure_channel(f"unix://{self.socket}")

    def memory(self) -> int:
        """Return what its daemons hold, and what stays with its pods."""
        staying = {pid for pid, name in processes.with_argument(str(self.root)) if name in self.helpers}
        # What a runtime keeps in a pod beside the containers that were asked for, such as a pause process.
        staying |= {pid for helper in set(staying) for pid in _keepers(helper)}
        return sum(processes.pss_bytes_if_there(pid) for pid in self.daemons() | staying)


def _keepers(helper: int) -> set[int]:
    """Return the children of a helper's that hold a pod's namespaces open."""
    return {pid for pid in processes.descendants(helper) - {helper} if _command(pid) == ["sleep", "infinity"]}


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    except OSError:
        return []


class Client:
    """One client, for whichever runtime."""

    def __init__(self, runtime: Runtime, image: str) -> None:
        channel = runtime.channel()
        self._runtime = runtime_pb2_grpc.RuntimeServiceStub(channel)
        self._images = image_pb2_grpc.ImageServiceStub(channel)
        self._image = config_pb2.ImageSpec(image=image)
        self._logs = str(runtime.root / "logs")

    def pull(self) -> None:
        """Pull the image."""
        self._images.PullImage(image_pb2.PullImageRequest(image=self._image), timeout=120)

    def pod(self, name: str) -> str:
        """Run a pod with a container in it; return its ID when the container runs."""
        config = config_pb2.PodSandboxConfig(
            metadata=config_pb2.PodSandboxMetadata(name=name, namespace="bench", uid=f"uid-{name}"),
            hostname=name,
            log_directory=self._logs,
            linux=config_pb2.LinuxPodSandboxConfig(),
        )
        # As kubelet asks by default: no process namespace for the whole pod.
        config.linux.security_context.namespace_options.pid = security_pb2.CONTAINER
        pod = self._runtime.RunPodSandbox(sandbox_pb2.RunPodSandboxRequest(config=config), timeout=60).pod_sandbox_id
        container = config_pb2.ContainerConfig(
            metadata=config_pb2.ContainerMetadata(name="main"),
            image=self._image,
            command=["sleep", "3600"],
            log_path=f"{name}.log",
        )
        container.linux.security_context.namespace_options.pid = security_pb2.CONTAINER
        request = container_pb2.CreateContainerRequest(pod_sandbox_id=pod, config=container, sandbox_config=config)
        made = self._runtime.CreateContainer(request, timeout=60).container_id
        self._runtime.StartContainer(container_pb2.StartContainerRequest(container_id=made), timeout=60)
        status = self._runtime.ContainerStatus(container_pb2.ContainerStatusRequest(container_id=made), timeout=60)
        assert status.status.state == container_pb2.CONTAINER_RUNNING
        return pod

    def remove(self, pod: str) -> None:
        """Take a pod away."""
        self._runtime.StopPodSandbox(sandbox_pb2.StopPodSandboxRequest(pod_sandbox_id=pod), timeout=60)
        self._runtime.RemovePodSandbox(sandbox_pb2.RemovePodSandboxRequest(pod_sandbox_id=pod), timeout=60)

    def lists(self) -> dict[str, Callable[[], object]]:
        """Return what kubelet asks for every few seconds."""
        ask = self._runtime
        return {
            "ListPodSandbox": lambda: ask.ListPodSandbox(sandbox_pb2.ListPodSandboxRequest(), timeout=60).items,
            "ListContainers": lambda: ask.ListContainers(container_pb2.ListContainersRequest(), timeout=60).containers,
            "ListContainerStats": lambda: (
                ask.ListContainerStats(stats_pb2.ListContainerStatsRequest(), timeout=60).stats
            ),
            "ListPodSandboxStats": lambda: (
                ask.ListPodSandboxStats(stats_pb2.ListPodSandboxStatsRequest(), timeout=60).stats
            ),
        }


def _network(directory: Path, name: str) -> Path:
    directory.mkdir(parents=True)
    addresses = {"type": "host-local", "dataDir": str(directory / "state"), "ranges": [[{"subnet": "10.214.0.0/16"}]]}
    bridge = {"type": "bridge", "bridge": f"b-{name}", "isGateway": True, "ipam": addresses}
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    (directory / "10-bench.conflist").write_text(
        json.dumps({"cniVersion": "0.4.0", "name": "bench", "plugins": plugins})
    )
    return directory


@contextmanager
def containerd(root: Path, namespace: Namespace, image: str) -> Iterator[Runtime]:
    """Run Debian's containerd with runc."""
    root.mkdir()
    socket, network = root / "c.sock", _network(root / "net.d", "containerd")
    (root / "config.toml").write_text(
        f'version = 2\nroot = "{root}/data"\nstate = "{root}/state"\n[grpc]\naddress = "{socket}"\n'
        '[plugins."io.containerd.grpc.v1.cri"]\n'
        f'sandbox_image = "{image}"\ndisable_apparmor = true\nrestrict_oom_score_adj = true\nstream_server_port = "0"\n'
        f'[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "{_PLUGINS}"\nconf_dir = "{network}"\n'
    )
    command = namespace.enter("containerd", "--config", str(root / "config.toml"))
    with _daemon(command, root / "log", socket) as process:
        yield Runtime("containerd", socket, root, lambda: {process.pid}, ("containerd-shim",))


@contextmanager
def sampan(root: Path, namespace: Namespace) -> Iterator[Runtime]:
    """Run this project's engine with crid."""
    root.mkdir()
    layout = Layout(root / "d", root / "r")
    (root / "c").mkdir()
    (root / "c/crid.toml").write_text(f'cni_conf_dir = "{_network(root / "net.d", "sampan")}"\n')
    options = ("--data-root", str(layout.data_root), "--run-root", str(layout.run_root))
    command = namespace.enter(str(SAMPAN), *options, "up", "--cri")
    environment = {"SAMPAN_CONFIG_DIR": str(root / "c")}
    with _daemon(command, root / "log", layout.socket("crid"), environment) as process:
        yield Runtime("sampan", layout.socket("crid"), root, lambda: processes.descendants(process.pid), ("conmon",))
    remove_kernel_objects(layout)


@contextmanager
def _daemon(
    command: Sequence[str], log: Path, socket: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    env = os.environ | {"PATH": search_path()} | (environment or {})
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env, start_new_session=True)

    def ready() -> bool:
        assert process.poll() is None, f"{command}: {log.read_text()[-2000:]}"
        return socket.exists()

    try:
        eventually(ready, f"a runtime serves {socket}", 60)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="bench.pods", description="Measure pods beside containerd.")
    parser.add_argument("--runs", type=int, default=15, help="rounds of the first row")
    parser.add_argument("--pods", type=int, default=_MANY, help="pods of the others")
    options = parser.parse_args(argv)
    need_root()
    need("containerd", "runc", "iptables")
    directory = Path(tempfile.mkdtemp(prefix="sb", dir="/tmp"))
    try:
        with ExitStack() as stack:
            registry = stack.enter_context(run_registry(directory / "registry"))
            runtimes = _start(stack, directory, registry)
            results = _measure(runtimes, options.runs, options.pods)
        print(_table(results, [runtime.name for runtime, _ in runtimes]))
        return 0
    finally:
        _tidy(directory)


def _start(stack: ExitStack, directory: Path, registry: Registry) -> list[tuple[Runtime, Client]]:
    tree = layer(busybox_tar())
    push(registry, "busybox", "bench", Image([tree], {"Cmd": ["sh"], "Env": ["PATH=/bin"]}))
    push(registry, "pause", "bench", Image([tree], {"Entrypoint": ["sleep", "infinity"], "Env": ["PATH=/bin"]}))
    started = []
    for name in ("sampan", "containerd"):
        namespace = stack.enter_context(network_namespace())
        inner = run_registry(directory / f"registry-{name}", same_as=registry, prefix=namespace.enter())
        stack.enter_context(inner)
        if name == "sampan":
            runtime = stack.enter_context(sampan(directory / "s", namespace))
        else:
            pause = f"{registry.address}/pause:bench"
            runtime = stack.enter_context(containerd(directory / "c", namespace, pause))
        client = Client(runtime, f"{registry.address}/busybox:bench")
        client.pull()
        client.remove(client.pod("warm"))
        started.append((runtime, client))
    return started


Results = dict[str, dict[str, tuple[list[float], str]]]


def _measure(runtimes: list[tuple[Runtime, Client]], rounds: int, pods: int) -> Results:
    results: Results = {}

    def note(row: str, runtime: Runtime, values: list[float], unit: str) -> None:
        results.setdefault(row, {}).setdefault(runtime.name, ([], unit))[0].extend(values)

    for number in range(rounds):
        for runtime, client in runtimes if number % 2 else reversed(runtimes):
            begin = time.monotonic()
            pod = client.pod(f"round-{number}")
            note("a pod with one container, until that runs", runtime, [time.monotonic() - begin], "ms")
            begin = time.monotonic()
            client.remove(pod)
            note("the same pod stopped and removed", runtime, [time.monotonic() - begin], "ms")
    for runtime, client in runtimes:
        time.sleep(_SETTLE_S)
        note("daemons at rest", runtime, [float(runtime.memory())], "MB")
        before = runtime.memory()
        begin = time.monotonic()
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            names = [f"many-{number}" for number in range(pods)]
            made = list(pool.map(client.pod, names))
        note(f"{pods} pods, {_AT_A_TIME} at a time", runtime, [time.monotonic() - begin], "s")
        for name, ask in client.lists().items():
            note(f"{name} of {pods}", runtime, _times(ask, pods), "ms")
        time.sleep(_SETTLE_S)
        note("memory per pod", runtime, [(runtime.memory() - before) / pods], "MB")
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            list(pool.map(client.remove, made))
    return results


def _times(ask: Callable[[], object], expected: int) -> list[float]:
    times = []
    try:
        for _ in range(_ASKED):
            begin = time.monotonic()
            found = ask()
            times.append(time.monotonic() - begin)
            assert len(found) == expected  # type: ignore[arg-type]
    except grpc.RpcError as error:
        sys.stderr.write(f"{error.details()}\n")
    return times


def _table(results: Results, names: Sequence[str]) -> str:
    rows = [["", *names, f"× {names[1]}"], ["---", *["---:"] * (len(names) + 1)]]
    for row, by_name in results.items():
        values = [by_name[name] for name in names]
        medians = [statistics.median(each) for each, _ in values if each]
        ratio = f"{medians[0] / medians[1]:.2f}" if len(medians) == 2 else "–"
        rows.append([row, *(cell(each, unit) for each, unit in values), ratio])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _tidy(directory: Path) -> None:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((point for point in points if point.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
