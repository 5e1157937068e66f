"""What a builder does with a whole engine: a step's snapshot becomes a layer, and a record keeps it, whatever goes."""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sampan.client.services import Services
from sampan.errors import NotFoundError
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan.resource.content import LastingLease
from sampan.resource.snapshot import TRANSIENT_LABEL, NewLayer
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.snapshotter import shown
from tests.support.trees import busybox_tar

pytestmark = pytest.mark.root

OWNER = "buildd"


@contextmanager
def _engine(driver: str) -> Iterator[tuple[Engine, DockerClient]]:
    with tempfile.TemporaryDirectory(prefix="bc", dir="/tmp") as directory:
        (tar := Path(directory) / "root.tar").write_bytes(busybox_tar())
        with run_engine({"snapshotter": f'driver = "{driver}"\n'}) as engine:
            docker = DockerClient(engine.host, engine.config)
            docker("import", str(tar), "base")
            yield engine, docker


async def _step(services: Services) -> tuple[tuple[Digest, ...], NewLayer]:
    """Run a step on the image ``base`` as a builder does; return its stack and its layer."""
    below = tuple(layer.diff_id for layer in (await services.images.get("base")).layers)
    async with services.images.kept() as lease:
        parent = await services.layers.stack(below)
        labels = {TRANSIENT_LABEL: "1", "sampan.build": "step"}
        with shown(await services.snapshots.prepare("build-step", parent, labels)) as root:
            (root / "made").write_text("by a step")
            (root / "etc").mkdir(exist_ok=True)
            (root / "etc/resolv.conf").write_text("left out")
        found = await services.snapshots.list(['labels."sampan.build"==step'])
        assert [one.key for one in found] == ["build-step"]
        layer = await services.differ.freeze("build-step", ("/etc/resolv.conf",), lease)
        assert layer is not None
        stack = (*below, layer.diff_id)
        await services.leases.put(LastingLease("record-1", OWNER, (layer.descriptor.digest,), stack))
        await services.layers.stack(stack)
    return stack, layer


@pytest.mark.parametrize("driver", ["erofs", "overlayfs", "native"])
def test_a_record_keeps_a_step_until_it_is_removed(driver: str) -> None:
    with _engine(driver) as (engine, docker):

        async def build() -> tuple[tuple[Digest, ...], NewLayer]:
            async with Services.connect(engine.layout) as services:
                return await _step(services)

        stack, layer = asyncio.run(build())
        docker("rmi", "base")
        engine.sampan("system", "gc", "--leftovers")
        engine.sampan("system", "check")
        objects = [json.loads(line) for line in engine.sampan("system", "df", "--explain", "--format", "json").lines]
        kept = {one["ID"] for one in objects if one["Owner"] == "build cache"}
        assert kept == {*stack, layer.descriptor.digest}
        assert "build cache buildd" in engine.sampan("system", "df", "--explain").stdout
        engine.stop()
        engine.start()

        async def use_and_remove() -> None:
            async with Services.connect(engine.layout) as services:
                chain = await services.layers.stack(stack)
                assert chain == chain_ids(stack)[-1]
                with shown(await services.snapshots.prepare("again", chain, {})) as root:
                    assert (root / "made").read_text() == "by a step"
                    assert not (root / "etc/resolv.conf").exists()
                    assert (root / "bin/busybox").exists()
                await services.snapshots.remove("again")
                (lease,) = await services.leases.list(OWNER)
                assert (lease.id, lease.diff_ids) == ("record-1", stack)
                removed = await services.leases.remove(OWNER, [lease.id])
                assert removed.reclaimed_bytes == layer.descriptor.size
                assert removed.stacks == (chain_ids(stack),)
                gone = await services.layers.unstack(removed.stacks)
                assert gone.reclaimed_bytes >= layer.size_bytes
                with pytest.raises(NotFoundError):
                    await services.layers.stack(stack)

        asyncio.run(use_and_remove())
        objects = [json.loads(line) for line in engine.sampan("system", "df", "--explain", "--format", "json").lines]
        assert {one["Owner"] for one in objects} <= {"service", "writer"}
        engine.sampan("system", "check")
