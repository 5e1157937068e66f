"""A cluster of one node: Kubernetes' own programs, with crid as the runtime, all in the engine's network namespace."""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.cri import SUBNET, Cri
from tests.support.docker_client import Result, result_of
from tests.support.go_clients import go_program
from tests.support.kubelet import NODE, Kubelet, run_kubelet
from tests.support.tools import eventually, need

# What the node is reached at: no component advertises an address of the loopback.
ADDRESS: Final = "192.0.2.1"

# Where pods look for names, if a service with this address is made.
DNS: Final = "10.96.0.10"

_SERVICES: Final = "10.96.0.0/16"
_ETCD: Final = "http://127.0.0.1:2379"
_SERVER: Final = "https://127.0.0.1:6443"
_START_S: Final = 180
_CALL_S: Final = 120

# Each component is who Kubernetes' own roles were written for; groups of a user come after it.
_USERS: Final = {
    "admin": ("admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """One that runs."""

    cri: Cri
    kubelet: Kubelet
    directory: Path

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of kubectl."""
        options = (f"--kubeconfig={self.directory / 'users/admin.json'}", f"--cache-dir={self.directory / 'cache'}")
        return self.cri.namespace.enter(str(go_program("kubernetes")), "kubectl", *options, *arguments)

    def kubectl(self, *arguments: str, input: str = "", timeout: float = _CALL_S) -> str:
        """Run kubectl, which must succeed; return its output."""
        result = self.kubectl_fails(*arguments, input=input, timeout=timeout)
        assert result.code == 0, f"kubectl {' '.join(arguments)}: {result.code}\n{result.stdout}{result.stderr}"
        return result.stdout

    def kubectl_fails(self, *arguments: str, input: str = "", timeout: float = _CALL_S) -> Result:
        """Run kubectl, whatever its exit code."""
        command = self.command(*arguments)
        return result_of(subprocess.run(command, input=input.encode(), capture_output=True, timeout=timeout))

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Have objects be."""
        self.kubectl("apply", "--filename=-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return an object, or a list of them."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "--output=json"))
        return found

    def until(self, holds: Callable[[], object], what: str, deadline_s: float = 120) -> None:
        """Return when something holds."""
        eventually(lambda: bool(holds()), what, deadline_s)

    def ready(self, pod: str) -> None:
        """Return when a pod is ready."""
        done = self.kubectl_fails("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=100s")
        assert done.code == 0, f"{done.stderr}\n{self.kubectl('describe', 'pod', pod)}\n{self.kubelet.tail()}"


@contextlib.contextmanager
def run_cluster(cri: Cri, directory: Path) -> Iterator[Cluster]:
    """Run one until the block ends, which has no pods then."""
    need("curl", "nft", "openssl")
    _write_identities(directory)
    for command in (
        ("link", "add", "node", "type", "bridge"),
        ("link", "set", "node", "up"),
        ("address", "add", f"{ADDRESS}/24", "dev", "node"),
        ("route", "add", _SERVICES, "dev", "node"),  # a node has a way to everywhere, and rules of kube-proxy's on it
    ):
        subprocess.run(cri.namespace.enter("ip", *command), check=True)
    with contextlib.ExitStack() as stack:

        def start(name: str, *options: str) -> None:
            stack.enter_context(_component(cri, directory, name, options))

        start(
            "etcd",
            f"--data-dir={directory / 'etcd'}",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",  # it is gone with the test
        )
        start("kube-apiserver", *_server_options(directory))
        _wait_for_server(cri, directory)
        kubeconfig = {name: f"--kubeconfig={directory / 'users' / name}.json" for name in _USERS}
        start(
            "kube-controller-manager",
            kubeconfig["kube-controller-manager"],
            f"--service-account-private-key-file={directory / 'accounts.key'}",
            f"--root-ca-file={directory / 'pki/apiserver.crt'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--secure-port=0",
        )
        start("kube-scheduler", kubeconfig["kube-scheduler"], "--leader-elect=false", "--secure-port=0")
        start(
            "kube-proxy",
            kubeconfig["kube-proxy"],
            "--proxy-mode=nftables",
            f"--cluster-cidr={SUBNET}",  # others reach a service by the node's address
            f"--hostname-override={NODE}",
            "--conntrack-max-per-core=0",  # settings of the whole machine
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        )
        names = (f"--cluster-dns={DNS}", "--cluster-domain=cluster.local")
        options = (kubeconfig["kubelet"], f"--node-ip={ADDRESS}", *names)
        program = (str(go_program("kubernetes")), "kubelet")
        kubelet = stack.enter_context(run_kubelet(cri, directory, program, options))
        cluster = Cluster(cri, kubelet, directory)
        cluster.until(lambda: cluster.kubectl_fails("get", "serviceaccount", "default").code == 0, "there are accounts")
        ready = ("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=5s")
        cluster.until(lambda: cluster.kubectl_fails(*ready).code == 0, "the node is ready")
        try:
            yield cluster
        finally:
            cluster.kubectl("delete", "deployment,statefulset,daemonset,cronjob,job,pod", "--all", "--grace-period=1")
            cluster.until(lambda: not cluster.get("pods")["items"], "all pods are gone")


def _server_options(directory: Path) -> list[str]:
    return [
        f"--etcd-servers={_ETCD}",
        f"--cert-dir={directory / 'pki'}",
        "--secure-port=6443",
        f"--advertise-address={ADDRESS}",
        f"--service-cluster-ip-range={_SERVICES}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={directory / 'accounts.pub'}",
        f"--service-account-signing-key-file={directory / 'accounts.key'}",
        "--authorization-mode=Node,RBAC",
        f"--token-auth-file={directory / 'tokens.csv'}",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        "--kubelet-preferred-address-types=InternalIP",
    ]


def _write_identities(directory: Path) -> None:
    key = directory / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    public = ["openssl", "rsa", "-in", str(key), "-pubout", "-out", str(directory / "accounts.pub")]
    subprocess.run(public, check=True, capture_output=True)
    rows = [f'token-{name},{user},{name},"{groups}"\n' for name, (user, groups) in _USERS.items()]
    (directory / "tokens.csv").write_text("".join(rows))
    (directory / "users").mkdir()
    for name in _USERS:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": _SERVER, "insecure-skip-tls-verify": True}}],
            "users": [{"name": name, "user": {"token": f"token-{name}"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": name}}],
            "current-context": "c",
        }
        (directory / f"users/{name}.json").write_text(json.dumps(config))


@contextlib.contextmanager
def _component(cri: Cri, directory: Path, name: str, options: tuple[str, ...]) -> Iterator[None]:
    with (directory / f"{name}.log").open("wb") as log:
        command = cri.namespace.enter(str(go_program("kubernetes")), name, *options)
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield
            assert process.poll() is None, f"{name} has ended\n{_tail(directory, name)}"
        finally:
            process.kill()  # nothing that it keeps is wanted again
            process.wait()


def _wait_for_server(cri: Cri, directory: Path) -> None:
    ask = cri.namespace.enter("curl", "--insecure", "--silent", "--fail", f"{_SERVER}/readyz")

    def serves() -> bool:
        return subprocess.run(ask, capture_output=True, timeout=30).stdout == b"ok"

    try:
        eventually(serves, "the API server serves", _START_S)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{_tail(directory, 'kube-apiserver')}") from None


def _tail(directory: Path, name: str) -> str:
    return (directory / f"{name}.log").read_text()[-3000:]
