"""Images as kubelet manages them, on services that behave."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crid.images.images import PodImages
from crid.images.model import Auth, PodImage
from crid.wire.image_servicer import ImageServicer
from crid.wire.services import Context
from sampan.api.cri.v1 import config_pb2
from sampan.api.cri.v1 import image_pb2 as pb
from sampan.api.image.v1 import images_pb2
from sampan.client.services import Services
from sampan.disk import IMAGE, LEASE, Holder, StoredObject
from sampan.engine.create import create_container
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, RemoteError, UnauthenticatedError
from sampan.layout import Layout
from sampan.oci.digest import Digest
from sampan.resource.container_spec import ContainerSpec, Process
from tests.fakes.engine import MANIFEST, FakeEngine, fake_engine, image

HUB = "docker.io/library"


@dataclass
class Parts:
    """Images, and the engine that they are of."""

    fake: FakeEngine
    engine: Services
    images: PodImages

    def here(self) -> set[str]:
        return {tag for one in self.fake.images.images.values() for tag in one.repo_tags}

    async def container_of(self, name: str) -> None:
        spec = ContainerSpec(name="user", image=name, process=Process(cmd=("sh",)))
        await create_container(self.engine, spec, "")


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    layout = Layout(tmp_path / "d", tmp_path / "r")
    async with fake_engine(layout) as fake, Services.connect(layout) as engine:
        images = PodImages(engine, ["pause:3", "reg.lan/keep/*"], Path("/data/layers"), now_ns=lambda: 7)
        yield Parts(fake, engine, images)


def names(found: list[PodImage]) -> list[tuple[str, ...]]:
    return [one.repo_tags for one in found]


async def test_images_have_whole_names_and_a_size(parts: Parts) -> None:
    made = parts.fake.images.add(image("web:1"))
    (found,) = await parts.images.all()
    assert found.id == made.id
    assert found.repo_tags == (f"{HUB}/web:1",)
    assert found.repo_digests == (f"{HUB}/web@{MANIFEST}",)
    assert found.size_bytes == 3500
    dangling = parts.fake.images.add(image("", layers=[]))
    empty = await parts.images.get(dangling.id)
    assert empty is not None
    assert (empty.repo_tags, empty.size_bytes) == ((), 1)  # kubelet takes 0 for damage


async def test_a_filter_finds_one_by_any_of_its_names_or_none(parts: Parts) -> None:
    made = parts.fake.images.add(image("web:1"))
    parts.fake.images.add(image("other:1", created_s=1_600_000_000))
    for name in ("web:1", f"{HUB}/web:1", f"web@{MANIFEST}", made.id, made.id[7:20]):
        assert names(await parts.images.all(name)) == [(f"{HUB}/web:1",)]
    for name in ("gone:1", "NOT A NAME", "sha256:" + "0" * 64):
        assert await parts.images.all(name) == []
        assert await parts.images.get(name) is None
        assert await parts.images.describe(name) is None
    assert len(await parts.images.all()) == 2


@pytest.mark.parametrize(
    ("user", "uid", "username"),
    [("", None, ""), ("0", 0, ""), ("1000:1000", 1000, ""), ("web:web", None, "web"), ("10a", None, "10a")],
)
async def test_an_images_user_is_a_number_or_a_name(parts: Parts, user: str, uid: int | None, username: str) -> None:
    parts.fake.images.add(image("web:1", user=user))
    found = await parts.images.get("web:1")
    assert found is not None
    assert (found.uid, found.username) == (uid, username)


async def test_images_that_the_administrator_keeps_are_pinned(parts: Parts) -> None:
    for number, name in enumerate(("pause:3", "pause:4", "reg.lan/keep/a:1", "reg.lan/other:1")):
        parts.fake.images.add(image(name, created_s=1_700_000_000 + number))
    pinned = {one.repo_tags[0] for one in await parts.images.all() if one.pinned}
    assert pinned == {f"{HUB}/pause:3", "reg.lan/keep/a:1"}


async def test_a_pull_returns_the_id_that_everything_else_shows(parts: Parts) -> None:
    parts.fake.images.remote["web:1"] = image("web:1")
    pulled = await parts.images.pull("web:1", Auth("me", "secret"))
    found = await parts.images.get("web:1")
    assert found is not None
    assert found.id == pulled == image("web:1").id
    sent = parts.fake.images.credentials[-1]
    assert (sent.username, sent.password) == ("me", "secret")


async def test_credentials_of_another_registry_are_not_sent(parts: Parts) -> None:
    parts.fake.images.remote["web:1"] = image("web:1")
    await parts.images.pull("web:1", Auth("me", "secret", server_address="reg.lan"))
    assert parts.fake.images.credentials[-1] == images_pb2.Credentials()


async def test_what_a_registry_says_is_passed_on(parts: Parts) -> None:
    with pytest.raises(NotFoundError, match="pull access denied"):
        await parts.images.pull("gone:1", Auth())
    parts.fake.images.refuse = UnauthenticatedError("unauthorized")
    with pytest.raises(UnauthenticatedError):
        await parts.images.pull("web:1", Auth())
    parts.fake.images.refuse = RemoteError("no such host")
    with pytest.raises(RemoteError, match=r"^RegistryUnavailable: no such host"):
        await parts.images.pull("web:1", Auth())
    with pytest.raises(InvalidArgumentError, match="invalid reference format"):
        await parts.images.pull("Not A Name", Auth())


async def test_a_pull_whose_caller_leaves_is_cancelled(parts: Parts) -> None:
    parts.fake.images.remote["web:1"] = image("web:1")
    parts.fake.images.hang = True
    pulling = asyncio.create_task(parts.images.pull("web:1", Auth()))
    async with asyncio.timeout(60):
        while not parts.fake.images.leases:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    async with asyncio.timeout(60):
        await parts.fake.images.fetch_cancelled.wait()
    assert await parts.images.all() == []


async def test_removed_by_id_an_image_goes_with_all_its_names(parts: Parts) -> None:
    made = parts.fake.images.add(image("web:1"))
    made.repo_tags.extend(["web:2", "reg.lan/web:1"])
    await parts.images.remove(made.id)
    assert not parts.fake.images.images
    await parts.images.remove(made.id)  # asked twice


async def test_removed_by_a_name_it_stays_for_its_others(parts: Parts) -> None:
    made = parts.fake.images.add(image("web:1"))
    made.repo_tags.append("reg.lan/web:1")
    await parts.images.remove(f"{HUB}/web:1")
    assert parts.here() == {"reg.lan/web:1"}
    await parts.images.remove("reg.lan/web:1")
    assert not parts.fake.images.images


async def test_an_image_of_a_container_is_not_removed_and_keeps_all_its_names(parts: Parts) -> None:
    made = parts.fake.images.add(image("web:1"))
    made.repo_tags.append("reg.lan/web:1")
    await parts.container_of("web:1")
    with pytest.raises(ConflictError, match="is used by container"):
        await parts.images.remove(made.id)
    assert parts.here() == {"web:1", "reg.lan/web:1"}
    await parts.images.remove("reg.lan/web:1")
    with pytest.raises(ConflictError):
        await parts.images.remove("web:1")
    assert parts.here() == {"web:1"}


async def test_without_a_name_nothing_is_meant(parts: Parts) -> None:
    for asked in (parts.images.get(""), parts.images.remove(""), parts.images.pull("", Auth())):
        with pytest.raises(InvalidArgumentError, match="image is empty"):
            await asked


async def test_what_images_take_is_their_blobs_and_layers_each_once(parts: Parts) -> None:
    parts.fake.images.add(image("web:1"))
    parts.fake.images.add(image("web:2", created_s=1_600_000_000))  # of the same layers
    holders = (Holder(IMAGE, "sha256:a"),)
    parts.fake.content_disk.objects = [
        StoredObject("blob", Digest.of(b"one"), 4096, holders),
        StoredObject("blob", Digest.of(b"two"), 8192, (Holder(LEASE, "x"),)),
    ]
    images, containers = await parts.images.uses()
    assert (images.used_bytes, images.directory, images.measured_ns) == (4096 + 3500, Path("/data/layers"), 7)
    assert containers.used_bytes == 0


async def test_over_the_wire_it_is_kubelets_messages(parts: Parts, context: Context) -> None:
    made = parts.fake.images.add(image("web:1", user="5"))
    servicer = ImageServicer(parts.images)
    spec = config_pb2.ImageSpec(image="web:1")
    plain = await servicer.ImageStatus(pb.ImageStatusRequest(image=spec), context)
    assert (plain.image.id, plain.image.uid.value, dict(plain.info)) == (made.id, 5, {})
    verbose = await servicer.ImageStatus(pb.ImageStatusRequest(image=spec, verbose=True), context)
    assert json.loads(verbose.info["info"])["imageSpec"]["config"]["Cmd"] == ["sh"]
    gone = await servicer.ImageStatus(pb.ImageStatusRequest(image=config_pb2.ImageSpec(image="gone")), context)
    assert not gone.HasField("image")
    listed = await servicer.ListImages(pb.ListImagesRequest(), context)
    streamed = [each async for each in servicer.StreamImages(pb.StreamImagesRequest(), context)]
    assert list(listed.images) == [one for answer in streamed for one in answer.images]
    info = await servicer.ImageFsInfo(pb.ImageFsInfoRequest(), context)
    assert info.image_filesystems[0].used_bytes.value == 3500
    assert info.container_filesystems[0].fs_id.mountpoint == "/data/layers"
    auth = pb.AuthConfig(username="me", password="secret")
    parts.fake.images.remote["web:1"] = made
    pulled = await servicer.PullImage(pb.PullImageRequest(image=spec, auth=auth), context)
    assert pulled.image_ref == made.id
    await servicer.RemoveImage(pb.RemoveImageRequest(image=spec), context)
    assert not (await servicer.ListImages(pb.ListImagesRequest(), context)).images
