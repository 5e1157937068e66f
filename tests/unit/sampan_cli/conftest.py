"""A small engine behind real gRPC, and the command line against it."""

import asyncio
import os
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import structlog
from click.testing import CliRunner, Result

from sampan.layout import Layout
from sampan.service import interceptor
from sampan_cli.app.app import app
from sampan_cli.app.session import Session
from tests.fakes.engine import FakeEngine, fake_engine

T = TypeVar("T")


@dataclass(frozen=True)
class Sampan:
    """The command ``sampan``, and the fake engine that it talks to, which runs in a thread of its own."""

    fake: FakeEngine
    loop: asyncio.AbstractEventLoop

    def __call__(self, *arguments: str, input: str = "") -> Result:
        """Run a command whatever comes of it."""
        session = Session(self.fake.layout)
        return CliRunner().invoke(app, arguments, input=input, prog_name="sampan", obj=session)

    def ok(self, *arguments: str, input: str = "") -> str:
        """Run a command that must succeed and return its output."""
        result = self(*arguments, input=input)
        assert result.exit_code == 0, result.output
        return str(result.stdout)

    def there(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the engine's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def container(self, *args: str, name: str) -> str:
        """Put a container there that was never started."""
        return self.fake.runtime.create(*args, name=name)


@pytest.fixture
def sampan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sampan]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))  # never the user's own
    monkeypatch.setattr(interceptor, "log", structlog.wrap_logger(None, [structlog.testing.LogCapture()]))
    running: Future[tuple[FakeEngine, asyncio.AbstractEventLoop]] = Future()
    stop: list[asyncio.Event] = []

    async def serve(root: Path) -> None:
        stop.append(asyncio.Event())
        async with fake_engine(Layout(root / "data", root / "run")) as fake:
            running.set_result((fake, asyncio.get_running_loop()))
            await stop[0].wait()

    with tempfile.TemporaryDirectory() as root:  # not tmp_path: that is too long for a socket
        thread = threading.Thread(target=lambda: asyncio.run(serve(Path(root))))
        thread.start()
        fake, loop = running.result(60)
        yield Sampan(fake, loop)
        loop.call_soon_threadsafe(stop[0].set)
        thread.join(60)


@dataclass
class Streams:
    """Stands for the process's own streams: input that is written before, output that is read after."""

    stdin: int
    stdout: int
    stderr: int
    directory: Path

    def output(self) -> bytes:
        return (self.directory / "stdout").read_bytes()

    def errors(self) -> bytes:
        return (self.directory / "stderr").read_bytes()


@pytest.fixture
def streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Streams]:
    """Put pipes and files in place of the descriptors that every Console has from now on."""
    from sampan_cli.streams.console import Console

    ours, theirs = os.pipe()
    os.write(theirs, b"typed\n")
    os.close(theirs)
    out = os.open(tmp_path / "stdout", os.O_WRONLY | os.O_CREAT)
    err = os.open(tmp_path / "stderr", os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(Console.__init__, "__defaults__", (ours, out, err))
    yield Streams(ours, out, err, tmp_path)
    for fd in (ours, out, err):
        os.close(fd)
