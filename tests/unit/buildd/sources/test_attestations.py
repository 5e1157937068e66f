"""What is attested of images: documents here, and at a registry that is not there."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from buildd.session.clients import Clients
from buildd.session.protocol import Credentials as ClientCredentials
from buildd.session.protocol import SessionInfo
from buildd.source_metadata import AttestationChain, AttestationQuery
from buildd.sources.attestations import Attestations
from sampan.errors import NotFoundError, RemoteError, ResourceExhaustedError
from sampan.oci.descriptor import DOCKER_INDEX, OCI_EMPTY, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.oci.reference import parse_reference
from sampan.resource.image import AnnotatedDescriptor, Credentials, Referrer
from tests.fakes.build_sessions import FakeSession, FakeSessions
from tests.fakes.build_stores import FakeStore
from tests.unit.buildd.sources.clients import FakeContext

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
NAME = "registry.example/team/app"
REFERENCE = parse_reference(f"{NAME}:1")
COSIGN = "application/vnd.dev.cosign.artifact.sig.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SLSA, SPDX = "https://slsa.dev/provenance/v1", "https://spdx.dev/Document"


@dataclass
class FakeRegistries:
    """A registry's documents, and who may read them."""

    documents: dict[Digest, bytes] = field(default_factory=dict)
    listed: dict[str, list[Referrer]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    credentials: set[Credentials | None] = field(default_factory=set)

    def add(self, data: bytes, media_type: str, **more: object) -> dict[str, Any]:
        self.documents[Digest.of(data)] = data
        return {"mediaType": media_type, "digest": Digest.of(data), "size": len(data), **more}

    def add_manifest(self, *layers: dict[str, Any], **more: object) -> dict[str, Any]:
        config = self.add(b"{}", OCI_EMPTY)
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
        return self.add(json.dumps(document).encode(), OCI_MANIFEST, **more)

    def sign(self, subject: str, artifact_type: str, data: bytes) -> Digest:
        made = self.add_manifest(self.add(data, "application/octet-stream", annotations={"signature": "MEUC"}))
        described = AnnotatedDescriptor(OCI_MANIFEST, made["digest"], made["size"], {"by": "us"})
        self.listed.setdefault(f"{NAME}@{subject}", []).append(Referrer(described, artifact_type))
        return described.digest

    async def referrers(self, reference: str, credentials: Credentials | None = None) -> Sequence[Referrer]:
        self.credentials.add(credentials)
        return self.listed.get(reference, [])

    async def read_remote(
        self, repository: str, descriptor: Descriptor, credentials: Credentials | None = None
    ) -> bytes:
        assert repository == NAME
        self.asked.append(descriptor.digest)
        self.credentials.add(credentials)
        if descriptor.digest not in self.documents:
            raise NotFoundError("manifest unknown")
        return self.documents[descriptor.digest]


class Image:
    """An index of images for two platforms, of which the first one is attested, and its attestations are signed."""

    def __init__(self) -> None:
        self.registry, self.here = FakeRegistries(), FakeStore()
        self.session = FakeSession(SessionInfo("client"))
        self.session.logins["registry.example"] = ClientCredentials("user", "password")
        layers = [self.registry.add(architecture.encode(), OCI_LAYER) for architecture in ("amd64", "arm64")]
        self.images = [self.registry.add_manifest(layer) for layer in layers]
        self.provenance = self.registry.add(b"slsa", "application/vnd.in-toto+json", annotations=predicate(SLSA))
        self.bill = self.registry.add(b"spdx", "application/vnd.in-toto+json", annotations=predicate(SPDX))
        self.said = self.registry.add_manifest(self.provenance, self.bill)
        about = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": self.images[0]["digest"],
        }
        entries = [
            {**self.said, "annotations": about, "platform": {"os": "unknown", "architecture": "unknown"}},
            *({**each, "platform": {"os": "linux", "architecture": name}} for each, name in
              zip(self.images, ("amd64", "arm64"), strict=True)),
        ]  # fmt: skip
        self.index = self.registry.add(json.dumps({"schemaVersion": 2, "manifests": entries}).encode(), OCI_INDEX)
        self.target = Descriptor(OCI_INDEX, self.index["digest"], self.index["size"])

    async def chain(
        self, *predicates: str, platform: Platform = AMD64, target: Descriptor | None = None
    ) -> AttestationChain:
        sources = Attestations(self.registry, self.here, Clients(FakeSessions(self.session)))
        query = AttestationQuery(predicates)
        async with FakeContext("client") as context:
            return await sources.of(REFERENCE, target or self.target, platform, query, context)


def predicate(kind: str) -> dict[str, str]:
    return {"in-toto.io/predicate-type": kind}


async def test_a_chain_leads_from_the_index_to_the_best_signature() -> None:
    image = Image()
    said = image.said["digest"]
    image.registry.sign(said, "application/vnd.something", b"no signature")
    image.registry.sign(said, COSIGN, b"older")
    bundle = image.registry.sign(said, BUNDLE, b"bundle")
    chain = await image.chain()
    assert (chain.root, chain.image_manifest) == (image.target.digest, image.images[0]["digest"])
    assert (chain.attestation_manifest, chain.signature_manifests) == (said, (bundle,))
    assert set(chain.blobs) == {chain.root, said, bundle, Digest.of(b"bundle")}
    assert all(Digest.of(blob.data) == digest == blob.descriptor.digest for digest, blob in chain.blobs.items())
    assert chain.blobs[Digest.of(b"bundle")].descriptor.annotations == {"signature": "MEUC"}
    assert chain.blobs[bundle].descriptor.annotations == {"by": "us"}
    assert image.registry.credentials == {Credentials("user", "password")}


async def test_statements_are_read_of_the_kinds_that_are_wanted() -> None:
    image = Image()
    chain = await image.chain(SLSA, "https://slsa.dev/provenance/v0.2")
    assert chain.blobs[Digest.of(b"slsa")].descriptor.annotations == predicate(SLSA)
    assert Digest.of(b"spdx") not in chain.blobs
    assert chain.signature_manifests == ()


async def test_what_is_here_is_not_asked_for_and_its_digest_counts() -> None:
    image = Image()
    image.here.blobs.update((str(digest), data) for digest, data in image.registry.documents.items())
    await image.chain(SLSA)
    assert image.registry.asked == []


async def test_an_image_that_nothing_is_said_of_has_a_chain_that_ends_there() -> None:
    image = Image()
    chain = await image.chain(SLSA, platform=ARM64)
    assert (chain.image_manifest, chain.attestation_manifest) == (image.images[1]["digest"], "")
    assert set(chain.blobs) == {image.target.digest}
    with pytest.raises(NotFoundError, match="no matching manifest for linux/s390x"):
        await image.chain(platform=Platform("linux", "s390x"))
    for media_type in (OCI_MANIFEST, DOCKER_INDEX):
        target = Descriptor(media_type, Digest.of(b"other"), 5)
        assert await image.chain(target=target) == AttestationChain(target.digest)


async def test_what_the_index_lists_and_nobody_has_is_an_error() -> None:
    image = Image()
    del image.registry.documents[image.said["digest"]]
    with pytest.raises(NotFoundError, match="manifest unknown"):
        await image.chain()
    image = Image()
    image.registry.sign(image.said["digest"], BUNDLE, b"bundle")
    image.registry.documents[image.said["digest"]] = b"{}"
    with pytest.raises(RemoteError, match="is not a manifest"):
        await image.chain()


async def test_more_than_a_message_holds_is_refused_before_it_is_read() -> None:
    image = Image()
    large = {"mediaType": "text/plain", "digest": Digest.of(b"large"), "size": 9 << 20}
    signature = image.registry.add_manifest(large)
    described = AnnotatedDescriptor(OCI_MANIFEST, signature["digest"], signature["size"])
    image.registry.listed[f"{NAME}@{image.said['digest']}"] = [Referrer(described, BUNDLE)]
    with pytest.raises(ResourceExhaustedError, match=r"has more than 8388608 bytes: sha256:\w+ alone has 9437184"):
        await image.chain()
    assert Digest.of(b"large") not in image.registry.asked
