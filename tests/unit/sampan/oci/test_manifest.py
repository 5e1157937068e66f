import json
from typing import Any

import pytest

from sampan.errors import NotFoundError, RemoteError, SampanError, UnimplementedError
from sampan.oci.descriptor import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
)
from sampan.oci.digest import Digest
from sampan.oci.manifest import IndexEntry, Manifest, choose, parse_document
from sampan.oci.platform import Platform

DIGEST = Digest.of(b"x")
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def descriptor(media_type: str = DOCKER_LAYER_GZIP, **changes: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": DIGEST, "size": 7} | changes


def manifest(**changes: Any) -> dict[str, Any]:
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": descriptor(DOCKER_CONFIG),
        "layers": [descriptor()],
    } | changes
    return {key: value for key, value in document.items() if value is not ...}


def parse(document: object, media_type: str = DOCKER_MANIFEST) -> Manifest | tuple[IndexEntry, ...]:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_document(data, media_type, "x")


def test_docker_manifest_is_parsed() -> None:
    parsed = parse(manifest())
    assert parsed == Manifest(Descriptor(DOCKER_CONFIG, DIGEST, 7), (Descriptor(DOCKER_LAYER_GZIP, DIGEST, 7),))


@pytest.mark.parametrize("layer", [OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD])
def test_oci_manifest_need_not_say_its_type(layer: str) -> None:
    document = manifest(mediaType=..., config=descriptor(OCI_CONFIG), layers=[descriptor(layer)])
    parsed = parse(document, OCI_MANIFEST)
    assert isinstance(parsed, Manifest)
    assert parsed.layers[0].media_type == layer


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"not json", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ([], "expected an object"),
        (manifest(schemaVersion=1), "schemaVersion is 1"),
        (manifest(mediaType=OCI_MANIFEST), "served as"),
        (manifest(manifests=[]), "both a manifest and an index"),
        (manifest(config=None), "expected an object"),
        (manifest(layers={}), "layers is not a list"),
        (manifest(layers=[descriptor()] * 501), "has 501 layers"),
        (manifest(layers=[descriptor(size=-1)]), "size is -1"),
        (manifest(layers=[descriptor(size=True)]), "size is True"),
        (manifest(layers=[descriptor(size=1.5)]), "size is 1.5"),
        (manifest(layers=[descriptor(size="7")]), "size is '7'"),
        (manifest(layers=[descriptor(size=2**63)]), "size is"),
        (manifest(layers=[descriptor(digest="sha256:../../etc/passwd")]), "invalid digest"),
        (manifest(layers=[descriptor(digest="sha512:" + "0" * 128)]), "invalid digest"),
        (manifest(layers=[descriptor(digest=None)]), "digest is None"),
        (manifest(config=descriptor(DOCKER_CONFIG, size=9 << 20)), "size is 9437184"),
    ],
)
def test_what_is_no_manifest_is_refused(document: object, complaint: str) -> None:
    with pytest.raises(RemoteError, match=complaint):
        parse(document)


@pytest.mark.parametrize(
    ("document", "media_type", "complaint"),
    [
        (manifest(), "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        (manifest(layers=[descriptor(FOREIGN)]), DOCKER_MANIFEST, "foreign layers"),
        (manifest(layers=[descriptor("application/x-new")]), DOCKER_MANIFEST, "layers of this type"),
        (manifest(config=descriptor("application/x-chart")), DOCKER_MANIFEST, "not a container image"),
    ],
)
def test_what_is_not_supported_is_said_to_be(document: object, media_type: str, complaint: str) -> None:
    with pytest.raises(UnimplementedError, match=complaint):
        parse(document, media_type)


@pytest.mark.parametrize("media_type", ["text/html", "application/json", ""])
def test_other_media_types_are_refused(media_type: str) -> None:
    with pytest.raises(RemoteError, match="unsupported manifest media type"):
        parse(manifest(), media_type)


def index(*platforms: dict[str, Any] | None, media_type: str = OCI_INDEX) -> tuple[IndexEntry, ...]:
    entries = [
        descriptor(OCI_MANIFEST, digest=Digest.of(str(position).encode()), platform=platform)
        for position, platform in enumerate(platforms)
    ]
    parsed = parse({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}, media_type)
    assert isinstance(parsed, tuple)
    return parsed


AMD64 = {"os": "linux", "architecture": "amd64"}
ARM_V6 = {"os": "linux", "architecture": "arm", "variant": "v6"}
ARM_V7 = {"os": "linux", "architecture": "arm", "variant": "v7"}
ARM_V5 = {"os": "linux", "architecture": "arm", "variant": "v5"}
AMD64_V3 = {"os": "linux", "architecture": "amd64", "variant": "v3"}
UNKNOWN = {"os": "unknown", "architecture": "unknown"}
WINDOWS = {"os": "windows", "architecture": "amd64", "os.version": "10"}


@pytest.mark.parametrize(
    ("platforms", "wanted", "position"),
    [
        ((WINDOWS, AMD64), Platform("linux", "amd64"), 1),
        ((UNKNOWN, AMD64), Platform("linux", "amd64"), 1),
        ((ARM_V6, ARM_V7), Platform("linux", "arm", "v7"), 1),
        ((ARM_V6, ARM_V7), Platform("linux", "arm"), 1),
        ((ARM_V5, ARM_V6), Platform("linux", "arm", "v7"), 1),
        ((ARM_V7, ARM_V6), Platform("linux", "arm", "v6"), 1),
        ((AMD64_V3, AMD64), Platform("linux", "amd64"), 1),
        ((AMD64_V3, AMD64), Platform("linux", "amd64", "v4"), 0),
        ((AMD64, AMD64), Platform("linux", "amd64"), 0),
        ((None,), Platform("linux", "amd64"), 0),
    ],
)
def test_platform_is_chosen(platforms: tuple[Any, ...], wanted: Platform, position: int) -> None:
    assert choose(index(*platforms), wanted).digest == Digest.of(str(position).encode())


@pytest.mark.parametrize("platforms", [(), (AMD64,), (None, None), (UNKNOWN,)])
def test_no_platform_fits_in_dockers_words(platforms: tuple[Any, ...]) -> None:
    with pytest.raises(NotFoundError, match=r"^no matching manifest for linux/arm64/v8 in the manifest list entries$"):
        choose(index(*platforms, media_type=DOCKER_INDEX), Platform("linux", "arm64", "v8"))


@pytest.mark.parametrize("platform", [7, "linux/amd64", {"os": 7}, {"os": "x" * 100}])
def test_platform_that_is_none_is_refused(platform: Any) -> None:
    with pytest.raises(SampanError):
        index(platform)


def test_index_with_too_many_entries_is_refused() -> None:
    with pytest.raises(RemoteError, match="1001 entries"):
        index(*[None] * 1001)
