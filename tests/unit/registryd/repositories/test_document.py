"""What a manifest refers to."""

import json
from typing import Any

import pytest

from registryd.repositories.document import parse_manifest
from registryd.repositories.refusal import Code, RefusedError
from sampan.oci.descriptor import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from sampan.oci.digest import Digest
from tests.unit.registryd.parts import descriptor, document

CONFIG, LAYER = descriptor(b"{}", "test/config"), descriptor(b"layer")
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"


def test_manifest_needs_its_config_and_layers() -> None:
    data = document(config=CONFIG, layers=[LAYER, LAYER], annotations={"a": "b"})
    manifest = parse_manifest(data, OCI_MANIFEST)
    assert [blob.digest for blob in manifest.blobs] == [Digest.of(b"{}"), Digest.of(b"layer"), Digest.of(b"layer")]
    assert (manifest.children, manifest.subject) == ((), None)
    assert (manifest.artifact_type, manifest.annotations) == ("test/config", {"a": "b"})
    assert (manifest.descriptor.digest, manifest.descriptor.size) == (Digest.of(data), len(data))


def test_stated_artifact_type_outweighs_the_configs() -> None:
    data = document(config=CONFIG, layers=[], artifactType="test/artifact", subject=descriptor(b"subject"))
    manifest = parse_manifest(data, OCI_MANIFEST)
    assert (manifest.artifact_type, manifest.subject) == ("test/artifact", Digest.of(b"subject"))


def test_index_needs_its_manifests_and_the_blobs_that_it_lists() -> None:
    child = descriptor(b"child", DOCKER_MANIFEST)
    manifest = parse_manifest(document(manifests=[child, LAYER, descriptor(b"i", OCI_INDEX)]), DOCKER_INDEX)
    assert [each.digest for each in manifest.children] == [Digest.of(b"child"), Digest.of(b"i")]
    assert [each.digest for each in manifest.blobs] == [Digest.of(b"layer")]
    assert manifest.artifact_type == ""


def test_layer_that_is_elsewhere_is_not_needed() -> None:
    foreign = descriptor(b"foreign", FOREIGN)
    for layer, needed in ((foreign | {"urls": ["there"]}, 1), (foreign, 2), (LAYER | {"urls": ["there"]}, 2)):
        assert len(parse_manifest(document(config=CONFIG, layers=[layer]), OCI_MANIFEST).blobs) == needed


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"schemaVersion": 1}, "schemaVersion is 1"),
        ({"mediaType": OCI_INDEX}, "pushed as"),
        ({"manifests": []}, "both a manifest and an index"),
        ({"config": None}, "config is None"),
        ({"config": CONFIG | {"digest": "x"}}, "config: invalid digest"),
        ({"config": CONFIG | {"size": -1}}, "config: size is -1"),
        ({"config": CONFIG | {"size": 1.5}}, "config: size"),
        ({"config": CONFIG | {"mediaType": ""}}, "config: mediaType"),
        ({"config": CONFIG | {"mediaType": "x" * 256}}, "config: mediaType"),
        ({"layers": {}}, "layers is {}"),
        ({"layers": ["x"]}, "layer 0 is 'x'"),
        ({"subject": "x"}, "subject is 'x'"),
        ({"artifactType": 5}, "artifactType is 5"),
        ({"annotations": {"a": 1}}, "annotations are not all text"),
        ({"annotations": []}, r"annotations is \[\]"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], why: str) -> None:
    whole = {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER]}
    with pytest.raises(RefusedError, match=why) as refused:
        parse_manifest(json.dumps(whole | fields).encode(), OCI_MANIFEST)
    assert refused.value.code is Code.MANIFEST_INVALID


@pytest.mark.parametrize("data", [b"", b"x", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError, match="manifest invalid"):
        parse_manifest(data, OCI_MANIFEST)
