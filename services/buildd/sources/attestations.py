"""What is attested of images: from an index by its attestation manifest to that one's signatures.

Attestations are listed in the index beside the images. Signatures are at the registry alone, as referrers of the
attestation manifest.

Reference: moby/buildkit, docs/attestations/attestation-storage.md; moby/policy-helpers, image/resolve.go.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from buildd.protocol import StepContext
from buildd.session.clients import Clients
from buildd.source_metadata import AttestationChain, AttestationQuery, AttestedBlob
from buildd.sources.documents import Blobs, read_document
from sampan.errors import NotFoundError, ResourceExhaustedError
from sampan.oci.descriptor import MANIFESTS, OCI_INDEX, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.manifest import IndexEntry, Manifest, choose, parse_artifact, parse_document
from sampan.oci.platform import Platform
from sampan.oci.reference import Reference
from sampan.resource.image import AnnotatedDescriptor, Credentials, Referrer

_TYPE: Final = "vnd.docker.reference.type"
_ATTESTATION: Final = "attestation-manifest"
_ABOUT: Final = "vnd.docker.reference.digest"
_PREDICATE: Final = "in-toto.io/predicate-type"
# What signs attestations, best first.
_SIGNATURES: Final = (
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.cosign.artifact.sig.v1+json",
)
_MAX_BYTES: Final = 8 << 20  # of a chain, which goes to a client in one message


class Registries(Protocol):
    """imaged's way to registries."""

    async def referrers(self, reference: str, credentials: Credentials | None = None) -> Sequence[Referrer]:
        """See ``Images``."""

    async def read_remote(
        self, repository: str, descriptor: Descriptor, credentials: Credentials | None = None
    ) -> bytes:
        """See ``Images``."""


class Attestations:
    """Finds them."""

    def __init__(self, registries: Registries, content: Blobs, clients: Clients) -> None:
        """``content`` is read first: what an index here lists may be here as well."""
        self._registries = registries
        self._content = content
        self._clients = clients

    async def of(
        self,
        reference: Reference,
        target: Descriptor,
        platform: Platform,
        query: AttestationQuery,
        context: StepContext,
    ) -> AttestationChain:
        """Return what is attested of the image for ``platform`` that ``target`` leads to.

        Of a target that is no index of OCI's nothing can be.

        Raises:
            NotFoundError: the index has nothing for the platform, or the registry not what the index lists.
            ResourceExhaustedError: it is more than a client can be told.
            SampanError: the registry does not answer, or with something else.
        """
        if target.media_type != OCI_INDEX:
            return AttestationChain(target.digest)
        name = f"{reference.registry}/{reference.repository}"
        chain = _Chain(self._registries, self._content, name, await self._clients.credentials(reference, context))
        index = parse_document(await chain.take(target), OCI_INDEX, str(reference))
        assert not isinstance(index, Manifest)
        image = choose(tuple(each for each in index if each.descriptor.media_type in MANIFESTS), platform)
        said = next((each for each in index if _is_about(each, image.digest)), None)
        if said is None:
            return AttestationChain(target.digest, image.digest, blobs=chain.blobs)
        document = await chain.take(said.descriptor, said)
        signatures = await chain.signatures(said.descriptor.digest)
        for each in parse_artifact(document, said.descriptor.media_type, f"{name}@{said.descriptor.digest}"):
            if each.annotations.get(_PREDICATE) in query.predicates:
                await chain.take(each.descriptor, each)
        return AttestationChain(target.digest, image.digest, said.descriptor.digest, signatures, chain.blobs)


class _Chain:
    """A chain that is being read."""

    def __init__(
        self, registries: Registries, content: Blobs, repository: str, credentials: Credentials | None
    ) -> None:
        self._registries = registries
        self._content = content
        self._repository = repository
        self._credentials = credentials
        self._bytes = 0
        self.blobs: dict[Digest, AttestedBlob] = {}

    async def take(self, descriptor: Descriptor, entry: IndexEntry | None = None) -> bytes:
        """Read a document, which is a part of the chain from now on; ``entry`` is what is said where it is listed."""
        if descriptor.digest in self.blobs:
            return self.blobs[descriptor.digest].data
        self._bytes += descriptor.size
        if self._bytes > _MAX_BYTES:
            raise ResourceExhaustedError(
                f"what is attested of {self._repository} has more than {_MAX_BYTES} bytes: {descriptor.digest} alone"
                f" has {descriptor.size}"
            )
        try:
            data = await read_document(self._content, descriptor.digest, _MAX_BYTES)
        except NotFoundError:
            data = await self._registries.read_remote(self._repository, descriptor, self._credentials)
        annotations = entry.annotations if entry is not None else {}
        shown = AnnotatedDescriptor(descriptor.media_type, descriptor.digest, descriptor.size, annotations)
        self.blobs[descriptor.digest] = AttestedBlob(shown, data)
        return data

    async def signatures(self, subject: Digest) -> tuple[Digest, ...]:
        """Take what signs a manifest: of several the first one of the best kind."""
        listed = await self._registries.referrers(f"{self._repository}@{subject}", self._credentials)
        fitting = [each for kind in _SIGNATURES for each in listed if each.artifact_type == kind]
        for signature in fitting[:1]:
            own = signature.descriptor
            document = await self.take(own, IndexEntry(own, None, own.annotations))
            for layer in parse_artifact(document, own.media_type, f"{self._repository}@{own.digest}"):
                await self.take(layer.descriptor, layer)
            return (own.digest,)
        return ()


def _is_about(entry: IndexEntry, image: Digest) -> bool:
    return entry.annotations.get(_TYPE) == _ATTESTATION and entry.annotations.get(_ABOUT) == image
