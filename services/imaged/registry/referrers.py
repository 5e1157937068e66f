"""What registries have that is about a manifest, and small content of theirs, of which nothing is kept here.

Reference: OCI distribution spec 1.1, "Listing Referrers" and "Backwards Compatibility".
"""

from typing import Final

from imaged.registry.errors import Refusal
from imaged.registry.pace import read_limited
from imaged.registry.source import Source, Sources
from sampan.errors import DataLossError, InvalidArgumentError, NotFoundError, ResourceExhaustedError
from sampan.oci.descriptor import INDEXES, MANIFESTS, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference
from sampan.resource.image import AnnotatedDescriptor, Credentials, Referrer

MAX_REMOTE_BYTES: Final = 8 << 20  # half of what a message holds


class Referrers:
    """Asks registries for them: the mirrors first."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def about(self, subject: Reference, credentials: Credentials) -> tuple[Referrer, ...]:
        """Return the manifests that are about the one that ``subject`` names by its digest.

        Raises:
            InvalidArgumentError: it has no digest.
            NotFoundError, UnauthenticatedError, PermissionDeniedError: the registry says no, in its own words.
            RemoteError: it does not answer, or with nonsense.
        """
        digest = subject.digest
        if digest is None:
            raise InvalidArgumentError(f"{subject.familiar}: referrers are those of a digest")

        async def ask(source: Source) -> tuple[Referrer, ...]:
            found = await source.client.referrers(digest)
            if not found and not source.last:
                # A mirror that passes images on need not know what is said of them.
                raise NotFoundError(f"no referrers of {digest}")
            return tuple(
                Referrer(
                    AnnotatedDescriptor(
                        each.descriptor.media_type, each.descriptor.digest, each.descriptor.size, each.annotations
                    ),
                    each.artifact_type,
                )
                for each in found
            )

        return await self._sources.first_answer(subject, credentials, ask, Refusal.as_lookup_error)

    async def read(self, repository: Reference, descriptor: Descriptor, credentials: Credentials) -> bytes:
        """Return a blob, or a manifest, of a repository; it is what its descriptor says.

        Raises:
            ResourceExhaustedError: it is larger than ``MAX_REMOTE_BYTES``.
            DataLossError: what the registry sends is something else.
            NotFoundError, UnauthenticatedError, PermissionDeniedError, RemoteError: as ``about``.
        """
        if descriptor.size > MAX_REMOTE_BYTES:
            raise ResourceExhaustedError(
                f"{descriptor.digest} has {descriptor.size} bytes: the most that is read is {MAX_REMOTE_BYTES}"
            )

        async def ask(source: Source) -> bytes:
            if descriptor.media_type in MANIFESTS | INDEXES:
                data, _ = await source.manifest(str(descriptor.digest))
            else:
                async with source.client.blob(descriptor.digest) as response:
                    data = await read_limited(response, descriptor.size)
            if len(data) != descriptor.size or Digest.of(data) != descriptor.digest:
                raise DataLossError(f"{descriptor.digest}: the registry sent {len(data)} bytes of {Digest.of(data)}")
            return data

        return await self._sources.first_answer(repository, credentials, ask, Refusal.as_lookup_error)
