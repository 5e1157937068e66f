"""Manifests and indexes at registries, byte for byte: what manifest lists are made of."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from imaged.registry.auth import Tokens
from imaged.registry.errors import Refusal
from imaged.registry.retry import RetryPolicy
from imaged.registry.source import Sources
from imaged.registry.transport import Transport
from imaged.registry.upload import UploadClient
from sampan.errors import InvalidArgumentError, RemoteError, SampanError
from sampan.log import log
from sampan.oci.descriptor import INDEXES, MANIFESTS, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.manifest import Manifest, parse_document, parse_references
from sampan.oci.reference import Reference
from sampan.resource.image import Credentials, RemoteManifest

T = TypeVar("T")


class Manifests:
    """Reads and writes them. Mirrors are not asked: a list is made of what the registry has."""

    def __init__(self, sources: Sources, transport: Transport, tokens: Tokens, retry: RetryPolicy) -> None:
        self._sources = sources
        self._transport = transport
        self._tokens = tokens
        self._retry = retry

    async def read(self, reference: Reference, credentials: Credentials, *, insecure: bool) -> RemoteManifest:
        """Return what ``reference`` points to; nothing of it is kept.

        Raises:
            NotFoundError, UnauthenticatedError, PermissionDeniedError: the registry says no, in its own words.
            RemoteError: it does not answer, or with nonsense.
            DataLossError: what it sends is not what the digest says.
        """
        *_, source = self._sources.of(reference, credentials, insecure=insecure)
        try:
            await source.connect()
            target, content = await source.document(reference)
            if target.media_type not in MANIFESTS:
                parse_document(content, target.media_type, reference.familiar)
                return RemoteManifest(target, content)
            config, *_ = parse_references(content, target.media_type, reference.familiar)
            return RemoteManifest(target, content, await source.config(config))
        except Refusal as refused:
            raise refused.as_lookup_error() from refused

    async def write(
        self,
        reference: Reference,
        media_type: str,
        content: bytes,
        *,
        mount_from: str,
        credentials: Credentials,
        insecure: bool,
    ) -> Digest:
        """Put a manifest or an index under ``reference``, a tag or its digest; return the digest.

        What a manifest refers to is mounted from the repository ``mount_from`` first, as far as it is not there.

        Raises:
            InvalidArgumentError: it is not what ``media_type`` says, or has another digest than ``reference``.
            UnauthenticatedError, PermissionDeniedError: the registry says no, in its own words.
            RemoteError: it does not answer, does not take the manifest, or does not mount.
            DataLossError: it says that it has stored something else.
        """
        document = Descriptor(media_type, Digest.of(content), len(content))
        if reference.digest not in (None, document.digest):
            raise InvalidArgumentError(f"{reference.familiar}: the manifest has the digest {document.digest}")
        blobs = _blobs(document, content, reference.familiar) if mount_from else ()
        *_, source = self._sources.of(reference, credentials, insecure=insecure)
        client = UploadClient(self._transport, self._tokens, source.client, reference.repository, mount_from)
        try:
            await source.connect()
            for blob in dict.fromkeys(blobs):
                if not await self._retried(lambda blob=blob: self._mount(client, blob)):  # type: ignore[misc]
                    raise RemoteError(
                        f"error mounting {reference.registry}/{mount_from}@{blob} to {reference.familiar}: the registry"
                        f" has no such blob in {mount_from}, or mounts none"
                    )
            name = reference.tag if reference.digest is None and reference.tag else document.digest
            await self._retried(lambda: client.put_manifest(name, document, content))
        except Refusal as refused:
            raise refused.as_push_error() from refused
        return document.digest

    @staticmethod
    async def _mount(client: UploadClient, blob: Digest) -> bool:
        return await client.has(blob) or await client.mount(blob)

    async def _retried(self, ask: Callable[[], Awaitable[T]]) -> T:
        def tell(error: Exception, delay_s: float) -> None:
            log.info("push of a manifest tried again", error=str(error), delay_s=round(delay_s, 1))

        return await self._retry.run(ask, tell)


def _blobs(document: Descriptor, content: bytes, what: str) -> tuple[Digest, ...]:
    """Return what a manifest refers to; an index refers to manifests, which are no blobs."""
    try:
        if document.media_type in INDEXES:
            assert not isinstance(parse_document(content, document.media_type, what), Manifest)
            return ()
        return tuple(each.digest for each in parse_references(content, document.media_type, what))
    except SampanError as error:
        raise InvalidArgumentError(str(error)) from error
