"""SIGKILL at random points of removals and passes: the next pass finds all that is left over, and nothing else.

imaged and the snapshotter are processes; what the engine asks of runtimed is answered by a fake without containers.
"""

import asyncio
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from runtimed.wire.events_servicer import EventsServicer
from sampan.api.disk.v1 import disk_pb2_grpc
from sampan.api.runtime.v1 import containers_pb2_grpc, events_pb2_grpc
from sampan.disk import IMAGE, ORPHAN, StoredObject
from sampan.engine.engine import Engine
from sampan.layout import Layout
from sampan.resource.image import ImageDetails
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.wire.channel import reach
from tests.fakes.engine_layers import FakeDisk
from tests.fakes.engine_runtime import FakeRuntime
from tests.support.disk import archive_of
from tests.support.footprint import mounts
from tests.support.images import Entry, Image, layer, tar
from tests.support.tools import eventually

pytestmark = [pytest.mark.root, pytest.mark.slow]

KILLS = 10  # of each kind of work
LABEL = "collected"
BASE = layer(tar(Entry("base", b"base" * 1000)), "none")

Work = Callable[[Engine, list[str]], Coroutine[None, None, None]]


async def rmi(engine: Engine, names: list[str]) -> None:
    for name in names:
        await engine.remove_image(name)


async def prune(engine: Engine, _: list[str]) -> None:
    await engine.prune_images({"dangling": ["false"], "label": [LABEL]})


async def collect(engine: Engine, names: list[str]) -> None:
    """A pass that has something to do: images whose removal was cut short after the first of its two steps."""
    for name in names:
        await engine.images.remove(name)
    await engine.collect_garbage()


@dataclass
class Lab:
    """Two services as processes, and the engine on top of them."""

    layout: Layout
    engine: Engine
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    async def start(self, service: str) -> None:
        flags = ("--data-root", str(self.layout.data_root), "--run-root", str(self.layout.run_root))
        quiet = ("--log-level", "error", "--metrics", "off")
        process = subprocess.Popen([sys.executable, "-m", service, *flags, *quiet])
        self.processes[service] = process

        def serves() -> bool:
            assert process.poll() is None, f"{service} did not start"
            state = self.layout.state_file(service)  # of an earlier process, at first
            return state.exists() and json.loads(state.read_text())["pid"] == process.pid

        await asyncio.to_thread(eventually, serves, f"{service} serves")
        await reach(self.engine.channels[service], service, 60)

    async def kill(self, service: str) -> None:
        self.processes[service].kill()
        self.processes[service].wait()
        await self.start(service)

    async def load(self, number: int) -> list[str]:
        """Bring four images that share a layer, and of which no other layer was there before."""
        names = [f"{LABEL}:{number}-{at}" for at in range(4)]
        images = {
            name: Image(
                [BASE, *(layer(tar(Entry(f"{name}-{level}", name.encode() * 500)), "none") for level in "ab")],
                {"Labels": {LABEL: name}},
            )
            for name in names
        }

        async def chunks() -> AsyncIterator[bytes]:
            yield archive_of(images)

        async with aclosing(self.engine.load_images(chunks())) as events:
            assert [event async for event in events]
        return names

    async def after_a_pass(self) -> tuple[tuple[StoredObject, ...], set[str]]:
        """Run a pass; return all that is stored then, and the layers of all images."""
        await self.engine.collect_garbage(leftovers=True)
        return await self.engine.explain_disk(), {
            layer.diff_id for image in await self.images() for layer in image.layers
        }

    async def images(self) -> Sequence[ImageDetails]:
        return await self.engine.images.list()


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="gc", dir="/tmp") as base:
        layout = Layout(Path(base, "d"), Path(base, "r"))
        layout.run_root.mkdir()
        layout.data_root.mkdir()
        runtime = FakeRuntime()
        server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
        containers_pb2_grpc.add_ContainersServicer_to_server(runtime.containers, server)
        events_pb2_grpc.add_EventsServicer_to_server(EventsServicer(runtime.events), server)
        disk_pb2_grpc.add_DiskServicer_to_server(FakeDisk(), server)
        server.add_insecure_port(f"unix:{layout.socket('runtimed')}")
        await server.start()
        async with Engine.connect(layout) as engine:
            lab = Lab(layout, engine)
            try:
                for service in ("imaged", "snapshotter"):
                    await lab.start(service)
                yield lab
            finally:
                for process in lab.processes.values():
                    process.terminate()
                    process.wait(60)
                await server.stop(0)
        assert mounts(layout) == []


def layers_of(objects: tuple[StoredObject, ...]) -> set[str]:
    return {one.id for one in objects if one.kind == "layer"}


@pytest.mark.parametrize("work", [rmi, prune, collect])
async def test_the_next_pass_leaves_exactly_what_is_needed(lab: Lab, work: Work) -> None:
    choice = random.Random(work.__name__)
    for number in range(KILLS):
        names = await lab.load(number)
        working = asyncio.create_task(work(lab.engine, names))
        await asyncio.wait([working], timeout=choice.uniform(0, 0.15))
        await lab.kill(choice.choice(["imaged", "snapshotter"]))
        await asyncio.wait([working])
        working.exception()  # whatever it says
        objects, needed = await lab.after_a_pass()
        assert [one for one in objects if one.owner == ORPHAN] == []
        assert layers_of(objects) == needed
        for image in await lab.images():
            async with aclosing(lab.engine.save_images([image.id])) as pieces:
                assert [piece async for piece in pieces]
            await lab.engine.remove_image(image.repo_tags[0])
    objects, _ = await lab.after_a_pass()
    assert layers_of(objects) == set()
    assert [one for one in objects if one.owner == IMAGE] == []
    assert list((lab.layout.data("imaged") / "blobs/sha256").iterdir()) == []
