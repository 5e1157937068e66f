"""The form of layers."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from buildd.deferred import deferred
from buildd.exporters.attributes import parse_attributes
from buildd.protocol import Form, Tree
from sampan.errors import InvalidArgumentError, SampanError, UnimplementedError
from sampan.oci.descriptor import DOCKER_LAYER, OCI_LAYER, OCI_LAYER_GZIP, Descriptor
from sampan.oci.digest import Digest
from sampan.resource import image as images
from sampan.tar.entry import Entry, EntryType
from sampan.tar.writer import TarWriter
from tests.unit.buildd.exporters.exporting import CONFIG, NOW, Room, one


def layer_of(*names: str, mtime_ns: int = NOW) -> bytes:
    """Return the tar of a layer."""
    data = bytearray()
    writer = TarWriter(data.extend)
    for name in names:
        writer.add(Entry(name.encode(), EntryType.FILE, 0o644, 0, 0, 4, mtime_ns))
        writer.data(b"data")
    writer.close()
    return bytes(data)


def stored(room: Room, *tars: bytes) -> Tree:
    """Put layers as freezing a step's files does."""
    layers = []
    for tar in tars:
        blob = gzip.compress(tar, mtime=0)
        room.store.blobs[Digest.of(blob)] = blob
        layers.append(images.Layer(Descriptor(OCI_LAYER_GZIP, Digest.of(blob), len(blob)), Digest.of(tar)))
    return Tree(tuple(layers))


async def test_layers_made_here_are_compressed_as_is_asked_for(room: Room) -> None:
    tree = stored(room, layer_of("base"), layer_of("own"))
    result = replace(one(tree), taken=frozenset((tree.layers[0].diff_id,)))
    for compression, kind in (("zstd", "+zstd"), ("uncompressed", "")):
        told = await room.export(result, "image", compression=compression)
        base, own = room.json(told["containerimage.digest"])["layers"]
        assert base["digest"] == tree.layers[0].descriptor.digest
        assert own["mediaType"] == f"application/vnd.oci.image.layer.v1.tar{kind}"
        assert own["digest"] in room.store.blobs
        config = room.json(told["containerimage.config.digest"])
        assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in tree.layers]
    assert room.store.blobs[own["digest"]] == layer_of("own")
    told = await room.export(result, "image", compression="zstd", force_compression="true", oci_mediatypes="false")
    manifest = room.json(told["containerimage.digest"])
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"  # Docker's have no type for it
    assert {each["mediaType"] for each in manifest["layers"]} == {"application/vnd.oci.image.layer.v1.tar+zstd"}


def deferring(room: Room) -> Tree:
    """Return a tree whose upper layer has no blob yet."""
    lower, upper = stored(room, layer_of("base")), Digest.of(layer_of("own"))
    return Tree((*lower.layers, deferred(images.Layer(Descriptor(OCI_LAYER, upper, 4), upper))))


async def test_a_deferred_layer_stays_so_in_an_image_that_stays_here(room: Room) -> None:
    tree = deferring(room)
    base, own = tree.layers
    for kind, attributes in (("moby", {}), ("image", {"name": "one"})):
        told = await room.export(one(tree), kind, **attributes)
        _, target, _ = room.images.created[-1]
        assert room.json(target.digest)["layers"] == [
            {"mediaType": OCI_LAYER_GZIP, "digest": base.descriptor.digest, "size": base.descriptor.size},
            {"mediaType": OCI_LAYER, "digest": own.diff_id, "size": 4},
        ]
        assert room.images.deferred == {own.diff_id}
        # Its manifest is not the one that a registry will have.
        assert told["containerimage.digest"] == told["containerimage.config.digest"]
        assert "containerimage.descriptor" not in told
    await room.export(one(tree), "moby", oci_mediatypes="false")
    _, target, _ = room.images.created[-1]
    assert room.json(target.digest)["layers"][1]["mediaType"] == DOCKER_LAYER
    assert room.layers.packed == []


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("image", {"push": "true", "name": "one"}),
        ("image", {"name_canonical": "true", "name": "one"}),
        ("image", {"dangling_name_prefix": "none"}),
        ("image", {"annotation-index.a": "1", "name": "one"}),
        ("docker", {}),
        ("oci", {"tar": "true"}),
    ],
)
async def test_a_deferred_layer_gets_a_blob_where_content_goes_elsewhere_or_is_named_by_its_digest(
    room: Room, kind: str, attributes: Mapping[str, str]
) -> None:
    tree = deferring(room)
    told = await room.export(one(tree), kind, **attributes)
    assert room.layers.packed == [(tree.layers[1].diff_id, "lease")]
    assert room.images.deferred == frozenset()
    target = room.json(told["containerimage.digest"])
    manifest = target if "layers" in target else room.json(target["manifests"][0]["digest"])
    assert [each["mediaType"] for each in manifest["layers"]] == [OCI_LAYER_GZIP, OCI_LAYER_GZIP]
    assert all(each["digest"] in room.store.blobs for each in manifest["layers"])


async def test_a_blob_that_an_image_has_of_a_deferred_layer_is_taken(room: Room) -> None:
    tree = deferring(room)
    own = tree.layers[1].diff_id
    room.images.known[own] = images.Layer(Descriptor(OCI_LAYER_GZIP, Digest.of(b"blob"), 4), own)
    told = await room.export(one(tree), "moby")  # it went with its image
    assert room.images.deferred == {own}
    room.store.blobs[Digest.of(b"blob")] = b"blob"
    told = await room.export(one(tree), "moby")
    assert room.json(told["containerimage.digest"])["layers"][1]["digest"] == Digest.of(b"blob")
    assert (room.images.deferred, room.layers.packed) == (frozenset(), [])


async def test_an_image_whose_deferred_layer_has_a_blob_by_now_is_made_anew(room: Room) -> None:
    result = replace(one(deferring(room)), made_ns={Digest.of(b"a step's"): NOW})
    own = deferring(room).layers[1].diff_id
    for _ in range(2):
        await room.export(result, "moby")
    assert [lease for _, _, lease in room.images.created] == ["lease", ""]
    room.images.known[own] = images.Layer(Descriptor(OCI_LAYER_GZIP, Digest.of(b"blob"), 4), own)
    room.store.blobs[Digest.of(b"blob")] = b"blob"
    told = await room.export(result, "moby")
    assert room.json(told["containerimage.digest"])["layers"][1]["digest"] == Digest.of(b"blob")


async def test_a_layer_is_converted_once(room: Room) -> None:
    result = one(stored(room, layer_of("own")))
    first = await room.export(result, "image", compression="gzip", compression_level="1")
    second = await room.export(result, "image", compression="gzip", compression_level="1")
    assert first["containerimage.digest"] == second["containerimage.digest"]
    assert room.files.converted == [Form("gzip", 1)]
    (layer,) = room.json(first["containerimage.digest"])["layers"]
    del room.store.blobs[layer["digest"]]
    await room.export(result, "image", compression="gzip", compression_level="1")
    assert layer["digest"] in room.store.blobs


async def test_times_end_at_the_epoch_but_for_the_base_image_s(room: Room) -> None:
    tree = stored(room, layer_of("base"), layer_of("own"), layer_of("old", mtime_ns=5 * 10**9))
    base = {"rootfs": {"diff_ids": [tree.layers[0].diff_id]}, "history": [{"created_by": "FROM"}]}
    result = one(tree, {**CONFIG, "created": "2030-01-01T00:00:00Z"})
    result = replace(result, metadata={**result.metadata, "containerimage.base.config": json.dumps(base).encode()})
    told = await room.export(result, "image", rewrite_timestamp="true", source_date_epoch="1000")
    first, own, old = room.json(told["containerimage.digest"])["layers"]
    assert first["digest"] == tree.layers[0].descriptor.digest
    assert gzip.decompress(room.store.blobs[own["digest"]]) == layer_of("own", mtime_ns=1000 * 10**9)
    assert gzip.decompress(room.store.blobs[old["digest"]]) == layer_of("old", mtime_ns=5 * 10**9)
    config = room.json(told["containerimage.config.digest"])
    assert config["created"] == "1970-01-01T00:16:40Z"
    assert config["rootfs"]["diff_ids"][1] == Digest.of(layer_of("own", mtime_ns=1000 * 10**9))
    assert {line["created"] for line in config["history"][1:]} == {"1970-01-01T00:16:40Z"}


@pytest.mark.parametrize(
    ("attributes", "kind", "words"),
    [
        ({"compression": "estargz"}, UnimplementedError, "compression estargz"),
        ({"compression": "lzma"}, InvalidArgumentError, 'unsupported layer compression type "lzma"'),
        ({"compression-level": "10"}, InvalidArgumentError, "from 0 to 9"),
        ({"compression": "zstd", "compression-level": "high"}, InvalidArgumentError, "compression-level 'high'"),
        ({"source-date-epoch": "now"}, InvalidArgumentError, "invalid SOURCE_DATE_EPOCH: now"),
    ],
)
def test_a_form_that_layers_cannot_have_is_refused(
    attributes: Mapping[str, str], kind: type[SampanError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        parse_attributes("image", attributes)
