"""Documents that are wrong, from the registry to the error: who is named, and that nothing is left or moved."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from sampan.errors import DataLossError, NotFoundError, RemoteError, SampanError, UnimplementedError
from sampan.oci.platform import Platform
from sampan.resource.transfer import Fetched
from tests.fakes.registry import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    FakeRegistry,
    Fault,
)
from tests.unit.imaged.parts import Parts

AMD64 = {"os": "linux", "architecture": "amd64"}
OTHER = "sha256:" + "1" * 64

Document = dict[str, Any]


def document(registry: FakeRegistry, reference: str) -> Document:
    """The manifest that the registry serves, to change it."""
    _, data = registry.manifests["x", reference]
    loaded: Document = json.loads(data)
    return loaded


def layer(**changes: Any) -> Callable[[Document], Document]:
    """Change the first layer's descriptor."""
    return lambda manifest: manifest | {"layers": [manifest["layers"][0] | changes]}


async def refused(parts: Parts, registry: FakeRegistry, kind: type[SampanError], complaint: str) -> None:
    """Pull x:1, expect the error, and find everything as it was."""
    names = [image.repo_tags for image in await parts.images.list()]
    before = parts.blobs()
    with pytest.raises(kind, match=complaint):
        await parts.fetch(f"{registry.address}/x:1", Platform("linux", "amd64"))
    assert parts.blobs() == before
    assert parts.leftovers() == []
    assert [image.repo_tags for image in await parts.images.list()] == names


@pytest.fixture
async def good(parts: Parts, registry: FakeRegistry) -> Fetched:
    """The image that x:1 is before the registry changes it."""
    return await parts.pull_image(registry, "x", "1", b"good")


MANIFESTS: list[tuple[str, Callable[[Document], Document], type[SampanError], str]] = [
    ("both", lambda m: m | {"manifests": []}, RemoteError, r"x@sha256:\w+: is both a manifest and an index"),
    ("type inside", lambda m: m | {"mediaType": OCI_INDEX}, RemoteError, "mediaType is '.*index.*', served as"),
    ("upper case", layer(digest=OTHER.replace("1", "A")), RemoteError, "layer 0: invalid digest 'sha256:AAA"),
    ("short", layer(digest="sha256:abc"), RemoteError, "layer 0: invalid digest 'sha256:abc'"),
    ("md5", layer(digest="md5:" + "0" * 32), RemoteError, "layer 0: invalid digest 'md5:0"),
    ("path", layer(digest="sha256:../../x"), RemoteError, r"layer 0: invalid digest 'sha256:\.\./\.\./x'"),
    ("newline", layer(digest=OTHER + "\n"), RemoteError, "layer 0: invalid digest"),
    ("negative", layer(size=-1), RemoteError, "layer 0: size is -1"),
    ("2^63", layer(size=2**63), RemoteError, "layer 0: size is 9223372036854775808"),
    ("not a number", layer(size=float("nan")), RemoteError, "layer 0: size is nan"),
    ("layer type", layer(mediaType="application/x-new"), UnimplementedError, "layers of this type"),
    ("config type", lambda m: m | {"config": m["layers"][0]}, UnimplementedError, "not a container image"),
    ("config missing", lambda m: m | {"config": m["config"] | {"digest": OTHER}}, RemoteError, f"blob {OTHER}"),
    ("layer missing", layer(digest=OTHER), RemoteError, f"blob {OTHER}: .*blob unknown"),
    ("layer smaller", layer(size=1), DataLossError, r"has \d+ bytes at the registry, its manifest says 1"),
    ("layer larger", layer(size=10**6), DataLossError, r"has \d+ bytes at the registry, its manifest says 1000000"),
    ("no layers", lambda m: m | {"layers": []}, RemoteError, "has 1 diff IDs and its manifest 0 layers"),
]


@pytest.mark.usefixtures("good")
@pytest.mark.parametrize(
    ("change", "kind", "complaint"), [case[1:] for case in MANIFESTS], ids=[case[0] for case in MANIFESTS]
)
async def test_wrong_manifest_is_refused_and_leaves_everything_as_it_was(
    parts: Parts,
    registry: FakeRegistry,
    change: Callable[[Document], Document],
    kind: type[SampanError],
    complaint: str,
) -> None:
    registry.add_image("x", "1", b"another layer")
    changed = change(document(registry, "1"))
    registry.add_manifest("x", "1", changed, DOCKER_MANIFEST)
    await refused(parts, registry, kind, complaint)


@pytest.mark.usefixtures("good")
@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (b"not json", r"config sha256:\w+: is not JSON"),
        (b"[]", r"config sha256:\w+: is a list, expected an object"),
        (b"{" * 100_000, r"config sha256:\w+: is not JSON"),
        (b'{"architecture": "amd64", "rootfs": {"diff_ids": ["sha256:x"]}}', r"config sha256:\w+: diff_ids: invalid"),
        (b'{"architecture": "amd64", "rootfs": {"diff_ids": []}}', "has 0 diff IDs and its manifest 1 layers"),
    ],
)
async def test_wrong_config_is_refused_and_leaves_everything_as_it_was(
    parts: Parts, registry: FakeRegistry, config: bytes, complaint: str
) -> None:
    registry.add_image("x", "1", b"another layer")
    changed = document(registry, "1") | {"config": registry.add_blob(config, DOCKER_CONFIG)}
    registry.add_manifest("x", "1", changed, DOCKER_MANIFEST)
    await refused(parts, registry, RemoteError, complaint)


@pytest.mark.usefixtures("good")
@pytest.mark.parametrize("media_type", ["text/html", "application/vnd.oci.image.config.v1+json", "x" * 5000])
async def test_document_of_an_unknown_type_is_refused(parts: Parts, registry: FakeRegistry, media_type: str) -> None:
    registry.add_image("x", "1", b"another layer")
    registry.faults.append(Fault("/manifests/", content_type=media_type))
    await refused(parts, registry, RemoteError, r"x@sha256:\w+: unsupported manifest media type|Got more than")


@pytest.mark.usefixtures("good")
async def test_index_that_is_nested_a_thousand_deep_is_refused_after_three(
    parts: Parts, registry: FakeRegistry
) -> None:
    target = registry.add_image("x", "", b"another layer")
    for depth in range(1000):
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [target | {"platform": AMD64}]}
        target = registry.add_manifest("x", "1" if depth == 999 else "", index, OCI_INDEX)
    registry.requests.clear()
    await refused(parts, registry, RemoteError, "nested more than 2 deep")
    assert len(registry.paths("/manifests/")) == 3


@pytest.mark.usefixtures("good")
async def test_index_that_leads_to_itself_does_not_fit_its_digest(parts: Parts, registry: FakeRegistry) -> None:
    entry = {"mediaType": OCI_INDEX, "digest": OTHER, "size": 300, "platform": AMD64}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    registry.add_manifest("x", "1", index, OCI_INDEX)
    registry.manifests["x", OTHER] = registry.manifests["x", "1"]
    await refused(parts, registry, DataLossError, f"verification failed for digest {OTHER}")


@pytest.mark.usefixtures("good")
async def test_index_whose_entry_says_another_size_is_refused(parts: Parts, registry: FakeRegistry) -> None:
    target = registry.add_image("x", "", b"another layer") | {"platform": AMD64, "size": 7}
    registry.add_manifest("x", "1", {"schemaVersion": 2, "manifests": [target]}, DOCKER_LIST)
    await refused(parts, registry, RemoteError, f"of 7 bytes for {target['digest']}")


@pytest.mark.usefixtures("good")
async def test_index_for_other_platforms_only_is_not_found(parts: Parts, registry: FakeRegistry) -> None:
    target = registry.add_image("x", "", b"another layer") | {"platform": AMD64 | {"architecture": "s390x"}}
    registry.add_manifest("x", "1", {"schemaVersion": 2, "manifests": [target]}, DOCKER_LIST)
    await refused(parts, registry, NotFoundError, "no matching manifest for linux/amd64")


@pytest.mark.usefixtures("good")
@pytest.mark.parametrize("kind", ["layers", "manifests"])
async def test_hundred_thousand_descriptors_are_refused_unread(parts: Parts, registry: FakeRegistry, kind: str) -> None:
    descriptor = {"mediaType": DOCKER_LAYER_GZIP, "digest": OTHER, "size": 1}
    data = json.dumps({"schemaVersion": 2, kind: [descriptor] * 100_000}).encode()
    registry.add_manifest("x", "1", data, DOCKER_MANIFEST if kind == "layers" else DOCKER_LIST)
    await refused(parts, registry, RemoteError, f"manifest is {len(data)} bytes, the most is 4194304")


@pytest.mark.usefixtures("good")
async def test_hundred_megabytes_of_manifest_are_refused_unread(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_manifest("x", "1", bytes(100_000_000), DOCKER_MANIFEST)
    await refused(parts, registry, RemoteError, "manifest is 100000000 bytes, the most is 4194304")
    assert registry.served["1"] < 20_000_000
