"""Manifests at registries, as they are."""

import json
from collections.abc import AsyncIterator

import pytest

from imaged.registry.auth import Tokens
from imaged.registry.endpoints import Endpoints
from imaged.registry.manifests import Manifests
from imaged.registry.retry import RetryPolicy
from imaged.registry.source import Sources
from imaged.registry.transport import Transport
from sampan.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RemoteError,
    SampanError,
    UnauthenticatedError,
)
from sampan.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from sampan.resource.image import ANONYMOUS, Credentials, RemoteManifest
from tests.fakes.push_registry import PushRegistry, Refuse
from tests.fakes.registry import FakeRegistry, Fault

CONFIG, LAYER = b'{"os":"linux"}', b"layer"
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "config": {"mediaType": OCI_CONFIG, "digest": Digest.of(CONFIG), "size": len(CONFIG)},
        "layers": [{"mediaType": OCI_LAYER, "digest": Digest.of(LAYER), "size": len(LAYER)}],
    },
    indent=3,
).encode()


class Asking:
    """What is under test, with names as users type them."""

    def __init__(self, manifests: Manifests) -> None:
        self._manifests = manifests

    async def read(self, name: str, credentials: Credentials = ANONYMOUS, *, insecure: bool = False) -> RemoteManifest:
        return await self._manifests.read(parse_reference(name).with_default_tag(), credentials, insecure=insecure)

    async def write(
        self, name: str, content: bytes = MANIFEST, media_type: str = OCI_MANIFEST, mount_from: str = ""
    ) -> Digest:
        reference = parse_reference(name).with_default_tag()
        return await self._manifests.write(
            reference, media_type, content, mount_from=mount_from, credentials=ANONYMOUS, insecure=False
        )


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    transport = Transport(stall_timeout_s=5)
    retry, tokens = RetryPolicy(attempts=3, base_s=0.001), Tokens(transport)
    yield Asking(Manifests(Sources(Endpoints(), transport, tokens, retry), transport, tokens, retry))
    await transport.close()


@pytest.fixture
async def taking() -> AsyncIterator[PushRegistry]:
    async with PushRegistry().running() as taking:
        taking.blobs["source/app"] = {Digest.of(data): data for data in (CONFIG, LAYER)}
        yield taking


async def test_bytes_are_read_as_they_are_with_the_config(asking: Asking, registry: FakeRegistry) -> None:
    registry.add_image("web", "latest", b"layer", architecture="arm64")
    found = await asking.read(f"{registry.address}/web")
    assert found.target.digest == Digest.of(found.content)
    assert json.loads(found.config)["architecture"] == "arm64"
    assert registry.paths("blobs") == [f"/v2/web/blobs/{Digest.of(found.config)}"]


async def test_artifacts_and_indexes_are_read_too(asking: Asking, registry: FakeRegistry) -> None:
    config = registry.add_blob(b"{}", "application/vnd.oci.empty.v1+json")
    registry.add_manifest("chart", "1", {"schemaVersion": 2, "config": config, "layers": []}, OCI_MANIFEST)
    registry.add_manifest("chart", "all", {"schemaVersion": 2, "manifests": []}, OCI_INDEX)
    assert (await asking.read(f"{registry.address}/chart:1")).config == b"{}"
    found = await asking.read(f"{registry.address}/chart:all")
    assert (found.target.media_type, found.config) == (OCI_INDEX, b"")


async def test_what_was_sent_is_not_believed(asking: Asking, registry: FakeRegistry) -> None:
    stated = registry.add_image("web", "latest", b"layer")
    registry.faults.append(Fault("/manifests/", replace=lambda data: data + b" "))
    with pytest.raises(DataLossError, match="verification failed"):
        await asking.read(f"{registry.address}/web@{stated['digest']}")
    registry.faults.append(Fault("/blobs/", replace=lambda data: data[:-1] + b" "))
    with pytest.raises(DataLossError, match="config sha256:"):
        await asking.read(f"{registry.address}/web")
    with pytest.raises(NotFoundError):
        await asking.read(f"{registry.address}/web:nosuch")


@pytest.mark.parametrize("insecure", [False, True])
def test_only_whoever_says_so_takes_plain_http(insecure: bool) -> None:
    *_, endpoint = Endpoints().of("registry.example:5000", insecure=insecure)
    plain = ("https://registry.example:5000", "http://registry.example:5000")
    assert (endpoint.urls, endpoint.tls.verify) == ((plain, False) if insecure else (plain[:1], True))


async def test_manifest_is_put_as_it_is_and_its_blobs_are_mounted(asking: Asking, taking: PushRegistry) -> None:
    taking.blobs["app"] = {Digest.of(CONFIG): CONFIG}
    digest = Digest.of(MANIFEST)
    assert await asking.write(f"{taking.address}/app@{digest}", mount_from="source/app") == digest
    assert taking.manifests == {("app", digest): (OCI_MANIFEST, MANIFEST)}
    assert taking.blobs["app"].keys() == {Digest.of(CONFIG), Digest.of(LAYER)}
    assert taking.count("POST", "") == 1, "what is there is not mounted"


async def test_index_is_put_under_its_tag_without_a_look_for_blobs(asking: Asking, taking: PushRegistry) -> None:
    content = b'{"schemaVersion": 2, "manifests": []}'
    assert await asking.write(f"{taking.address}/app:1", content, OCI_INDEX) == Digest.of(content)
    assert taking.manifests == {("app", "1"): (OCI_INDEX, content)}
    assert taking.count("HEAD", "") == 0


async def test_blob_that_is_not_mounted_is_named_and_no_upload_left(asking: Asking, taking: PushRegistry) -> None:
    taking.mounts = False
    with pytest.raises(RemoteError, match=rf"error mounting {taking.address}/source/app@sha256:\w+ to "):
        await asking.write(f"{taking.address}/app:1", mount_from="source/app")
    assert taking.manifests == {}
    assert taking.count("DELETE", "/v2/app/blobs/uploads/0") == 1


async def test_wrong_manifest_is_refused_before_the_registry_is_asked(asking: Asking, taking: PushRegistry) -> None:
    with pytest.raises(InvalidArgumentError, match="has the digest"):
        await asking.write(f"{taking.address}/app@{Digest.of(b'other')}")
    for content in (b"no JSON", b"[]", b'{"schemaVersion": 2, "manifests": []}'):
        with pytest.raises(InvalidArgumentError):
            await asking.write(f"{taking.address}/app:1", content, mount_from="source/app")
    assert taking.requests == []


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "UNAUTHORIZED", UnauthenticatedError),
        (403, "DENIED", PermissionDeniedError),
        (400, "MANIFEST_INVALID", RemoteError),
    ],
)
async def test_refusal_is_told_in_the_registrys_words(
    asking: Asking, taking: PushRegistry, status: int, code: str, kind: type[SampanError]
) -> None:
    taking.refusals.append(Refuse("PUT", "/manifests/", status, code, "not today"))
    with pytest.raises(kind, match="not today"):
        await asking.write(f"{taking.address}/app:1")


async def test_registry_that_is_busy_is_asked_again(asking: Asking, taking: PushRegistry) -> None:
    taking.refusals.append(Refuse("PUT", "/manifests/", 503, times=2))
    assert await asking.write(f"{taking.address}/app:1") == Digest.of(MANIFEST)
