"""imaged as a process of its own, and a client of it."""

import asyncio
import contextlib
import json
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from sampan.api.image.v1 import images_pb2 as pb
from sampan.api.image.v1 import images_pb2_grpc as pb_grpc
from sampan.layout import Layout
from sampan.wire.channel import open_channel, rpc_errors
from tests.support.tools import eventually


@dataclass
class Imaged:
    """A service that runs, and its client."""

    root: Path
    process: asyncio.subprocess.Process
    channel: grpc.aio.Channel
    socket: Path
    metrics_url: str
    stub: "pb_grpc.ImagesAsyncStub" = field(init=False)

    def __post_init__(self) -> None:
        self.stub = pb_grpc.ImagesStub(self.channel)

    async def fetch(self, reference: str, credentials: pb.Credentials | None = None) -> list[pb.FetchProgress]:
        request = pb.FetchRequest(reference=reference, credentials=credentials)
        with rpc_errors():
            return [step async for step in self.stub.Fetch(request)]

    async def pull(self, reference: str, credentials: pb.Credentials | None = None) -> pb.Image:
        steps = await self.fetch(reference, credentials)
        resolved, fetched = steps[0].resolved, steps[-1].fetched
        with rpc_errors():
            answer = await self.stub.Create(
                pb.CreateRequest(reference=resolved.reference, target=fetched.target, lease=resolved.lease)
            )
        return answer.image

    async def load(self, tar: bytes, *changes: str, reference: str = "") -> pb.ImportResponse:
        async def parts() -> AsyncIterator[pb.ImportRequest]:
            yield pb.ImportRequest(options=pb.ImportRequest.Options(reference=reference, changes=changes))
            for start in range(0, len(tar), 1 << 20):
                yield pb.ImportRequest(chunk=tar[start : start + (1 << 20)])

        with rpc_errors():
            return await self.stub.Import(parts())

    async def metrics(self) -> str:
        """What Prometheus reads."""
        return await asyncio.to_thread(lambda: urllib.request.urlopen(self.metrics_url, timeout=60).read().decode())

    def memory_kb(self, what: str = "VmRSS") -> int:
        """Resident memory of the process: now, or with ``VmHWM`` the most ever."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith(what))
        return int(line.split()[1])

    def files(self, kind: str) -> set[str]:
        """Names of the files in the store: ``blobs/sha256``, ``ingests`` or ``partials``."""
        return {path.name for path in (self.root / "data/imaged" / kind).iterdir()}


async def until(holds: Callable[[], bool]) -> None:
    """Return as soon as ``holds()``; fail after a while."""
    await asyncio.to_thread(eventually, holds, "what was waited for")


@contextlib.asynccontextmanager
async def imaged(root: Path, config: str = "") -> AsyncIterator[Imaged]:
    """Run the service until the block ends."""
    # Sockets' paths are short.
    with tempfile.TemporaryDirectory(prefix="imaged-") as run_root:
        async with _running(root, Layout(root / "data", Path(run_root)), config) as service:
            yield service


@contextlib.asynccontextmanager
async def _running(root: Path, layout: Layout, config: str) -> AsyncIterator[Imaged]:
    (root / "imaged.toml").write_text("retry_base_s = 0.01\n" + config)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "imaged", "--config", str(root / "imaged.toml"),
        "--data-root", str(layout.data_root), "--run-root", str(layout.run_root),
    )  # fmt: skip
    try:
        await until(layout.state_file("imaged").exists)
        async with open_channel(layout.socket("imaged")) as channel:
            facts = json.loads(layout.state_file("imaged").read_text())
            yield Imaged(root, process, channel, layout.socket("imaged"), f"http://{facts['metrics']}/metrics")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
