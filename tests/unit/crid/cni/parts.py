"""Pods' networks without a kernel: plugins are scripts, records are in memory."""

import asyncio
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from crid.cni.chain import Chain
from crid.cni.config import load
from crid.cni.model import Command, PodRequest
from crid.cni.networks import PodNetworks
from crid.cni.process import Programs
from sampan.json_types import JsonObject
from tests.fakes.cni_plugins import CniPlugins
from tests.fakes.cni_records import InMemoryAttachmentRecords

PATIENCE_S = 60.0


class CountingMeter:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.ran_so_far: list[tuple[str, str, str]] = []

    def ran(self, plugin: str, command: Command, seconds: float, outcome: str) -> None:
        assert seconds >= 0
        self.ran_so_far.append((plugin, command.value, outcome))


@dataclass
class Parts:
    """A machine, and what survives crid on it."""

    root: Path
    plugins: CniPlugins
    records: InMemoryAttachmentRecords = field(default_factory=InMemoryAttachmentRecords)
    meter: CountingMeter = field(default_factory=CountingMeter)
    killed: list[str] = field(default_factory=list)

    @property
    def net_d(self) -> Path:
        return self.root / "net.d"

    def configure(self, *plugins: str, version: str = "1.0.0", **more: object) -> None:
        """Write a network of these plugins, each asking for the host's ports."""
        self.net_d.mkdir(exist_ok=True)
        chain = [{"type": plugin, "capabilities": {"portMappings": True}} for plugin in plugins]
        document: JsonObject = {"cniVersion": version, "name": "pods", "plugins": chain, **more}
        (self.net_d / "10-pods.conflist").write_text(json.dumps(document))

    def start(self, timeout_s: float = PATIENCE_S) -> PodNetworks:
        """Begin as a process of crid begins."""

        def kill_left(sandboxes: Collection[str]) -> int:
            self.killed += sorted(sandboxes)
            return 0

        chain = Chain(Programs([self.plugins.directory]), self.meter, timeout_s, self.root / "scratch")
        return PodNetworks(
            lambda: load(self.net_d), chain, self.records, Path.exists, kill_left=kill_left, first_wait_s=0.01
        )

    def pod(self, sandbox: str = "s1") -> PodRequest:
        netns = self.root / f"ns-{sandbox}"
        netns.touch()
        return PodRequest(sandbox, netns, f"pod-{sandbox}", "default", f"uid-{sandbox}")


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what goes on by itself."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # files, which plugins write
            await asyncio.sleep(0.005)
