"""What registries say about manifests, whether or not they have a list of it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from imaged.registry.auth import Tokens
from imaged.registry.endpoints import Endpoints, MirrorConfig, RegistryConfig
from imaged.registry.referrers import Referrers
from imaged.registry.retry import RetryPolicy
from imaged.registry.source import Sources
from imaged.registry.transport import Transport
from sampan.errors import DataLossError, InvalidArgumentError, NotFoundError, RemoteError, ResourceExhaustedError
from sampan.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from sampan.resource.image import ANONYMOUS, AnnotatedDescriptor, Referrer
from tests.fakes.registry import FakeRegistry, Fault

SUBJECT = Digest.of(b"what they are about")
SIGNED = Descriptor(OCI_MANIFEST, Digest.of(b"signature"), 9)
LISTED = Referrer(AnnotatedDescriptor(OCI_MANIFEST, SIGNED.digest, 9, {"by": "us"}), "application/x-signature")


def index(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}


def entry(data: bytes, **more: object) -> dict[str, Any]:
    return {"mediaType": OCI_MANIFEST, "digest": Digest.of(data), "size": len(data), **more}


SIGNATURE = entry(b"signature", artifactType="application/x-signature", annotations={"by": "us", "count": 1})


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(stall_timeout_s=5)
    yield transport
    await transport.close()


def asking(transport: Transport, *registries: RegistryConfig) -> Referrers:
    retry = RetryPolicy(attempts=2, base_s=0.001)
    return Referrers(Sources(Endpoints(registries), transport, Tokens(transport), retry))


@pytest.fixture
def referrers(transport: Transport) -> Referrers:
    return asking(transport)


async def test_the_registrys_list_is_read_page_by_page(referrers: Referrers, registry: FakeRegistry) -> None:
    path = f"/v2/app/referrers/{SUBJECT}"
    registry.lists[path] = index(SIGNATURE), {"Link": f'<{path}?last=x>; rel="next"'}
    registry.lists[f"{path}?last=x"] = index(entry(b"another")), {}
    first, second = await referrers.about(parse_reference(f"{registry.address}/app@{SUBJECT}"), ANONYMOUS)
    assert first == LISTED
    assert (second.descriptor.digest, second.artifact_type) == (Digest.of(b"another"), "")


async def test_a_registry_without_lists_has_them_under_a_tag(referrers: Referrers, registry: FakeRegistry) -> None:
    subject = parse_reference(f"{registry.address}/app@{SUBJECT}")
    assert await referrers.about(subject, ANONYMOUS) == ()
    registry.add_manifest("app", SUBJECT.replace(":", "-"), index(SIGNATURE), OCI_INDEX)
    assert await referrers.about(subject, ANONYMOUS) == (LISTED,)
    assert registry.paths("/manifests/")[-1] == f"/v2/app/manifests/{SUBJECT.replace(':', '-')}"
    registry.add_image("app", SUBJECT.replace(":", "-"), b"an image of that name is no list")
    assert await referrers.about(subject, ANONYMOUS) == ()


async def test_what_is_no_list_is_an_error_and_no_empty_one(referrers: Referrers, registry: FakeRegistry) -> None:
    subject = parse_reference(f"{registry.address}/app@{SUBJECT}")
    registry.lists[f"/v2/app/referrers/{SUBJECT}"] = {"schemaVersion": 2, "manifests": [{}]}, {}
    with pytest.raises(RemoteError, match="entry 0: mediaType is None"):
        await referrers.about(subject, ANONYMOUS)
    registry.faults.append(Fault("/referrers/", status=503, times=9))
    with pytest.raises(RemoteError):
        await referrers.about(subject, ANONYMOUS)
    with pytest.raises(InvalidArgumentError, match="referrers are those of a digest"):
        await referrers.about(parse_reference(f"{registry.address}/app:1"), ANONYMOUS)


async def test_a_mirror_that_knows_of_none_is_not_the_last_word(transport: Transport, registry: FakeRegistry) -> None:
    registry.lists[f"/v2/app/referrers/{SUBJECT}"] = index(SIGNATURE), {}
    async with FakeRegistry().running() as mirror:
        mirrored = asking(transport, RegistryConfig(registry.address, mirrors=(MirrorConfig(mirror.url),)))
        subject = parse_reference(f"{registry.address}/app@{SUBJECT}")
        assert await mirrored.about(subject, ANONYMOUS) == (LISTED,)
        mirror.lists[f"/v2/app/referrers/{SUBJECT}"] = index(entry(b"another")), {}
        (found,) = await mirrored.about(subject, ANONYMOUS)
        assert found.descriptor.digest == Digest.of(b"another")


async def test_small_content_is_read_and_not_believed(referrers: Referrers, registry: FakeRegistry) -> None:
    repository = parse_reference(f"{registry.address}/app")
    blob = registry.add_blob(b"statement", "application/vnd.in-toto+json")
    stated = registry.add_manifest("app", "", index(), OCI_INDEX)
    wanted = [Descriptor(each["mediaType"], Digest(each["digest"]), each["size"]) for each in (blob, stated)]
    read = [await referrers.read(repository, each, ANONYMOUS) for each in wanted]
    assert (read[0], json.loads(read[1])) == (b"statement", index() | {"manifests": []})
    registry.faults.append(Fault("/blobs/", replace=lambda data: data[:-1] + b"!"))
    with pytest.raises(DataLossError, match=f"{wanted[0].digest}: the registry sent 9 bytes"):
        await referrers.read(repository, wanted[0], ANONYMOUS)
    with pytest.raises(NotFoundError):
        await referrers.read(repository, Descriptor("text/plain", SUBJECT, 9), ANONYMOUS)
    with pytest.raises(ResourceExhaustedError, match="the most that is read is 8388608"):
        await referrers.read(repository, Descriptor("text/plain", SUBJECT, 9 << 20), ANONYMOUS)
