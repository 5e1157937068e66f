"""Images that no index leads to: a build takes them whatever machine they are for."""

from collections.abc import AsyncIterator

import pytest

from buildd.llb.ops import SourceOp
from buildd.protocol import ImageQuery, Tree
from sampan.errors import NotFoundError, SampanError, UnavailableError
from sampan.oci.platform import Platform
from tests.unit.buildd.sources.clients import FakeContext
from tests.unit.buildd.sources.imaged import AMD64, ARM64, NAME, World

S390X = Platform("linux", "s390x")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.held.close()
    await world.named.close()


async def digest_of(world: World, name: str = NAME, mode: str = "default") -> str:
    """Build for amd64 from what a name leads to, which is for arm64; return its digest."""
    manifest, config, layers = world.imaged.image.details[ARM64]
    async with FakeContext("s1") as context:
        found = await world.images.resolve_config(ImageQuery(name, AMD64, mode), context)
        assert found.config == world.imaged.image.blobs[config]
        op = SourceOp(f"docker-image://{NAME}@{found.digest}", {"image.resolvemode": mode})
        assert (await world.images.pin(op, AMD64, context)).pin == found.digest
        assert await world.images.fetch(op, AMD64, context) == Tree(layers)
    assert found.digest == manifest.digest
    return found.digest


async def test_one_that_is_here_is_taken_without_the_registry_if_that_is_not_wanted(world: World) -> None:
    world.imaged.name(NAME, ARM64)
    await digest_of(world, mode="local")
    assert world.imaged.fetched == []


async def test_the_registry_goes_before_one_that_is_here(world: World) -> None:
    world.imaged.name(NAME, ARM64)
    assert await world.config() == world.imaged.image.target.digest  # it has one for the platform
    assert [each[:2] for each in world.imaged.fetched] == [(NAME, AMD64)]


@pytest.mark.parametrize("failure", [NotFoundError("manifest for base:1 not found"), UnavailableError("no network")])
async def test_one_that_is_here_is_taken_if_the_registry_has_none(world: World, failure: SampanError) -> None:
    world.imaged.name(NAME, ARM64)
    world.imaged.failure = failure
    await digest_of(world)
    assert [each[0] for each in world.imaged.fetched] == [NAME]


async def test_one_that_is_here_is_not_taken_in_place_of_the_registry_s(world: World) -> None:
    world.imaged.name(NAME, ARM64)
    world.imaged.failure = NotFoundError("manifest for base:1 not found")
    with pytest.raises(NotFoundError, match=f"{NAME}: not found"):
        await digest_of(world, mode="pull")


@pytest.mark.parametrize("whole", [True, False])
async def test_a_digest_leads_to_a_manifest_past_its_index(world: World, whole: bool) -> None:
    world.imaged.name(f"{NAME}@{world.imaged.image.details[ARM64][0].digest}", ARM64, whole=whole)
    await digest_of(world, f"{NAME}@{world.imaged.image.details[ARM64][0].digest}")
    assert world.imaged.fetched == []


async def test_an_index_without_the_platform_is_not_taken(world: World) -> None:
    world.imaged.name(NAME, ARM64, whole=True)
    world.imaged.failure = NotFoundError("no matching manifest for linux/s390x in the manifest list entries")
    for mode in ("default", "local"):
        with pytest.raises(NotFoundError, match="no match for platform in manifest: not found"):
            async with FakeContext("s1") as context:
                await world.images.resolve_config(ImageQuery(NAME, S390X, mode), context)
