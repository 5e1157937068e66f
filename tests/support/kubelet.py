"""A kubelet without a cluster: it runs the pods whose files lie in a directory, and answers at a port of its own.

It changes settings of the machine, keeps cgroups and leaves links for collectors of logs; all of that is as before when
it has ended.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.cri import Cri
from tests.support.go_clients import go_program
from tests.support.tools import eventually, remove_group

NODE: Final = "node"

_PORT: Final = 10250  # in the engine's own network namespace
_START_S: Final = 60
_CALL_S: Final = 30

# What kubelet sets to values that Kubernetes wants, of the whole machine.
_SETTINGS: Final = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
_LINKS: Final = Path("/var/log/containers")
_CGROUPS: Final = Path("/sys/fs/cgroup")


class Process:
    """Its process, which may be killed and begun anew."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = command
        self._log = log
        self.start()

    def start(self) -> None:
        """Begin it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill it; return when it is gone."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Ask it to end; return when it has."""
        self._process.terminate()
        self._process.wait(_CALL_S)

    @property
    def has_ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None


@dataclass(frozen=True, slots=True)
class Kubelet:
    """One that runs."""

    cri: Cri
    directory: Path
    process: Process

    def restart(self) -> None:
        """Kill it and begin it anew; return when it serves."""
        self.process.kill()
        self.process.start()
        self.serves()

    def serves(self) -> None:
        """Return when it serves."""
        eventually(lambda: _serves(self), "kubelet serves", _START_S)

    def apply(self, name: str, spec: dict[str, Any], **metadata: Any) -> None:
        """Have a pod run."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "tests", **metadata},
            "spec": {"terminationGracePeriodSeconds": 1, **spec},
        }
        written = self.directory / f"{name}.new"
        written.write_text(json.dumps(pod))
        written.rename(self._manifests / f"{name}.json")  # kubelet looks as soon as there is a file

    def delete(self, name: str) -> None:
        """Have a pod run no more; return when kubelet has forgotten it."""
        (self._manifests / f"{name}.json").unlink(missing_ok=True)
        eventually(lambda: self.pod(name) is None, f"pod {name} is gone", _START_S)

    def pod(self, name: str) -> dict[str, Any] | None:
        """Return a pod as kubelet sees it."""
        for pod in json.loads(self.get("pods"))["items"] or ():
            if pod["metadata"]["name"] == f"{name}-{NODE}":
                found: dict[str, Any] = pod
                return found
        return None

    def container(self, pod: str, name: str) -> dict[str, Any]:
        """Return a container's status; {} while there is none."""
        status = (self.pod(pod) or {}).get("status", {})
        both = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
        return next((one for one in both if one["name"] == name), {})

    def ready(self, name: str) -> None:
        """Return when a pod is ready."""
        self.until(name, lambda pod: ("Ready", "True") in _conditions(pod), "is ready")

    def until(self, name: str, holds: Callable[[dict[str, Any]], bool], what: str, deadline_s: float = 60) -> None:
        """Return when ``holds`` of a pod."""
        end = time.monotonic() + deadline_s
        while (pod := self.pod(name)) is None or not holds(pod):
            assert time.monotonic() < end, f"not within {deadline_s} s: pod {name} {what}\n{pod}\n{self.tail()}"
            time.sleep(0.2)

    def get(self, path: str, *options: str) -> str:
        """Ask kubelet's own API."""
        url = f"https://127.0.0.1:{_PORT}/{path}"
        command = self.cri.namespace.enter("curl", "--insecure", "--silent", "--show-error", "--fail", *options, url)
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=_CALL_S).stdout

    def run(self, pod: str, container: str, command: str) -> str:
        """Run a command in a container, as kubelet's probes do."""
        return self.get(f"run/tests/{pod}-{NODE}/{container}?cmd={command}", "--request", "POST")

    def answers(self, pod: str, container: str) -> bool:
        """Whether a command can be run in a container."""
        with contextlib.suppress(subprocess.CalledProcessError):
            return self.run(pod, container, "echo+answered") == "answered\n"
        return False

    def logs(self, pod: str, container: str) -> str:
        """Return what a container wrote."""
        return self.get(f"containerLogs/tests/{pod}-{NODE}/{container}")

    def log_files(self, pod: str, container: str) -> list[Path]:
        """Return the files of a container's log, of a pod of a file's."""
        return self.log_files_of(f"tests_{pod}-{NODE}", container)

    def log_files_of(self, pod: str, container: str) -> list[Path]:
        """Return the files of a container's log; ``pod`` is NAMESPACE_NAME."""
        return sorted((self.directory / "pods").glob(f"{pod}_*/{container}/*"))

    def tail(self) -> str:
        """Return the end of kubelet's own log."""
        return (self.directory / "kubelet.log").read_text()[-3000:]

    @property
    def _manifests(self) -> Path:
        return self.directory / "manifests"


def _conditions(pod: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["type"], one["status"]) for one in pod["status"].get("conditions", ())]


@contextlib.contextmanager
def run_kubelet(
    cri: Cri, directory: Path, program: Sequence[str] = (), further: Sequence[str] = ()
) -> Iterator[Kubelet]:
    """Run one until the block ends, of another program and with further options; its pods end before it does."""
    (directory / "manifests").mkdir()
    parent = f"sampan-{directory.name}"
    config = directory / "kubelet.json"
    config.write_text(json.dumps(_config(cri, directory, parent)))
    options = (f"--config={config}", f"--root-dir={directory / 'root'}", f"--hostname-override={NODE}", "--v=2")
    program = program or [str(go_program("kubelet"))]
    command = cri.namespace.enter(*program, *options, f"--cert-dir={directory / 'kubelet-pki'}", *further)
    with _machine_as_before(directory, parent):
        kubelet = Kubelet(cri, directory, Process(command, directory / "kubelet.log"))
        try:
            kubelet.serves()
            yield kubelet
            for manifest in list((directory / "manifests").iterdir()):
                kubelet.delete(manifest.stem)
        finally:
            kubelet.process.end()
            cri.crictl("rmp", "--all", "--force")  # it removes ended pods a minute later, and would take that along


def _serves(kubelet: Kubelet) -> bool:
    assert not kubelet.process.has_ended, f"kubelet has ended\n{kubelet.tail()}"
    with contextlib.suppress(subprocess.CalledProcessError):
        return kubelet.get("healthz") == "ok"
    return False


def _config(cri: Cri, directory: Path, parent: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": cri.endpoint,
        "staticPodPath": str(directory / "manifests"),
        "podLogsDir": str(directory / "pods"),
        "volumePluginDir": str(directory / "plugins"),
        "address": "0.0.0.0",
        "port": _PORT,
        "healthzPort": 0,
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{parent}",
        "enforceNodeAllocatable": [],
        "makeIPTablesUtilChains": False,
        "fileCheckFrequency": "1s",
        "syncFrequency": "2s",
        "containerLogMaxSize": "256Ki",
        "containerLogMonitorInterval": "3s",
        "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},
        "featureGates": {"KubeletCrashLoopBackOffMax": True},
        "evictionPressureTransitionPeriod": "2s",
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }


@contextlib.contextmanager
def _machine_as_before(directory: Path, parent: str) -> Iterator[None]:
    settings = {name: Path("/proc/sys", name).read_text() for name in _SETTINGS}
    made_links = not _LINKS.exists()
    trees = [tree for tree in _CGROUPS.iterdir() if tree.is_dir() and not tree.is_symlink()]
    for tree in trees:
        (tree / parent).mkdir()
    cpuset = _CGROUPS / "cpuset"
    for name in ("cpuset.cpus", "cpuset.mems"):  # of version 1: nobody may enter a set that has none
        if (cpuset / parent / name).exists():
            (cpuset / parent / name).write_text((cpuset / name).read_text())
    try:
        yield
    finally:
        for name, value in settings.items():
            Path("/proc/sys", name).write_text(value)
        for link in _LINKS.glob("*.log") if _LINKS.exists() else ():
            if str(directory) in os.readlink(link):
                link.unlink()
        if made_links and _LINKS.exists():
            _LINKS.rmdir()
        root = directory / "root"
        if f" {root} " in Path("/proc/self/mountinfo").read_text():  # upon itself, for volumes to propagate
            subprocess.run(["umount", "--recursive", root], check=True)
        for tree in trees:
            for cgroup, _, _ in os.walk(tree / parent, topdown=False):
                remove_group(Path(cgroup))
