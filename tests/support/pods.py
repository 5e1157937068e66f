"""A crid beside an engine, asked as kubelet asks: by gRPC, with configs as JSON."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict

from sampan.api.cri.v1 import config_pb2
from sampan.api.cri.v1 import container_pb2 as c
from sampan.api.cri.v1 import sandbox_pb2 as s
from sampan.api.cri.v1 import streaming_pb2 as st
from sampan.api.cri.v1.image_pb2_grpc import ImageServiceStub
from sampan.api.cri.v1.runtime_pb2_grpc import RuntimeServiceStub
from sampan.layout import Layout
from tests.support.tools import eventually

_READY_S = 60
_CALL_S = 120
_LARGEST = ("grpc.max_receive_message_length", 16 << 20)

PRIVATE, SHARED, NODE = 1, 0, 2  # NamespaceMode of pids


@dataclass
class Crid:
    """One crid, which may be killed and started again."""

    layout: Layout
    flags: list[str] = field(default_factory=list)
    log: Path = Path(os.devnull)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(f"unix:{self.layout.socket('crid')}", options=[_LARGEST])
        self.runtime = RuntimeServiceStub(self.channel)
        self.images = ImageServiceStub(self.channel)

    def start(self) -> None:
        """Start it and return when it serves."""
        roots = ["--data-root", str(self.layout.data_root), "--run-root", str(self.layout.run_root)]
        state = self.layout.state_file("crid")
        state.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            command = [sys.executable, "-P", "-m", "crid", *roots, *self.flags]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(state.exists, "crid serves", _READY_S)

    def kill(self) -> None:
        """Kill it without a warning."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(_READY_S)

    def stop(self) -> None:
        """Stop it as its supervisor does."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(_READY_S)
        self.channel.close()

    # Configs

    def pod(self, name: str, pids: int = PRIVATE, network: int = 0, **more: Any) -> config_pb2.PodSandboxConfig:
        """Return a pod's config; ``more`` are its fields, as JSON."""
        security = {"namespace_options": {"pid": pids, "network": network}, **more.pop("security", {})}
        return ParseDict(
            {
                "metadata": {"name": name, "namespace": "tests", "uid": f"uid-{name}"},
                "hostname": name if network != NODE else "",
                "linux": {"security_context": security, **more.pop("linux", {})},
                **more,
            },
            config_pb2.PodSandboxConfig(),
        )

    def container(
        self, name: str, *command: str, pids: int = PRIVATE, network: int = 0, **more: Any
    ) -> config_pb2.ContainerConfig:
        """Return a container's config likewise."""
        security = {"namespace_options": {"pid": pids, "network": network}, **more.pop("security", {})}
        return ParseDict(
            {
                "metadata": {"name": name},
                "image": {"image": more.pop("image", "")},
                "command": list(command),
                "linux": {"security_context": security, "resources": more.pop("resources", {})},
                **more,
            },
            config_pb2.ContainerConfig(),
        )

    # Calls

    def run(self, config: config_pb2.PodSandboxConfig, handler: str = "") -> str:
        """Run a sandbox; return its ID."""
        request = s.RunPodSandboxRequest(config=config, runtime_handler=handler)
        return self.runtime.RunPodSandbox(request, timeout=_CALL_S).pod_sandbox_id

    def create(self, sandbox: str, config: config_pb2.ContainerConfig) -> str:
        """Create a container; return its ID."""
        request = c.CreateContainerRequest(pod_sandbox_id=sandbox, config=config)
        return self.runtime.CreateContainer(request, timeout=_CALL_S).container_id

    def start_container(self, container: str) -> None:
        """Start a container."""
        self.runtime.StartContainer(c.StartContainerRequest(container_id=container), timeout=_CALL_S)

    def running(self, sandbox: str, config: config_pb2.ContainerConfig) -> str:
        """Create a container and start it; return its ID."""
        container = self.create(sandbox, config)
        self.start_container(container)
        return container

    def exec(self, container: str, *command: str, timeout: int = 0) -> st.ExecSyncResponse:
        """Run a command in a container."""
        request = st.ExecSyncRequest(container_id=container, cmd=command, timeout=timeout)
        return self.runtime.ExecSync(request, timeout=_CALL_S)

    def output(self, container: str, *command: str) -> str:
        """Run a command in a container, which must succeed; return what it wrote."""
        done = self.exec(container, *command)
        assert done.exit_code == 0, done
        return done.stdout.decode()

    def status(self, container: str) -> c.ContainerStatus:
        """Return how a container is."""
        return self.runtime.ContainerStatus(c.ContainerStatusRequest(container_id=container), timeout=_CALL_S).status

    def verbose(self, container: str) -> Mapping[str, str]:
        """Return what else is told of a container."""
        request = c.ContainerStatusRequest(container_id=container, verbose=True)
        return self.runtime.ContainerStatus(request, timeout=_CALL_S).info

    def ended(self, container: str) -> c.ContainerStatus:
        """Return how a container is once it has ended."""
        eventually(lambda: self.status(container).state == c.CONTAINER_EXITED, f"container {container} ends", _CALL_S)
        return self.status(container)

    def sandbox(self, sandbox: str) -> s.PodSandboxStatus:
        """Return how a sandbox is."""
        request = s.PodSandboxStatusRequest(pod_sandbox_id=sandbox)
        return self.runtime.PodSandboxStatus(request, timeout=_CALL_S).status

    def stop_container(self, container: str, timeout: int = 0) -> None:
        """Stop a container."""
        request = c.StopContainerRequest(container_id=container, timeout=timeout)
        self.runtime.StopContainer(request, timeout=_CALL_S)

    def remove_container(self, container: str) -> None:
        """Remove a container."""
        self.runtime.RemoveContainer(c.RemoveContainerRequest(container_id=container), timeout=_CALL_S)

    def stop_sandbox(self, sandbox: str) -> None:
        """Stop a sandbox."""
        self.runtime.StopPodSandbox(s.StopPodSandboxRequest(pod_sandbox_id=sandbox), timeout=_CALL_S)

    def remove(self, sandbox: str) -> None:
        """Remove a sandbox."""
        self.runtime.RemovePodSandbox(s.RemovePodSandboxRequest(pod_sandbox_id=sandbox), timeout=_CALL_S)

    def sandboxes(self) -> list[s.PodSandbox]:
        """Return all."""
        return list(self.runtime.ListPodSandbox(s.ListPodSandboxRequest(), timeout=_CALL_S).items)

    def containers(self, sandbox: str = "") -> list[c.Container]:
        """Return all, or those of a sandbox."""
        request = c.ListContainersRequest(filter=c.ContainerFilter(pod_sandbox_id=sandbox))
        return list(self.runtime.ListContainers(request, timeout=_CALL_S).containers)


@contextlib.contextmanager
def run_crid(layout: Layout, directory: Path, *flags: str) -> Iterator[Crid]:
    """Run a crid; its pods are removed when the block ends."""
    crid = Crid(layout, list(flags), directory / "crid.log")
    crid.start()
    try:
        yield crid
        for sandbox in crid.sandboxes():
            crid.remove(sandbox.id)
    finally:
        crid.stop()


def network(directory: Path, subnet: str) -> Path:
    """Write a network configuration of Debian's plugins, which leaves nothing on the host but its pods' links."""
    directory.mkdir(parents=True, exist_ok=True)
    ipam = {"type": "host-local", "ranges": [[{"subnet": subnet}]], "dataDir": str(directory / "ipam")}
    plugin = {"type": "ptp", "ipam": ipam}
    document = {"cniVersion": "1.0.0", "name": "tests", "plugins": [plugin]}
    (directory / "10-tests.conflist").write_text(json.dumps(document))
    return directory


def leased(directory: Path) -> list[str]:
    """Return the addresses that a network of ``network`` has given."""
    return sorted(path.name for path in (directory / "ipam/tests").glob("*.*.*.*"))
