"""Sampan installed as users install it: a wheel in a new environment, and a Debian package under a systemd that booted.

The machine is a container of our own engine, privileged and without a network: what an installation needs is in the
package, and what it depends on is there before. ``make test-install`` runs this.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient, Result
from tests.support.engine import Engine
from tests.support.tools import eventually, need
from tests.support.trees import busybox_tar, debian_tar

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
DEPENDS = (
    "systemd systemd-sysv dbus conmon crun nftables python3 libnftables1 libstdc++6 procps ca-certificates"
)  # fmt: skip
FOREVER = ("sleep", "100000")
POLITE = ("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")

# Asks the Docker API at the socket that systemd listens at.
ASK = """
import socket
with socket.socket(socket.AF_UNIX) as asking:
    asking.settimeout(60)
    asking.connect("/run/docker.sock")
    asking.sendall(b"GET /_ping HTTP/1.0\\r\\n\\r\\n")
    print(asking.makefile().read().split()[-1])
"""

# Adds to a database's schema version.
STEP = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
(version,) = db.execute("PRAGMA user_version").fetchone()
db.execute(f"PRAGMA user_version = {version + int(sys.argv[2])}")
"""


# Makes a pod in the host's network, with one container, as kubelet does; or asks for one in a group that is no slice.
POD = """
import json, sys
import grpc
from sampan.api.cri.v1 import config_pb2 as config, container_pb2 as c, runtime_pb2 as r, sandbox_pb2 as s
from sampan.api.cri.v1 import security_pb2 as security, stats_pb2 as stats
from sampan.api.cri.v1.runtime_pb2_grpc import RuntimeServiceStub

runtime = RuntimeServiceStub(grpc.insecure_channel("unix:/run/sampan/crid.sock"))
if sys.argv[1] == "remove":
    for each in runtime.ListPodSandbox(s.ListPodSandboxRequest()).items:
        runtime.RemovePodSandbox(s.RemovePodSandboxRequest(pod_sandbox_id=each.id))
    sys.exit()
modes = security.NamespaceOption(network=security.NODE, pid=security.CONTAINER)
pod = config.PodSandboxConfig(metadata=config.PodSandboxMetadata(name=sys.argv[1], namespace="default", uid="1"))
pod.linux.cgroup_parent = {"run": "/kubepods.slice/kubepods-pod1.slice", "misplace": "/kubepods/pod1"}[sys.argv[1]]
pod.linux.security_context.namespace_options.CopyFrom(modes)
sandbox = runtime.RunPodSandbox(s.RunPodSandboxRequest(config=pod)).pod_sandbox_id
main = config.ContainerConfig(command=["sleep", "100000"])
main.metadata.name, main.image.image = "main", "app:1"
main.linux.security_context.namespace_options.CopyFrom(modes)
asked = c.CreateContainerRequest(pod_sandbox_id=sandbox, config=main, sandbox_config=pod)
container = runtime.CreateContainer(asked).container_id
runtime.StartContainer(c.StartContainerRequest(container_id=container))
driver = runtime.RuntimeConfig(r.RuntimeConfigRequest()).linux.cgroup_driver
usage = runtime.PodSandboxStats(stats.PodSandboxStatsRequest(pod_sandbox_id=sandbox)).stats.linux
print(json.dumps({
    "container": container, "driver": r.CgroupDriver.Name(driver),
    "processes": usage.process.process_count.value, "pressure": usage.cpu.HasField("psi"),
}))
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A Debian that has booted."""

    docker: DockerClient
    name: str

    def __call__(self, *command: str, timeout: float = 120) -> Result:
        """Run a command; it must succeed."""
        return self.docker("exec", self.name, *command, timeout=timeout)

    def fails(self, *command: str) -> Result:
        """Run a command, whatever its exit code."""
        return self.docker.fails("exec", self.name, *command, timeout=120)

    def sampan(self, *arguments: str) -> Result:
        """Run ``sampan``; it must succeed."""
        return self("sampan", *arguments)

    def states(self) -> dict[str, str]:
        """Return the first word of each container's status."""
        shown = self.sampan("ps", "--all", "--format", "{{.Names}} {{.Status}}")
        return {name: status for name, status, *_ in (line.split() for line in shown.lines)}

    def wait_until_booted(self) -> None:
        """Return when systemd has nothing more to start."""
        eventually(
            lambda: self.fails("systemctl", "is-system-running").line in ("running", "degraded"), "it has booted", 60
        )

    def put(self, path: Path) -> str:
        """Copy a file to it, and return where it is."""
        self.docker("cp", str(path), f"{self.name}:/root/{path.name}")
        return f"/root/{path.name}"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package."""
    need("dpkg-deb")
    made = subprocess.run(
        [ROOT / "tools/make-deb", tmp_path_factory.mktemp("deb")], capture_output=True, text=True, check=True
    )
    return Path(made.stdout.strip())


@pytest.fixture(scope="module")
def machine(engine: Engine, docker: DockerClient) -> Iterator[Machine]:
    """A Debian with everything that the package depends on, and without a network."""
    docker("import", str(debian_tar()), "debian:plain", timeout=300)
    install = f"apt-get update -q && apt-get install -q -y --no-install-recommends {DEPENDS}"
    docker(
        "run",
        "--name",
        "made",
        "-e",
        "DEBIAN_FRONTEND=noninteractive",
        "debian:plain",
        "sh",
        "-c",
        install,
        timeout=600,
    )
    docker("commit", "made", "debian:systemd", timeout=300)
    flags = (
        "--tmpfs",
        "/run",
        "--tmpfs",
        "/run/lock",
        "--volume",
        "machine:/var/lib/sampan",
        "--env",
        "container=docker",
        "--cgroupns",
        "private",  # its systemd has the control groups of the whole machine otherwise, and sees a part of them
    )
    docker(
        "run", "-d", "--privileged", "--network", "none", "--name", "machine", "--stop-signal", "SIGRTMIN+3", *flags,
        "debian:systemd", "/sbin/init",
    )  # fmt: skip
    booted = Machine(docker, "machine")
    booted.wait_until_booted()
    yield booted
    docker("rm", "--force", "--volumes", "machine", "made")
    docker("volume", "rm", "machine")


def test_the_package_is_installed_without_a_network_and_starts_nothing(machine: Machine, package: Path) -> None:
    machine("dpkg", "--install", machine.put(package))
    assert machine.fails("systemctl", "is-active", "sampan").line == "inactive"
    assert machine("getent", "group", "sampan").line.startswith("sampan:")
    assert "Sampan version" in machine.sampan("--version").line
    assert machine("sh", "-c", "zcat /usr/share/man/man1/sampan-run.1.gz | grep -c '^.TH'").line == "1"
    assert "_SAMPAN_COMPLETE" in machine("cat", "/usr/share/bash-completion/completions/sampan").stdout
    assert machine.fails("test", "-f", "/usr/share/doc/sampan/deploy/kubernetes/crictl.yaml").code == 0
    assert machine("sh", "-c", "grep -rlI /tmp/ /usr/lib/sampan/bin /usr/lib/sampan/pyvenv.cfg || true").line == ""


def test_the_unit_starts_it_and_containers_run(machine: Machine, tmp_path: Path) -> None:
    tar = tmp_path / "root.tar"
    tar.write_bytes(busybox_tar())
    machine("systemctl", "enable", "--now", "sampan")
    assert all(each["healthy"] for each in json.loads(machine.sampan("status", "--format", "json").stdout))
    machine.sampan("import", machine.put(tar), "app:1")
    assert machine.sampan("run", "--rm", "app:1", "echo", "hello").line == "hello"
    for name, policy in (("always", "always"), ("unless", "unless-stopped"), ("plain", "no")):
        machine.sampan("run", "-d", "--restart", policy, "--name", name, "app:1", *FOREVER)


def test_a_reload_changes_no_process(machine: Machine) -> None:
    before = machine.sampan("status", "--format", "{{.Service}} {{.Pid}}").lines
    machine("systemctl", "reload", "sampan")
    assert machine("systemctl", "is-active", "sampan").line == "active"
    assert machine.sampan("status", "--format", "{{.Service}} {{.Pid}}").lines == before


def test_containers_run_on_while_it_is_stopped_and_started(machine: Machine) -> None:
    machine("systemctl", "stop", "sampan")
    assert machine("pgrep", "--count", "--full", "^sleep 100000").line == "3"
    machine("systemctl", "start", "sampan")
    assert machine.states() == {"always": "Up", "unless": "Up", "plain": "Up"}


def test_an_upgrade_leaves_containers_running(machine: Machine, package: Path, tmp_path: Path) -> None:
    """The next release has other files; what happens to an engine that runs is the same with these."""
    pids = machine("pgrep", "--full", "^sleep 100000").lines
    later = repacked(package, tmp_path, "0.1.0", "0.1.1")
    before = machine("systemctl", "show", "--value", "--property", "MainPID", "sampan").line
    machine("dpkg", "--install", machine.put(later))
    assert machine("systemctl", "show", "--value", "--property", "MainPID", "sampan").line != before
    assert machine.states() == {"always": "Up", "unless": "Up", "plain": "Up"}
    assert machine("pgrep", "--full", "^sleep 100000").lines == pids
    assert machine.sampan("exec", "plain", "echo", "here").line == "here"


def repacked(package: Path, directory: Path, old: str, new: str) -> Path:
    """Return the same package under another version."""
    tree = directory / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {old}", f"Version: {new}"))
    made = directory / package.name.replace(old, new)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "--build", tree, made],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return made


def test_a_socket_of_systemd_s_starts_it_and_outlives_its_processes(machine: Machine) -> None:
    def ask() -> str:
        return machine("python3", "-c", ASK).line

    machine("systemctl", "stop", "sampan")
    machine("sh", "-c", "echo 'listen = [\"fd://docker\"]' > /etc/sampan/dockerapi.toml")
    machine("systemctl", "start", "sampan.socket")
    assert machine.fails("systemctl", "is-active", "sampan").line == "inactive"
    assert ask() == "OK"  # who connects first has it started, and waits
    eventually(lambda: machine.fails("systemctl", "is-active", "sampan").line == "active", "all of it is ready")
    assert machine.states() == {"always": "Up", "unless": "Up", "plain": "Up"}
    machine("sh", "-c", "kill -KILL $(sampan status --format '{{.Service}} {{.Pid}}' | sed -n 's/^dockerapi //p')")
    assert ask() == "OK"
    assert machine("stat", "--format", "%a %G", "/run/docker.sock").line == "660 sampan"
    machine("rm", "/etc/sampan/dockerapi.toml")
    machine("systemctl", "stop", "sampan.socket")
    machine("systemctl", "restart", "sampan")


def test_an_older_program_refuses_what_a_newer_one_has_written(machine: Machine) -> None:
    machine("systemctl", "stop", "sampan")
    database = "/var/lib/sampan/imaged/metadata.db"
    machine("python3", "-c", STEP, database, "100")
    assert machine.fails("sampan", "up", "--detach").code == 1
    refusal = machine.fails("sampan", "up", "--detach").stderr
    assert re.search(r"has schema \d+, this engine knows \d+: use a newer engine", refusal), refusal
    machine("python3", "-c", STEP, database, "-100")
    machine("systemctl", "reset-failed", "sampan")
    machine("systemctl", "start", "sampan")


def test_a_reboot_ends_containers_by_their_signals_and_starts_them_by_their_policies(machine: Machine) -> None:
    machine.sampan("stop", "--time", "1", "unless")
    machine.sampan("run", "-d", "--name", "polite", "app:1", *POLITE)
    eventually(lambda: machine.sampan("logs", "polite").line == "ready", "its trap is set")
    machine.docker("restart", "--time", "60", machine.name, timeout=300)
    machine.wait_until_booted()
    assert machine("systemctl", "is-active", "sampan").line == "active"
    eventually(lambda: machine.states()["always"] == "Up", "the policy is obeyed")
    assert machine.states() == {"always": "Up", "unless": "Exited", "plain": "Exited", "polite": "Exited"}
    codes = machine.sampan("inspect", "--format", "{{.State.ExitCode}}", "polite", "plain").lines
    assert codes == ["3", "137"]  # its own, and that of who does not listen and was not left to systemd


def limits_of(machine: Machine, scope: str) -> tuple[str, ...]:
    """Return what the kernel and systemd say of a scope's memory, processor time and processes."""
    told = machine("systemctl", "show", "--value", "-p", "MemoryMax,CPUQuotaPerSecUSec,TasksMax", Path(scope).name)
    files = ("memory/{}/memory.limit_in_bytes", "cpu/{}/cpu.cfs_quota_us", "pids/{}/pids.max")
    if machine.fails("test", "-e", "/sys/fs/cgroup/memory").code:
        files = ("{}/memory.max", "{}/cpu.max", "{}/pids.max")
    kernel = machine("cat", *(f"/sys/fs/cgroup/{file.format(scope.strip('/'))}" for file in files)).lines
    return (*sorted(told.lines), *(line.split()[0] for line in kernel))


def test_systemd_has_containers_as_scopes_and_keeps_their_limits(machine: Machine) -> None:
    machine("sh", "-c", "echo 'cgroup_driver = \"systemd\"' > /etc/sampan/runtimed.toml")
    machine("systemctl", "restart", "sampan")
    limits = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "50")
    made = machine.sampan("run", "-d", "--name", "scoped", *limits, "app:1", *FOREVER).line
    scope = f"/system.slice/sampan-{made}.scope"
    at_first = (*sorted(("500ms", "50", str(64 << 20))), str(64 << 20), "50000", "50")
    assert limits_of(machine, scope) == at_first
    machine("systemctl", "daemon-reload")  # upon which it writes to the kernel what it knows
    assert limits_of(machine, scope) == at_first
    machine.sampan("update", "--memory", "80m", "--memory-swap", "80m", "--cpus", "0.8", "--pids-limit", "60", "scoped")
    changed = (*sorted(("800ms", "60", str(80 << 20))), str(80 << 20), "80000", "60")
    assert limits_of(machine, scope) == changed
    machine("systemctl", "daemon-reload")
    assert limits_of(machine, scope) == changed
    machine("systemctl", "restart", "sampan")
    assert machine.states()["scoped"] == "Up"
    machine.sampan("rm", "--force", "scoped")
    gone = ("systemctl", "list-units", "--all", "--no-legend", f"sampan-{made}.scope")
    eventually(lambda: machine(*gone).lines == [], "systemd has let its scope go")


def test_pods_are_in_slices_that_kubelet_names(machine: Machine, tmp_path: Path) -> None:
    drop_in = "/etc/systemd/system/sampan.service.d"
    machine("mkdir", "-p", drop_in)
    machine("cp", machine.put(ROOT / "deploy/kubernetes/sampan.service.d/cri.conf"), drop_in)
    machine("systemctl", "daemon-reload")
    machine("systemctl", "restart", "sampan")
    eventually(lambda: machine.fails("test", "-S", "/run/sampan/crid.sock").code == 0, "crid serves")
    script = tmp_path / "pod.py"
    script.write_text(POD)
    told = json.loads(machine("/usr/lib/sampan/bin/python3", "-P", machine.put(script), "run").stdout)
    assert told["driver"] == "SYSTEMD"
    scope = f"sampan-{told['container']}.scope"
    assert machine("systemctl", "show", "--value", "-p", "Slice", scope).line == "kubepods-pod1.slice"
    assert told["processes"] == 1
    group = "kubepods.slice/kubepods-pod1.slice"
    pressure = ("-path", f"*/{group}/cpu.pressure")
    assert told["pressure"] == bool(machine("find", "/sys/fs/cgroup", *pressure).lines)
    assert (
        "a slice is expected" in machine.fails("/usr/lib/sampan/bin/python3", "-P", "/root/pod.py", "misplace").stderr
    )
    machine("/usr/lib/sampan/bin/python3", "-P", "/root/pod.py", "remove")
    gone = ("systemctl", "list-units", "--all", "--no-legend", scope)
    eventually(lambda: machine(*gone).lines == [], "systemd has let its scope go")
    machine("rm", "-r", drop_in, "/etc/sampan/runtimed.toml")
    machine("systemctl", "daemon-reload")
    machine("systemctl", "restart", "sampan")


def test_it_is_removed_and_purged_and_leaves_data_alone(machine: Machine) -> None:
    machine("dpkg", "--remove", "sampan")
    assert machine.fails("systemctl", "is-active", "sampan").line == "inactive"
    assert machine.fails("sh", "-c", "command -v sampan").code != 0
    purged = machine("dpkg", "--purge", "sampan")
    assert "/var/lib/sampan" in purged.stderr
    assert machine.fails("test", "-e", "/etc/sampan").code != 0
    assert machine.fails("test", "-e", "/usr/lib/sampan").code != 0
    assert machine("test", "-e", "/var/lib/sampan/imaged").code == 0


def test_a_wheel_is_all_that_pip_needs(tmp_path: Path) -> None:
    def pip(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "pip", "--python", tmp_path / "venv/bin/python", *arguments], check=True)

    build = ("wheel", "-q", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT))
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    pip("install", "-q", "-c", str(ROOT / "requirements/lock.txt"), *map(str, tmp_path.glob("*.whl")))
    sampan = tmp_path / "venv/bin/sampan"
    with tempfile.TemporaryDirectory(prefix="sp", dir="/tmp") as roots:
        environment = {"PATH": os.environ["PATH"], "SAMPAN_DATA_ROOT": f"{roots}/d", "SAMPAN_RUN_ROOT": f"{roots}/r"}
        subprocess.run([sampan, "up", "--detach"], env=environment, check=True, cwd="/")
        try:
            shown = subprocess.run(
                [sampan, "status", "--format", "json"], env=environment, capture_output=True, check=True
            )
            assert all(each["healthy"] for each in json.loads(shown.stdout))
        finally:
            subprocess.run([sampan, "down"], env=environment, check=True)
