"""The engines that are compared, each started on directories and in a network namespace of its own."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from bench import processes
from bench.netns import Namespace
from sampan.layout import Layout
from tests.support.docker_client import answers
from tests.support.footprint import remove_kernel_objects
from tests.support.tools import eventually, search_path

ROOT = Path(__file__).parent.parent
SAMPAN = ROOT / ".venv/bin/sampan"


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine that runs. ``client`` begins every command line; the words after it are the docker client's."""

    name: str
    client: Sequence[str]
    environment: Mapping[str, str]
    run_options: Sequence[str]  # what `run` needs on this machine to work at all
    root: Path
    daemons: Callable[[], set[int]]
    shims: Sequence[str]  # names of the processes that stay with a container
    note: str
    layout: Layout | None = None  # this project's engine has one, for what docker's client cannot ask
    namespace: Namespace | None = None  # the network that this one lives in
    api_socket: Path | None = None  # where it serves Docker's API, if it does

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Run one command of the client's and return its output."""
        done = subprocess.run(self.command(*arguments), env=self.env(), capture_output=True, text=True, timeout=600)
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
        return done.stdout.strip()

    def pull(self, image: str) -> None:
        """Pull an image from the bench's registry."""
        self(*self.over_http("pull", "--quiet", image))

    def over_http(self, verb: str, *arguments: str) -> list[str]:
        """Return the words that pull or push where there is no TLS: only podman has to be told."""
        return [verb, *(["--tls-verify=false"] if self.name == "podman" else []), *arguments]

    def remove(self, *containers: str, check: bool = True) -> None:
        """Kill and remove containers at once."""
        at_once = ["--time=0"] if self.name == "podman" else []  # podman would ask politely for ten seconds first
        self("rm", "--force", *at_once, *containers, check=check)

    def command(self, *arguments: str) -> list[str]:
        """Return the whole command line."""
        if arguments[0] == "run":
            arguments = ("run", *self.run_options, *arguments[1:])
        return [*self.client, *arguments]

    def env(self) -> dict[str, str]:
        """Return the client's environment."""
        return dict(os.environ) | dict(self.environment)

    def shim_pids(self) -> list[int]:
        """Return the processes that stay with this engine's containers."""
        return [pid for pid, name in processes.with_argument(str(self.root)) if name in self.shims]


Start = Callable[[Path, Namespace], AbstractContextManager[Engine]]


@contextlib.contextmanager
def dockerd(root: Path, namespace: Namespace, plain_registries: Sequence[str] = ()) -> Iterator[Engine]:
    """Run dockerd, which starts its own containerd; ``plain_registries`` are the addresses that have no TLS."""
    (root / "config.json").write_text(json.dumps({"insecure-registries": list(plain_registries)}))
    socket = root / "docker.sock"
    command = [
        "dockerd",
        f"--config-file={root}/config.json",
        f"--data-root={root}/data",
        f"--exec-root={root}/exec",
        f"--pidfile={root}/pid",
        f"--host=unix://{socket}",
    ]
    before = _control_groups("docker")
    with _daemon(namespace.enter(*command), socket, root / "log") as process:
        version = _server_version(socket)
        engine = _by_docker_client(
            "dockerd", root, socket, lambda: processes.descendants(process.pid), ["containerd-shim"], version
        )
        yield engine
        _remove_containers(engine)
    _unmount(root)  # containerd's record of its network namespace stays mounted
    _remove_empty(_control_groups("docker") - before)


@contextlib.contextmanager
def sampan(root: Path, namespace: Namespace) -> Iterator[Engine]:
    """Run this project's engine."""
    run_root = root.parent / "r"  # short: the places of 127 layers have to fit a page of mount options
    roots = ["--data-root", str(root / "data"), "--run-root", str(run_root)]
    socket = run_root / "docker.sock"
    with _daemon(namespace.enter(str(SAMPAN), *roots, "up"), socket, root / "log") as process:
        version = _server_version(socket)
        engine = _by_docker_client(
            "sampan", root, socket, lambda: processes.descendants(process.pid), ["conmon"], version
        )
        yield replace(engine, layout=Layout(root / "data", run_root), namespace=namespace)
        _remove_containers(engine)
    remove_kernel_objects(Layout(root / "data", run_root))


@contextlib.contextmanager
def podman(root: Path, namespace: Namespace) -> Iterator[Engine]:
    """Use podman, which has no daemon, with every directory of its own."""
    options = [
        "podman",
        f"--root={root}/data",
        f"--runroot={root}/run",
        f"--tmpdir={root}/tmp",
        f"--network-config-dir={root}/networks",
        "--cgroup-manager=cgroupfs",
        "--events-backend=file",
    ]
    before = _control_groups("libpod_parent")
    run_options: list[str] = []
    tree = subprocess.run([ROOT / "tools/busybox-root"], check=True, capture_output=True).stdout
    imported = namespace.enter(*options, "import", "--change", 'CMD ["true"]', "-", "probe")
    subprocess.run(imported, input=tree, capture_output=True, check=True)
    note = subprocess.run(["podman", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    probe = ["run", "--rm", "--network=none", "probe", "true"]
    if subprocess.run(namespace.enter(*options, *probe), capture_output=True).returncode != 0:
        # Where root may not raise limits, podman's defaults do not start; with hybrid control groups, crun does not.
        options.append(f"--runtime={shutil.which('runc', path=search_path())}")
        run_options += ["--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"]
        note += " (runc and explicit limits: its defaults do not start here)"
        subprocess.run(namespace.enter(*options, "run", *run_options, *probe[1:]), check=True, capture_output=True)
    else:
        note += " (crun)"
    engine = Engine("podman", namespace.enter(*options), {}, run_options, root, set, ["conmon"], note)
    try:
        yield engine
        _remove_containers(engine)
    finally:
        engine("rmi", "--all", "--force", check=False)
        _remove_empty(_control_groups("libpod_parent") - before)


ENGINES: Mapping[str, Start] = {"sampan": sampan, "dockerd": dockerd, "podman": podman}


def _by_docker_client(
    name: str, root: Path, socket: Path, daemons: Callable[[], set[int]], shims: Sequence[str], note: str
) -> Engine:
    (root / "client").mkdir()
    environment = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": str(root / "client")}
    return Engine(name, ["docker"], environment, [], root, daemons, shims, note, api_socket=socket)


def _server_version(socket: Path) -> str:
    command = ["docker", "--host", f"unix://{socket}", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def _daemon(command: Sequence[str], socket: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | {"PATH": search_path()}, start_new_session=True
        )

    def ready() -> bool:
        assert process.poll() is None, f"{command}: {log.read_text()[-2000:]}"
        return answers(socket)

    try:
        eventually(ready, f"an engine answers at {socket}", 60)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _remove_containers(engine: Engine) -> None:
    if ids := engine("ps", "--all", "--quiet").split():
        engine.remove(*ids)


def _unmount(root: Path) -> None:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((point for point in points if point.startswith(f"{root}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=True)


def _control_groups(name: str) -> set[Path]:
    return set(Path("/sys/fs/cgroup").glob(f"*/{name}")) | set(Path("/sys/fs/cgroup").glob(name))


def _remove_empty(groups: set[Path]) -> None:
    for group in groups:
        for below in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                below.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()
