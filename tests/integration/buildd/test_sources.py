"""Images for builds from a registry that wants a login, by way of a whole engine."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildd.cache.keeper import LeaseKeeper
from buildd.cache.model import Shelf
from buildd.fileworker.conversation import Workers
from buildd.fileworker.files import Files
from buildd.freezes import Freezes
from buildd.llb.ops import SourceOp
from buildd.protocol import Directory, ImageQuery, Selection
from buildd.session.protocol import Credentials, SessionInfo
from buildd.sources.sources import BuildSources, Stores, open_sources
from buildd.trees import SnapshotTrees
from sampan.client.services import Services
from sampan.client.storage.content import ContentClient
from sampan.errors import NotFoundError, SampanError
from sampan.oci.chain import chain_ids
from sampan.oci.platform import Platform, host_platform
from sampan.services import RESTART_S
from tests.fakes.build_sessions import FakeSession, FakeSessions
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.images import Entry, Image, layer, push, push_index, tar
from tests.support.registry import Registry, run_registry
from tests.unit.buildd.sources.clients import FakeContext

pytestmark = pytest.mark.root

HOST = host_platform()
OTHER = Platform("linux", "s390x" if HOST.architecture != "s390x" else "amd64")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with run_engine() as made:
        yield made


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with run_registry(tmp_path_factory.mktemp("registry"), credentials=("u", "p")) as made:
        for name in ("private", "again"):
            push(made, name, "1", image("one", "two"))
        push(made, "pruned", "1", image("three", "four"))
        push_index(made, "many", "1", [image("base", str(each), platform=each) for each in (HOST, OTHER)], oci=True)
        yield made


def image(*names: str, platform: Platform = HOST) -> Image:
    layers = tuple(layer(tar(Entry(f"file{number}", name.encode()))) for number, name in enumerate(names))
    return Image(layers, architecture=platform.architecture)


@dataclass
class World:
    services: Services
    sources: BuildSources
    files: Files
    session: FakeSession
    held: Shelf

    async def read(self, name: str, path: str, platform: Platform = HOST) -> bytes:
        async with FakeContext("s1") as context:
            op = SourceOp(f"docker-image://{name}")
            output = await self.sources.fetch(op, await self.sources.pin(op, platform, context), platform, context)
            return await self.files.read_file(output, path)


@asynccontextmanager
async def world_on(engine: Engine, root: Path, registry: Registry) -> AsyncIterator[World]:
    (root / "sources").mkdir()
    (root / "scratch").mkdir()
    session = FakeSession(SessionInfo("s1"), logins={registry.address: Credentials("u", "p")})
    async with Services.connect(engine.layout) as services:
        trees, workers = SnapshotTrees(services, Freezes(services)), Workers(root / "scratch")
        files = Files(trees, workers)
        content = ContentClient(services.channels["imaged"])
        stores = Stores(services.images, content, services.layers)
        try:
            sessions = FakeSessions(session)
            async with (
                LeaseKeeper(services.leases, services.layers, lambda: services.reach(RESTART_S)) as keeper,
                open_sources(root / "sources", stores, files, sessions, keeper) as (sources, shelves),
            ):
                yield World(services, sources, files, session, shelves[-1])
        finally:
            await workers.close()
            await trees.close()


@pytest.fixture
async def world(engine: Engine, tmp_path: Path, registry: Registry) -> AsyncIterator[World]:
    async with world_on(engine, tmp_path, registry) as world:
        yield world


async def test_a_private_image_is_had_with_the_client_s_login(world: World, registry: Registry) -> None:
    name = f"{registry.address}/private:1"
    world.session.logins, logins = {}, world.session.logins
    with pytest.raises(SampanError, match=f"failed to resolve source metadata for {name}: "):
        await world.read(name, "/file0")
    world.session.logins = logins
    assert [await world.read(name, path) for path in ("/file0", "/file1")] == [b"one", b"two"]


async def test_one_that_is_held_or_here_by_name_is_not_asked_for(
    world: World, registry: Registry, engine: Engine
) -> None:
    name = f"{registry.address}/again:1"
    assert await world.read(name, "/file0") == b"one"
    asked = requests_of(registry)
    assert await world.read(name, "/file0") == b"one"
    assert requests_of(registry) == asked
    docker = DockerClient(engine.host, engine.config)
    docker("login", "--username", "u", "--password", "p", registry.address)
    docker("pull", name)
    world.session.logins = {}
    asked = requests_of(registry)
    async with FakeContext("s1") as context:
        found = await world.sources.resolve_config(ImageQuery(name, HOST), context)
    assert json.loads(found.config)["os"] == "linux"
    assert await world.read(f"{name}@{found.digest}", "/file1") == b"two"
    assert requests_of(registry) == asked


def requests_of(registry: Registry) -> int:
    """Return how many requests it has let in or refused, which it notes before it answers them."""
    said = registry.log.read_bytes()
    return said.count(b"authorized request") + said.count(b"error authorizing")


async def test_one_that_is_held_goes_with_a_prune_with_all_that_came_of_it(world: World, registry: Registry) -> None:
    assert await world.read(f"{registry.address}/pruned:1", "/file0") == b"three"
    record = next(each for each in await world.held.records() if "/pruned:1" in each.description)
    content = ContentClient(world.services.channels["imaged"])
    chain = chain_ids(layer.diff_id for layer in record.layers)[-1]
    await content.info(record.layers[0].descriptor.digest)
    await world.services.snapshots.stat(chain)
    assert list(await world.held.remove([record.id])) == [record.id]
    for each in record.layers:
        with pytest.raises(NotFoundError):
            await content.info(each.descriptor.digest)
    with pytest.raises(NotFoundError):
        await world.services.snapshots.stat(chain)
    assert await world.services.leases.list("buildd") == ()


async def test_an_image_of_another_platform(world: World, registry: Registry) -> None:
    name = f"{registry.address}/many:1"
    assert [await world.read(name, "/file1", each) for each in (HOST, OTHER)] == [
        str(HOST).encode(), str(OTHER).encode(),
    ]  # fmt: skip
    with pytest.raises(NotFoundError, match="no match for platform in manifest: not found"):
        await world.read(name, "/file1", Platform("linux", "riscv64"))


async def test_what_is_not_there(world: World, registry: Registry) -> None:
    name = f"{registry.address}/none:1"
    with pytest.raises(NotFoundError) as raised:
        await world.read(name, "/")
    assert str(raised.value) == f"failed to resolve source metadata for {name}: {name}: not found"


async def test_a_client_s_directory_becomes_a_layer(world: World) -> None:
    world.session.directories["context"] = {"a": "A"}
    async with FakeContext("s1") as context:
        op = SourceOp("local://context")
        output = await world.sources.fetch(op, await world.sources.pin(op, HOST, context), HOST, context)
        assert isinstance(output, Directory)
        flat = await world.files.flatten(output)
        assert await world.files.flatten(output) is flat
        selected = Selection("/a")
        assert await world.files.checksum(flat, selected) == await world.files.checksum(output, selected)
