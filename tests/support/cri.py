"""An engine that runs pods: crid beside it, a network for pods, and Kubernetes' own clients of CRI.

Everything is in a network namespace of its own, since pods' ports are opened on the host and plugins write firewall
rules.
"""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.netns import Namespace, network_namespace
from sampan.json_types import JsonObject
from tests.support import pod_images
from tests.support.docker_client import Result, result_of
from tests.support.engine import Engine, run_engine
from tests.support.go_clients import go_program
from tests.support.registry import Registry, run_registry
from tests.support.tools import eventually, need

PLUGINS: Final = "/usr/lib/cni"

SUBNET: Final = "10.213.0.0/16"


@dataclass(frozen=True, slots=True)
class Cri:
    """crid that serves, and what it takes to ask it."""

    engine: Engine
    registry: Registry
    namespace: Namespace
    directory: Path

    @property
    def endpoint(self) -> str:
        """What kubelet calls ``--container-runtime-endpoint``."""
        return f"unix://{self.engine.layout.socket('crid')}"

    @property
    def busybox(self) -> str:
        """The small image's name."""
        return f"{self.registry.address}/{pod_images.BUSYBOX}:{pod_images.TAGS[pod_images.BUSYBOX]}"

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of crictl."""
        options = ("--config", str(self.directory / "crictl.yaml"))
        return self.namespace.enter(str(go_program("crictl")), *options, *arguments)

    def crictl(self, *arguments: str, input: str = "", timeout: float = 120) -> str:
        """Run crictl, which must succeed; return its output."""
        result = self.crictl_fails(*arguments, input=input, timeout=timeout)
        assert result.code == 0, f"crictl {' '.join(arguments)}: {result.code}\n{result.stdout}{result.stderr}"
        return result.stdout

    def crictl_fails(self, *arguments: str, input: str = "", timeout: float = 120) -> Result:
        """Run crictl, whatever its exit code."""
        command = self.command(*arguments)
        return result_of(subprocess.run(command, input=input.encode(), capture_output=True, timeout=timeout))

    def write(self, name: str, document: object) -> str:
        """Write a configuration for crictl; return its path."""
        path = self.directory / name
        path.write_text(json.dumps(document))
        return str(path)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, and short ways to fill it."""

    cri: Cri
    id: str
    document: str  # the file with its configuration
    image: str

    @classmethod
    def run(cls, cri: Cri, name: str, logs: Path, image: str) -> "Pod":
        """Run one; its containers log to ``logs``."""
        document = cri.write(f"{name}.json", cls.config(name, logs))
        return cls(cri, cri.crictl("runp", document).strip(), document, image)

    @staticmethod
    def config(name: str, logs: Path) -> JsonObject:
        """Return a pod's configuration."""
        metadata = {"name": name, "namespace": "tests", "uid": f"uid-{name}", "attempt": 0}
        return {"metadata": metadata, "hostname": name, "log_directory": str(logs), "linux": {}}

    def container_config(self, name: str, *command: str, **further: object) -> str:
        """Write a container's configuration; return its path."""
        config = {
            "metadata": {"name": name, "attempt": 0},
            "image": {"image": self.image},
            "command": command,
            "log_path": f"{name}.log",
            "linux": {},
        }
        return self.cri.write(f"container-{name}.json", config | further)

    def create(self, name: str, *command: str, **further: object) -> str:
        """Make a container; return its ID."""
        config = self.container_config(name, *command, **further)
        return self.cri.crictl("create", self.id, config, self.document).strip()

    def start(self, name: str, *command: str, **further: object) -> str:
        """Make a container and start it; return its ID."""
        container = self.create(name, *command, **further)
        self.cri.crictl("start", container)
        return container

    def state(self, container: str) -> str:
        """Return CRI's word for how a container is."""
        state: str = json.loads(self.cri.crictl("inspect", container))["status"]["state"]
        return state


@contextlib.contextmanager
def run_cri(directory: Path) -> Iterator[Cri]:
    """Run an engine with crid until the block ends; then no pod may be left, nor anything of one."""
    need("iptables", "docker-registry")
    assert Path(PLUGINS, "bridge").exists(), "not installed: containernetworking-plugins (make test-needs)"
    networks = directory / "net.d"
    networks.mkdir()
    (networks / "10-tests.conflist").write_text(json.dumps(_network(directory)))
    with (
        network_namespace() as namespace,
        run_registry(directory / "registry") as registry,
        run_registry(directory / "inner", same_as=registry, prefix=namespace.enter()),
    ):
        pod_images.push_images(registry)
        configs = {"imaged": pod_images.mirrors(registry), "crid": f'cni_conf_dir = "{networks}"\n'}
        with run_engine(configs, before=namespace.enter(), flags=["--cri"]) as engine:
            eventually(engine.layout.state_file("crid").exists, "crid serves")
            cri = Cri(engine, registry, namespace, directory)
            (directory / "crictl.yaml").write_text(
                f"runtime-endpoint: {cri.endpoint}\nimage-endpoint: {cri.endpoint}\n"
            )
            yield cri
            cri.crictl("rmp", "--all", "--force")


def _network(directory: Path) -> object:
    addresses = {
        "type": "host-local",
        "dataDir": str(directory / "addresses"),
        "ranges": [[{"subnet": SUBNET}]],
        "routes": [{"dst": "0.0.0.0/0"}],  # back to whoever asks by an address of the node's
    }
    bridge = {"type": "bridge", "bridge": "cni-tests", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return {"cniVersion": "0.4.0", "name": "tests", "plugins": [bridge, ports]}
