"""The engine's own registry, as a process of its own, with as much of the engine behind it as it needs."""

import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from sampan.layout import Layout
from tests.support.registry import Registry
from tests.support.tools import eventually, free_port


@dataclass(slots=True)
class PrivateRegistry:
    """registryd, and where its engine is."""

    registry: Registry
    layout: Layout
    flags: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    listen: str = ""  # where it listens, if that is not its address alone

    @property
    def address(self) -> str:
        """What image names begin with."""
        return self.registry.address

    def url(self, path: str) -> str:
        """Return where something is: ``path`` comes after ``/v2/``, or is what an answer said."""
        return self.registry.url + (path if path.startswith("/") else f"/v2/{path}")

    def start(self, *, damaged: bool = False) -> None:
        """Start it, and wait until it answers; one that is damaged has itself checked, and nothing else."""
        with self.registry.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*_service("registryd", self.layout), "--listen", self.listen or self.address, *self.flags],
                stdout=log,
                stderr=log,
            )
        ready = self.layout.state_file("registryd").exists if damaged else self.answers
        eventually(ready, "the registry answers")

    def answers(self) -> bool:
        """Say whether it is open."""
        assert self.process is not None
        assert self.process.poll() is None, f"registryd ended: {self.registry.log.read_text()[-2000:]}"
        try:
            return self.registry.session().get(self.url(""), timeout=60).status_code in (200, 401)
        except requests.ConnectionError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.process = None
        return code

    def memory_kb(self) -> int:
        """Return the most memory that it ever had."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1])

    def stored(self) -> set[str]:
        """Return the digests that the engine's content store has."""
        return {f"sha256:{path.name}" for path in (self.layout.data("imaged") / "blobs/sha256").iterdir()}


@dataclass(slots=True)
class ContentStore:
    """imaged alone."""

    layout: Layout
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self.process = subprocess.Popen(_service("imaged", self.layout))
        eventually(self.layout.state_file("imaged").exists, "imaged serves")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)
        self.layout.state_file("imaged").unlink(missing_ok=True)


@contextlib.contextmanager
def running_content_store(directory: Path) -> Iterator[ContentStore]:
    """Run imaged alone; nothing else of an engine is needed by a registry."""
    with tempfile.TemporaryDirectory(prefix="sr", dir="/tmp") as run_root:  # sockets' paths are short
        store = ContentStore(Layout(directory / "data", Path(run_root)))
        store.start()
        try:
            yield store
        finally:
            store.stop()


@contextlib.contextmanager
def content_store(directory: Path) -> Iterator[Layout]:
    """Run imaged alone, and tell where."""
    with running_content_store(directory) as store:
        yield store.layout


@contextlib.contextmanager
def private_registry(
    layout: Layout,
    directory: Path,
    *flags: str,
    credentials: tuple[str, str] | None = None,
    ca: Path | None = None,
    everywhere: bool = False,
) -> Iterator[PrivateRegistry]:
    """Run registryd over an engine's content until the block ends; ``everywhere``: on all addresses of this machine."""
    address = f"127.0.0.1:{free_port()}"
    registry = Registry(address, layout.data("imaged"), directory / "registryd.log", credentials, ca)
    listen = address.replace("127.0.0.1", "0.0.0.0") if everywhere else ""
    running = PrivateRegistry(registry, layout, flags, listen=listen)
    running.start()
    try:
        yield running
    finally:
        if running.process is not None:
            code = running.stop()
            assert code == 0, f"registryd ended with {code}: {registry.log.read_text()[-2000:]}"


def _service(name: str, layout: Layout) -> list[str]:
    roots = ["--data-root", str(layout.data_root), "--run-root", str(layout.run_root)]
    return [sys.executable, "-P", "-m", name, *roots, "--metrics", "auto"]
