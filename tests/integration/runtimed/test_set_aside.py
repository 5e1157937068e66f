"""One object that cannot be recovered keeps nothing else from being served, and can be removed."""

import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.api.runtime.v1 import networks_pb2, networks_pb2_grpc, spec_pb2, volumes_pb2, volumes_pb2_grpc
from sampan.errors import ConflictError
from sampan.wire.channel import rpc_errors
from tests.integration.runtimed.runtimed_process import Runtimed, mounts_below, running

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtimed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtimed]:
    directory = tmp_path_factory.mktemp("r")
    async with running(directory) as (runtimed, _):
        yield runtimed
    assert mounts_below(directory) == []


def data(runtimed: Runtimed) -> Path:
    return runtimed.roots / "data/runtimed"


def channel(runtimed: Runtimed) -> grpc.aio.Channel:
    assert runtimed.channel is not None
    return runtimed.channel


def set_aside(runtimed: Runtimed) -> list[tuple[str, str]]:
    """Return kinds and IDs, as ``sampan status`` reads them."""
    path = runtimed.run_root / "runtimed/set-aside.json"
    return [(each["kind"], each["id"]) for each in json.loads(path.read_text())] if path.exists() else []


def damage(runtimed: Runtimed, statement: str, *values: str) -> None:
    """Change a record while the service does not run."""
    with sqlite3.connect(data(runtimed) / "metadata.db") as db:
        assert db.execute(statement, values).rowcount == 1
    db.close()


async def serves(runtimed: Runtimed) -> None:
    code, output = await runtimed.run("echo", "served")
    assert (code, output.stdout) == (0, b"served\n")


@pytest.mark.parametrize("column", ["spec", "mounts"])
@pytest.mark.parametrize("runs", [False, True])
async def test_a_container_whose_record_is_damaged_is_dead_and_can_be_removed(
    runtimed: Runtimed, column: str, runs: bool
) -> None:
    bad = await (runtimed.begin("sleep", "1000") if runs else runtimed.create("true"))
    good = await runtimed.begin("sleep", "1000")
    await runtimed.stop(signal.SIGKILL)
    damage(runtimed, f"UPDATE containers SET {column} = '{{\"env\": 5' WHERE id = ?", bad)
    await runtimed.start()
    assert set_aside(runtimed) == [("container", bad)]
    assert (await runtimed.get(good)).state.status == pb.ContainerState.RUNNING
    assert (await runtimed.get(bad)).state.status == pb.ContainerState.DEAD
    with pytest.raises(ConflictError), rpc_errors():
        await runtimed.containers.Start(pb.StartContainerRequest(container=bad))
    await serves(runtimed)
    await runtimed.remove(bad)
    assert set_aside(runtimed) == []
    await runtimed.remove(good)


async def test_a_container_is_itself_again_when_its_record_is(runtimed: Runtimed) -> None:
    bad = await runtimed.begin("sleep", "1000")
    await runtimed.stop(signal.SIGKILL)
    damage(runtimed, "UPDATE containers SET spec = 'x' || spec WHERE id = ?", bad)
    await runtimed.start()
    assert set_aside(runtimed) == [("container", bad)]
    await runtimed.stop(signal.SIGKILL)
    damage(runtimed, "UPDATE containers SET spec = substr(spec, 2) WHERE id = ?", bad)
    await runtimed.start()
    assert set_aside(runtimed) == []
    assert (await runtimed.get(bad)).state.status == pb.ContainerState.RUNNING
    await runtimed.remove(bad)


async def test_a_volume_that_cannot_be_made_whole_is_set_aside_and_can_be_removed(runtimed: Runtimed) -> None:
    volumes = volumes_pb2_grpc.VolumesStub(channel(runtimed))
    await volumes.Create(volumes_pb2.CreateVolumeRequest(name="bad", driver="local"))
    await runtimed.stop(signal.SIGKILL)
    place = data(runtimed) / "volumes/bad"
    (place / "_data").rmdir()
    place.rmdir()
    place.write_text("a file in its place")
    (data(runtimed) / "volumes/.new-bad").write_text("and in the way of another")
    damage(runtimed, "UPDATE volumes SET options = 'null' WHERE name = ?", "bad")
    await runtimed.start()
    assert set_aside(runtimed) == [("volume", "bad")]
    await serves(runtimed)
    mount = spec_pb2.Mount(type=spec_pb2.Mount.VOLUME, source="bad", target="/v")
    with pytest.raises(ConflictError, match="volume bad was set aside"), rpc_errors():
        await runtimed.create("true", mounts=[mount])
    volumes = volumes_pb2_grpc.VolumesStub(channel(runtimed))
    with rpc_errors():
        await volumes.Remove(volumes_pb2.RemoveVolumeRequest(name="bad"))
    assert set_aside(runtimed) == []


async def test_a_network_whose_record_is_damaged_is_set_aside_and_the_default_one_is_made_anew(
    runtimed: Runtimed,
) -> None:
    networks = networks_pb2_grpc.NetworksStub(channel(runtimed))
    network = networks_pb2.Network(name="bad", driver="bridge")
    with rpc_errors():
        made = await networks.Create(networks_pb2.CreateNetworkRequest(network=network))
    await runtimed.stop(signal.SIGKILL)
    damage(runtimed, "UPDATE networks SET definition = '[]' WHERE name = ?", "bad")
    damage(runtimed, "UPDATE networks SET definition = '{' WHERE name = ?", "bridge")
    await runtimed.start()
    assert set_aside(runtimed) == [("network", made.id)]
    await serves(runtimed)
    networks = networks_pb2_grpc.NetworksStub(channel(runtimed))
    with rpc_errors():
        await networks.Remove(networks_pb2.RemoveNetworkRequest(network="bad"))
    assert set_aside(runtimed) == []


async def test_a_leftover_that_cannot_be_removed_is_named_and_tried_again(runtimed: Runtimed) -> None:
    await runtimed.stop(signal.SIGKILL)
    stray = runtimed.roots / "data/runtimed/containers" / ("e" * 64)
    stray.mkdir()
    (stray / "fixed").touch()
    assert os.system(f"chattr +i {stray}/fixed") == 0
    try:
        await runtimed.start()
        assert set_aside(runtimed) == [("leftover", "e" * 64)]
        await serves(runtimed)
    finally:
        os.system(f"chattr -i {stray}/fixed")
    await runtimed.restart()
    assert set_aside(runtimed) == []
    assert not stray.exists()
