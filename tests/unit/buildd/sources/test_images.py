"""Images for builds: here by name, from registries, from clients' layouts."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest

from buildd.llb.ops import SourceOp
from buildd.protocol import ImageQuery, Tree
from buildd.session.protocol import Credentials as ClientCredentials
from sampan.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RemoteError,
    SampanError,
)
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.image import Credentials, Layer
from sampan.resource.snapshot import ApplyProgress
from tests.fakes.buildd import FakeKeeper
from tests.unit.buildd.sources.clients import FakeContext
from tests.unit.buildd.sources.imaged import AMD64, ARM64, NAME, World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.held.close()
    assert "kept" not in world.imaged.leases.values()


@pytest.mark.parametrize("mode", ["default", "local"])
async def test_an_image_that_is_here_needs_no_registry(world: World, mode: str) -> None:
    world.imaged.name(NAME)
    digest = await world.config(mode=mode)
    op = SourceOp(f"docker-image://{NAME}@{digest}", {"image.resolvemode": mode})
    async with FakeContext() as context:
        pinned = await world.images.pin(op, AMD64, context)
        output = await world.images.fetch(op, AMD64, context)
    assert pinned.pin == digest
    assert output == Tree(world.imaged.image.details[AMD64][2])
    assert world.imaged.fetched == []


async def test_an_image_stays_for_a_build_that_has_resolved_it_whatever_becomes_of_its_name(world: World) -> None:
    world.imaged.name(NAME)
    layers = world.imaged.image.details[AMD64][2]
    async with FakeContext() as build:
        digest = (await world.images.resolve_config(ImageQuery(NAME, AMD64), build)).digest
        async with FakeContext() as other:  # which ends first
            await world.images.resolve_config(ImageQuery(NAME, AMD64), other)
        del world.imaged.named[NAME]
        op = SourceOp(f"docker-image://{NAME}@{digest}")
        assert (await world.images.pin(op, AMD64, build)).pin == digest
        assert await world.images.fetch(op, AMD64, build) == Tree(layers)
        assert list(world.keeper.leases.values()) == [layers]
    await world.named.close()
    assert (world.keeper.leases, world.imaged.fetched) == ({}, [])


async def test_an_image_that_goes_while_it_is_resolved_is_looked_for_again(world: World) -> None:
    world.imaged.name(NAME)

    class Late(FakeKeeper):
        async def keep(self, id: str, layers: Sequence[Layer]) -> None:
            del world.imaged.named[NAME]
            raise NotFoundError("a layer is nowhere")

    world.keeper = Late()
    world.build_images()
    async with FakeContext("s1") as build:
        await world.images.resolve_config(ImageQuery(NAME, AMD64), build)
    assert [each[0] for each in world.imaged.fetched] == [NAME]


async def test_an_image_that_is_unpacked_and_has_lost_a_blob_is_good_enough(world: World) -> None:
    world.imaged.name(NAME)

    class Refusing(FakeKeeper):
        async def keep(self, id: str, layers: Sequence[Layer]) -> None:
            raise NotFoundError("a blob is nowhere")

    world.keeper = Refusing()
    world.build_images()
    await world.config()
    assert world.imaged.fetched == []


async def test_the_registry_is_asked_if_that_is_asked_for(world: World) -> None:
    world.imaged.name(NAME)
    assert await world.config(mode="pull") == world.imaged.image.target.digest
    assert await world.config(mode="pull") == world.imaged.image.target.digest
    assert [each[0] for each in world.imaged.fetched] == [NAME, NAME]


async def test_what_was_fetched_is_held_for_what_follows(world: World) -> None:
    digest = await world.config()
    assert digest == world.imaged.image.target.digest
    assert await world.config() == digest
    op = SourceOp(f"docker-image://{NAME}@{digest}", {"image.resolvemode": "pull"})
    async with FakeContext("s1") as context:
        assert (await world.images.pin(op, AMD64, context)).pin == digest
        await world.images.fetch(op, AMD64, context)
        await asyncio.sleep(0.2)
        assert world.imaged.leases == {"lease-1": "kept"}
    assert len(world.imaged.fetched) == 1
    async with asyncio.timeout(60):
        while world.imaged.leases == {"lease-1": "kept"}:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)
    assert world.imaged.leases == {"lease-1": "released"}
    await world.config()
    assert len(world.imaged.fetched) == 2


async def test_what_is_held_is_a_record_that_a_prune_takes_when_no_build_uses_it(world: World) -> None:
    async with FakeContext("s1") as context:
        await world.images.fetch(SourceOp(f"docker-image://{NAME}"), AMD64, context)
        (record,) = await world.held.records()
        assert (record.description, record.in_use) == (f"pulled from {NAME}", True)
        assert record.layers == world.imaged.image.details[AMD64][2]
        assert await world.held.remove([record.id]) == []
    (record,) = await world.held.records()
    assert not record.in_use
    assert await world.held.remove(["unknown", record.id]) == [record.id]
    assert [(name, lease) for name, _, lease in world.dropped] == [(record.id, "lease-1")]
    assert (await world.held.records(), world.imaged.leases) == ([], {"lease-1": "released"})
    await world.config()
    assert len(world.imaged.fetched) == 2, "it is fetched again"


async def test_layers_are_unpacked_as_they_come_and_progress_is_told(world: World) -> None:
    async with FakeContext() as context:
        await world.images.fetch(SourceOp(f"docker-image://{NAME}"), AMD64, context)
    layers = world.imaged.image.details[AMD64][2]
    assert sorted(world.imaged.applied) == sorted(layer.diff_id for layer in layers)
    assert world.imaged.stacked == [[layer.diff_id for layer in layers]]
    assert all(done for _, _, done in context.statuses.values())
    assert {f"resolve {NAME}", layers[0].descriptor.digest} < set(context.statuses)


async def test_two_who_ask_at_once_are_one_fetch(world: World) -> None:
    await asyncio.gather(world.config(), world.config(), world.config(platform=ARM64))
    assert len(world.imaged.fetched) == 2


async def test_another_platform_of_an_image_that_is_here(world: World) -> None:
    world.imaged.name(NAME, whole=True)
    assert await world.config(platform=ARM64) == world.imaged.image.target.digest
    assert world.imaged.fetched == []
    world.imaged.name(NAME)
    await world.config(platform=ARM64)
    assert [each[1] for each in world.imaged.fetched] == [ARM64]


async def test_a_name_that_means_something_else_by_now_is_not_what_a_digest_names(world: World) -> None:
    world.imaged.name(NAME)
    wanted = world.imaged.image.target.digest
    await world.config(f"{NAME}@{wanted}")
    assert [each[0] for each in world.imaged.fetched] == [f"{NAME}@{wanted}"]


async def test_equal_files_have_equal_keys(world: World) -> None:
    async with FakeContext() as context:
        keys = {
            (await world.images.pin(SourceOp(f"docker-image://{name}", attrs), platform, context)).key
            for name, platform, attrs in (
                (NAME, AMD64, {}),
                ("other:1", AMD64, {}),
                (NAME, ARM64, {}),
                (NAME, AMD64, {"image.layerlimit": "1"}),
                (NAME, ARM64, {"image.layerlimit": "1"}),
            )
        }
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("login", "credentials"),
    [
        (ClientCredentials("u", "p"), Credentials("u", "p")),
        (ClientCredentials("", "token"), Credentials(identity_token="token")),
        (ClientCredentials("u", ""), None),
    ],
)
async def test_a_client_s_login_is_used(
    world: World, login: ClientCredentials, credentials: Credentials | None
) -> None:
    world.session.logins = {"registry-1.docker.io": login, "other.example:5000": login}
    await world.config()
    await world.config("other.example:5000/x")
    assert [each[2] for each in world.imaged.fetched] == [credentials, credentials]


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (NotFoundError("manifest for base:1 not found: manifest unknown"), NotFoundError, f"{NAME}: not found"),
        (
            NotFoundError(
                "pull access denied for base, repository does not exist or may require 'docker login': denied: no"
            ),
            PermissionDeniedError,
            "pull access denied, repository does not exist or may require authorization: server message: no",
        ),
        (
            NotFoundError("no matching manifest for linux/amd64 in the manifest list entries"),
            NotFoundError,
            "no match for platform in manifest: not found",
        ),
        (RemoteError("Get: EOF"), RemoteError, "Get: EOF"),
    ],
)
async def test_what_a_registry_refuses(world: World, failure: SampanError, kind: type[SampanError], words: str) -> None:
    world.imaged.failure = failure
    with pytest.raises(kind) as raised:
        await world.config()
    assert str(raised.value) == f"failed to resolve source metadata for {NAME}: {words}"


async def test_a_fetch_that_fails_leaves_what_it_brought_to_the_next(world: World) -> None:
    async def apply(descriptor: Descriptor, diff_id: Digest) -> AsyncGenerator[ApplyProgress, None]:
        yield ApplyProgress(1)
        raise DataLossError("not what its diff ID says")

    world.imaged.apply = apply  # type: ignore[method-assign]
    with pytest.raises(DataLossError, match="not what its diff ID says"):
        await world.config()
    assert world.imaged.leases == {"lease-1": "abandoned"}


@pytest.mark.parametrize(
    ("identifier", "attributes", "words"),
    [
        ("docker-image://UPPER", {}, "must be lowercase"),
        ("docker-image://x", {"image.new": "1"}, "image.new"),
        ("docker-image://x", {"image.layerlimit": "9"}, "image.layerlimit"),
        ("docker-image://x", {"image.layerlimit": "-1"}, "image.layerlimit"),
        ("docker-image://x", {"image.resolvemode": "x"}, "invalid resolve mode"),
    ],
)
async def test_what_cannot_be_is_named(world: World, identifier: str, attributes: dict[str, str], words: str) -> None:
    async with FakeContext() as context:
        with pytest.raises(InvalidArgumentError, match=words):
            await world.images.pin(SourceOp(identifier, attributes), AMD64, context)


async def test_a_checksum_is_held_to(world: World) -> None:
    async with FakeContext() as context:
        good, bad = world.imaged.image.target.digest, Digest.of(b"")
        await world.images.pin(SourceOp(f"docker-image://{NAME}", {"image.checksum": good}), AMD64, context)
        with pytest.raises(DataLossError):
            await world.images.pin(SourceOp(f"docker-image://{NAME}", {"image.checksum": bad}), AMD64, context)


async def test_a_client_s_layout(world: World) -> None:
    world.session.stores["oci:store"] = world.imaged.image.blobs
    target = world.imaged.image.target.digest
    name = f"x/y@{target}"
    op = SourceOp(f"oci-layout://{name}", {"oci.store": "store"})
    layers = world.imaged.image.details[ARM64][2]
    async with FakeContext("s1") as context:
        found = await world.layouts.resolve_config(ImageQuery(name, ARM64, layout="store"), context)
        assert found.digest == target
        assert (await world.layouts.pin(op, ARM64, context)).pin == target
        world.imaged.blobs[layers[0].descriptor.digest] = b"here"
        assert await world.layouts.fetch(op, ARM64, context) == Tree(layers)
        assert await world.layouts.fetch(op, ARM64, context) == Tree(layers)
        assert world.imaged.blobs[layers[1].descriptor.digest] == b"layer linux/arm64"
        assert list(world.imaged.leases.values()) == ["kept"]


async def test_a_layout_that_lies(world: World) -> None:
    image = world.imaged.image
    world.session.stores["oci:store"] = dict(image.blobs)
    op = SourceOp(f"oci-layout://x@{image.target.digest}", {"oci.store": "store"})
    layer = image.details[AMD64][2][1].descriptor.digest
    async with FakeContext("s1") as context:
        world.session.stores["oci:store"][layer] = b"other bytes"
        with pytest.raises(DataLossError):
            await world.layouts.fetch(op, AMD64, context)
        world.session.stores["oci:store"][image.target.digest] = b"{}"
        with pytest.raises(DataLossError):
            await world.layouts.pin(op, AMD64, context)
        del world.session.stores["oci:store"][image.target.digest]
        with pytest.raises(NotFoundError, match="failed to resolve source metadata"):
            await world.layouts.pin(op, AMD64, context)
        for identifier, attrs in (("oci-layout://x:1", {"oci.store": "store"}), (op.identifier, {})):
            with pytest.raises(InvalidArgumentError):
                await world.layouts.pin(SourceOp(identifier, attrs), AMD64, context)
