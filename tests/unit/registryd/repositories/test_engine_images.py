"""Images of the engine, served under the registry's own name."""

from dataclasses import replace

import pytest

from registryd.main import own_names
from registryd.repositories.document import parse_manifest
from registryd.repositories.engine_images import EngineImages
from registryd.repositories.model import EngineImage
from registryd.repositories.refusal import Code, RefusedError
from sampan.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from sampan.service.listening import parse_address
from tests.fakes.registry_contents import FakeContents
from tests.unit.registryd.parts import OWN, Parts, descriptor, document

CONFIG, LAYER = b"{}", b"layer"


def add_image(contents: FakeContents, *names: str, layer: bytes = LAYER) -> EngineImage:
    """Have an image as the engine has it."""
    config, own = descriptor(CONFIG), descriptor(layer)
    data = document(config=config, layers=[own])
    for part in (CONFIG, layer, data):
        contents.add(part)
    manifest = Descriptor(OCI_MANIFEST, Digest.of(data), len(data))
    sizes = {Digest.of(part): len(part) for part in (CONFIG, layer)}
    return EngineImage(tuple(parse_reference(name) for name in names), manifest, manifest, sizes)


def add_index(contents: FakeContents, image: EngineImage, other: bytes) -> EngineImage:
    """Have the image as one of two of an index; ``other`` is the second one's manifest."""
    entries = [
        {"mediaType": each.media_type, "digest": each.digest, "size": each.size}
        for each in (image.manifest, Descriptor(OCI_MANIFEST, Digest.of(other), len(other)))
    ]
    data = document(manifests=entries)
    contents.add(data)
    return replace(image, target=Descriptor(OCI_INDEX, Digest.of(data), len(data)))


async def test_image_of_the_registrys_name_is_found_by_tag_and_digest(parts: Parts) -> None:
    image = add_image(parts.contents, f"{OWN}/app:1")
    parts.catalog.listed = (image,)
    for target in ("1", image.manifest.digest):
        assert await parts.manifests.find("app", target) == image.manifest
    assert await parts.blobs.size("app", Digest.of(LAYER)) == len(LAYER)
    assert (await parts.manifests.tags("app", "", None)).items == ("1",)
    assert (await parts.manifests.repositories("", None)).items == ("app",)


@pytest.mark.parametrize("name", ["app:1", "other.example/app:1", "127.0.0.1:5001/app:1", f"{OWN}/other:1"])
async def test_image_of_another_name_is_not(parts: Parts, name: str) -> None:
    image = add_image(parts.contents, name)
    parts.catalog.listed = (image,)
    for target in ("1", image.manifest.digest):
        with pytest.raises(RefusedError):
            await parts.manifests.find("app", target)
    with pytest.raises(RefusedError):
        await parts.blobs.size("app", Digest.of(LAYER))


async def test_image_of_another_registry_is_served_if_that_is_exposed(parts: Parts) -> None:
    image = add_image(parts.contents, "debian:12")
    parts.catalog.listed = (image,)
    exposing = EngineImages(parts.catalog, parts.contents, {"docker.io"})
    assert await exposing.find("library/debian", "12") == image.manifest
    assert await exposing.repositories() == {"library/debian"}
    assert await exposing.tags("debian") is None


async def test_what_was_pushed_outweighs_what_was_tagged(parts: Parts) -> None:
    pushed = await parts.push_image("app", "1", b"pushed")
    parts.catalog.listed = (add_image(parts.contents, f"{OWN}/app:1", f"{OWN}/app:2"),)
    assert (await parts.manifests.find("app", "1")).digest == pushed
    assert (await parts.manifests.tags("app", "", None)).items == ("1", "2")


async def test_image_of_the_engine_is_removed_there(parts: Parts) -> None:
    image = add_image(parts.contents, f"{OWN}/app:1")
    parts.catalog.listed = (image,)
    for target in ("1", image.manifest.digest):
        with pytest.raises(RefusedError, match="image of the engine") as refused:
            await parts.manifests.delete("app", target)
        assert refused.value.code is Code.UNSUPPORTED
    with pytest.raises(RefusedError, match="image of the engine"):
        await parts.blobs.delete("app", Digest.of(LAYER))


async def test_pushing_what_is_served_already_makes_it_the_registrys_own(parts: Parts) -> None:
    image = add_image(parts.contents, f"{OWN}/app:1")
    parts.catalog.listed = (image,)
    data = parts.contents.blobs[image.manifest.digest]
    await parts.manifests.put("app", "1", OCI_MANIFEST, data)
    parts.catalog.listed = ()
    for labels in parts.contents.labels.values():
        labels.pop("an-image", None)
    assert (await parts.manifests.load("app", "1"))[1] == data
    assert await parts.blobs.size("app", Digest.of(LAYER)) == len(LAYER)


async def test_pushing_an_index_makes_its_images_the_registrys_own(parts: Parts) -> None:
    image = add_image(parts.contents, f"{OWN}/app:1")
    both = add_index(parts.contents, image, parts.contents.blobs[image.manifest.digest])
    parts.catalog.listed = (both,)
    await parts.manifests.put("app", "2", OCI_INDEX, parts.contents.blobs[both.target.digest])
    parts.catalog.listed = ()
    assert (await parts.manifests.find("app", image.manifest.digest)).digest == image.manifest.digest


async def test_index_that_is_here_whole_is_served_whole(parts: Parts) -> None:
    image = add_image(parts.contents, f"{OWN}/app:1")
    other = document(config=descriptor(CONFIG), layers=[descriptor(b"other")])
    both = add_index(parts.contents, image, other)
    parts.catalog.listed = (both,)
    assert await parts.manifests.find("app", "1") == image.manifest
    parts.contents.add(other)
    assert await parts.manifests.find("app", "1") == image.manifest  # a layer is still missing
    parts.contents.add(b"other")
    assert await parts.manifests.find("app", "1") == both.target
    assert (await parts.manifests.find("app", Digest.of(other))).digest == Digest.of(other)
    assert parse_manifest(other, OCI_MANIFEST).descriptor.digest == Digest.of(other)
    # With all that the other platform is made of.
    assert await parts.blobs.size("app", Digest.of(b"other")) == len(b"other")


async def test_index_in_an_index_is_served_to_its_end(parts: Parts) -> None:
    image = add_image(parts.contents, f"{OWN}/app:1")
    other = document(config=descriptor(CONFIG), layers=[descriptor(b"other")])
    inner = add_index(parts.contents, image, other)
    entry = {"mediaType": OCI_INDEX, "digest": inner.target.digest, "size": inner.target.size}
    data = document(manifests=[entry])
    parts.contents.add(data)
    outer = replace(image, target=Descriptor(OCI_INDEX, Digest.of(data), len(data)))
    parts.catalog.listed = (outer,)
    assert await parts.manifests.find("app", "1") == image.manifest  # the other platform is missing
    for part in (other, b"other"):
        parts.contents.add(part)
    assert await parts.manifests.find("app", "1") == outer.target
    for found in (inner.target.digest, Digest.of(other)):
        assert (await parts.manifests.find("app", found)).digest == found
    assert await parts.blobs.size("app", Digest.of(b"other")) == len(b"other")


async def test_engine_is_not_asked_for_each_blob_of_a_pull_and_always_before_a_no(parts: Parts) -> None:
    parts.catalog.listed = (add_image(parts.contents, f"{OWN}/app:1"),)
    for _ in range(5):
        await parts.blobs.size("app", Digest.of(LAYER))
    assert parts.catalog.asked == 1
    parts.catalog.listed = (*parts.catalog.listed, add_image(parts.contents, f"{OWN}/app:2", layer=b"new"))
    assert await parts.blobs.size("app", Digest.of(b"new")) == 3
    parts.clock.now_s += 10
    await parts.blobs.size("app", Digest.of(LAYER))
    assert parts.catalog.asked == 3


def test_registry_is_called_what_it_listens_on() -> None:
    assert own_names(parse_address("127.0.0.1:5000"), ()) == {"127.0.0.1:5000", "localhost:5000"}
    assert own_names(parse_address("10.0.0.1:80"), ("reg.lan",)) == {"10.0.0.1:80", "reg.lan"}
    everywhere = own_names(parse_address("0.0.0.0:5000"), ())
    assert {"127.0.0.1:5000", "localhost:5000"} < everywhere
    assert "0.0.0.0:5000" not in everywhere


async def test_an_image_without_all_its_blobs_is_completed_when_somebody_asks_for_it(parts: Parts) -> None:
    whole = replace(add_image(parts.contents, f"{OWN}/app:1", f"{OWN}/app:2"), id="image")
    lacking = Descriptor(OCI_MANIFEST, Digest.of(b"names a tar"), 11)
    config = Digest.of(CONFIG)
    image = replace(whole, target=lacking, manifest=lacking, contents={config: len(CONFIG)}, complete=False)
    parts.catalog.listed = (image,)
    parts.catalog.becomes = {"image": whole}
    with pytest.raises(RefusedError):
        await parts.blobs.size("app", Digest.of(LAYER))
    assert (await parts.manifests.tags("app", "", None)).items == ("1", "2")
    with pytest.raises(RefusedError):
        await parts.manifests.find("app", "3")
    assert parts.catalog.listed == (image,)
    assert await parts.manifests.find("app", "2") == whole.manifest
    assert await parts.blobs.size("app", Digest.of(LAYER)) == len(LAYER)
    parts.catalog.listed = (image,)
    with pytest.raises(RefusedError):  # what it was is no manifest of its any more
        await parts.manifests.find("app", lacking.digest)
    assert parts.catalog.listed == (whole,)
