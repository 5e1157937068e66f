"""An engine of services that do nothing, under a real supervisor: see ``tests.fakes.supervised``."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sampan.layout import Layout
from sampan.services import KEPT, STARTED
from tests.support.tools import eventually

REPOSITORY = Path(__file__).parents[2]
SAMPAN = (sys.executable, "-c", "from sampan_cli.entry import main; main()")


@dataclass(frozen=True)
class Roots:
    """An engine of fake services."""

    layout: Layout
    modules: Path

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "SAMPAN_DATA_ROOT": str(self.layout.data_root),
            "SAMPAN_RUN_ROOT": str(self.layout.run_root),
            "PYTHONPATH": f"{self.modules}:{REPOSITORY}",
        }

    def sampan(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SAMPAN, *arguments], env=self.environment(), capture_output=True, text=True, timeout=60, check=False
        )

    def up(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start the engine in the foreground and wait until it is ready."""
        with (self.layout.data_root / "terminal").open("w") as terminal:
            process = subprocess.Popen(
                [*SAMPAN, "up", *arguments], env=self.environment(), stderr=terminal, stdin=subprocess.DEVNULL
            )
        eventually(lambda: "the engine is ready" in self.terminal(), "the engine is ready")
        return process

    def terminal(self) -> str:
        return (self.layout.data_root / "terminal").read_text()

    def history(self) -> list[str]:
        history = self.layout.data_root / "history"
        return history.read_text().splitlines() if history.exists() else []

    def pid(self, service: str) -> int:
        return int((self.layout.data(service) / "lock").read_text() or 0)  # empty while a new one writes its own

    def supervisor_pid(self) -> int:
        return int((self.layout.run_root / "engine.lock").read_text())

    def how(self, service: str) -> str:
        return (self.layout.data_root / f"how-{service}").read_text()

    def behave(self, behaviour: str, text: str = "") -> None:
        (self.layout.data_root / behaviour).write_text(text)

    def runs(self, service: str) -> bool:
        """Whether a process holds the service's lock."""
        try:
            with (self.layout.data(service) / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


@contextmanager
def fake_roots(directory: Path) -> Iterator[Roots]:
    """Yield the roots of an engine that nobody has started; it is stopped in the end."""
    modules = directory / "modules"
    modules.mkdir()
    for name in (*STARTED, *KEPT):
        package = modules / name
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "main.py").write_text(
            f"from tests.fakes import supervised\n\ndef main() -> None:\n    supervised.main({name!r})\n"
        )
        (package / "configuration.py").write_text("from sampan.service.config import ServiceConfig as Config\n")
        (package / "__main__.py").write_text(f"from {name}.main import main\n\nmain()\n")
    (modules / "sitecustomize.py").touch()
    roots = Roots(Layout(directory / "data", directory / "run"), modules)
    roots.layout.data_root.mkdir()
    yield roots
    for pattern in ("deaf-*", "slow-*"):
        for behaviour in roots.layout.data_root.glob(pattern):
            behaviour.unlink()
    roots.sampan("down")
    assert not [name for name in (*STARTED, *KEPT) if roots.runs(name)]
