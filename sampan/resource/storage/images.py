"""What imaged is asked for: its core offers it, and its clients over gRPC do.

All methods raise ``SampanError``. Closing an iterator (``contextlib.aclosing``) ends what it stands for; who reads
slowly slows the other side down. Consumers declare narrower protocols of their own.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sampan.disk import Root
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource.content import LastingLease, RemovedLeases
from sampan.resource.image import (
    Credentials,
    ImageCommit,
    ImageDetails,
    ImageUse,
    Imported,
    Layer,
    LoadedImage,
    NamedImage,
    Referrer,
    RemoteImage,
    RemoteManifest,
    RemovedImages,
    SearchResult,
)
from sampan.resource.listing import Page
from sampan.resource.transfer import FetchProgress, PushProgress


class Images(Protocol):
    """Image names, what stands behind them, and its way here and elsewhere. An image is named by ID or reference."""

    def fetch(
        self,
        reference: str,
        platform: Platform | None = None,
        credentials: Credentials | None = None,
        *,
        any_single: bool = False,
    ) -> AsyncGenerator[FetchProgress, None]:
        """Bring an image's content under a lease: ``FetchResolved`` first, ``Fetched`` last; without a name yet.

        An index must have something for the platform. A name that leads to one manifest alone must lead to one for
        the platform, unless ``any_single``.

        Raises:
            NotFoundError: in Docker's words, no such repository, tag or platform.
            InvalidArgumentError: a single manifest for another platform.
            UnauthenticatedError, PermissionDeniedError: the registry refuses the credentials.
            UnavailableError, RemoteError: it does not answer.
            DataLossError, ResourceExhaustedError: a blob is not what its digest says; the disk is full.
        """

    async def create(
        self,
        reference: str,
        target: Descriptor,
        lease: str,
        platform: Platform | None = None,
        parent: str = "",
        deferred: Collection[Digest] = (),
    ) -> NamedImage:
        """Name what is here, or make a dangling image of it without a reference, and end its lease.

        Of the layers ``deferred``, diff IDs, which the snapshotter has, the manifest names tars that need not be here.
        """

    async def complete(self, image: str, layers: Sequence[Layer], lease: str) -> None:
        """Have an image's names lead to a manifest with blobs of its deferred layers, and end the blobs' lease.

        Safe to repeat. NotFoundError: no such image or blob. InvalidArgumentError: a deferred layer is not among them.
        """

    async def forms(self, diff_ids: Sequence[Digest]) -> Sequence[Layer]:
        """Return the blobs of those of the layers that an image has one of: of several the smallest."""

    async def release(self, lease: str, *, abandon: bool = False) -> None:
        """End a lease, or leave what it holds to the next fetch of the same. Waits for the service to be there."""

    def kept(self, *leases: str) -> AbstractAsyncContextManager[str]:
        """Keep ``leases``, or a new one, within, and no longer than this process lives; yields the first.

        What they still hold at the end is given back, or, of a fetch, left to the next one.

        Raises:
            NotFoundError: one is over.
        """

    async def get(self, image: str, *, manifests: bool = False, platform: Platform | None = None) -> ImageDetails:
        """Return one; ``manifests``: with what its index leads to; ``platform``: what it is for that, if it is here.

        Raises:
            NotFoundError: ``No such image: …``, or it has nothing for ``platform``.
        """

    async def list(self, *, brief: bool = False) -> Sequence[ImageDetails]:
        """Return all, newest first; ``brief``: without what the config says and may be long."""

    def pages(self, *, manifests: bool = False) -> AsyncGenerator[Page[ImageDetails], None]:
        """Yield all, newest first, some at a time."""

    async def tag(self, image: str, reference: str) -> None:
        """Add a name. NotFoundError, InvalidArgumentError."""

    async def remove(
        self,
        image: str,
        *,
        force: bool = False,
        no_prune: bool = False,
        in_use: Iterable[ImageUse] = (),
        platform: Platform | None = None,
    ) -> RemovedImages:
        """Remove a name, and the image with its last one; ``platform``: of an index that one alone.

        ``in_use`` are the images that containers were made of, each once. NotFoundError, ConflictError.
        """

    async def prune(self, images: Iterable[str], in_use: Iterable[ImageUse]) -> RemovedImages:
        """Remove each of ``images``, IDs and names, that can be."""

    async def import_root(
        self,
        chunks: AsyncIterator[bytes],
        *,
        reference: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: Platform | None = None,
    ) -> Imported:
        """Make an image of the tar of a root file system; ``reference`` is only looked at. InvalidArgumentError."""

    async def commit(self, base: str, layer: Layer | None, options: ImageCommit, reference: str = "") -> Imported:
        """Make an image of one with another layer on top; ``reference`` is only looked at."""

    def push(
        self,
        reference: str,
        credentials: Credentials | None = None,
        platform: Platform | None = None,
        target: Descriptor | None = None,
    ) -> AsyncGenerator[PushProgress, None]:
        """Upload an image to its registry: ``PushResolved`` first, ``Pushed`` last. Raises as ``fetch``.

        With a ``target``, which a lease of the caller's keeps, that is what is pushed under ``reference``, which need
        not be a name here and does not become one.
        """

    def save(self, images: Sequence[str], platforms: Sequence[Platform] = ()) -> AsyncGenerator[bytes, None]:
        """Yield an archive of images, in pieces: of indexes all that is here, or what is for ``platforms``.

        Raises:
            NotFoundError: before the first piece: no such image, or it has nothing for one of the platforms.
            DataLossError: content is damaged.
        """

    async def load(self, chunks: AsyncIterator[bytes], platforms: Sequence[Platform] = ()) -> Sequence[LoadedImage]:
        """Read an archive of images, of indexes all or what is for ``platforms``; each has a lease of its own.

        Raises:
            InvalidArgumentError, DataLossError: not an archive, or a damaged one.
            NotFoundError: an index has nothing for one of the platforms.
        """

    async def login(self, registry: str, credentials: Credentials) -> str:
        """Have a registry check credentials; return an identity token, or nothing. UnauthenticatedError."""

    async def inspect(self, reference: str, credentials: Credentials | None = None) -> RemoteImage:
        """Ask a registry what a name points to. Raises as ``fetch``."""

    async def manifest(
        self, reference: str, credentials: Credentials | None = None, *, insecure: bool = False
    ) -> RemoteManifest:
        """Read a manifest or an index at its registry, of whatever type, and bring nothing. Raises as ``fetch``.

        ``insecure``: whatever is configured of the registry, take https without verification, or plain http.
        """

    async def put_manifest(
        self,
        reference: str,
        media_type: str,
        content: bytes,
        *,
        mount_from: str = "",
        credentials: Credentials | None = None,
        insecure: bool = False,
    ) -> Digest:
        """Give a repository a manifest or an index under a tag or its digest; return the digest.

        With ``mount_from``, another repository of the registry, what a manifest refers to is mounted from there first,
        as far as it is not there yet.

        Raises:
            UnauthenticatedError, PermissionDeniedError: the registry refuses the credentials.
            RemoteError: it does not answer, or takes neither; or it does not mount.
            InvalidArgumentError: ``content`` is not what ``media_type`` says.
        """

    async def referrers(self, reference: str, credentials: Credentials | None = None) -> Sequence[Referrer]:
        """Return the manifests that are about the one that ``reference`` names by its digest. Raises as ``fetch``."""

    async def read_remote(
        self, repository: str, descriptor: Descriptor, credentials: Credentials | None = None
    ) -> bytes:
        """Read a blob, or a manifest, of at most 8 MiB at its registry, and bring nothing.

        Raises as ``fetch``. ResourceExhaustedError: it is larger.
        """

    async def tags(self, repository: str, credentials: Credentials | None = None) -> Sequence[str]:
        """Ask a registry for the tags of a repository."""

    async def search(self, term: str, limit: int, credentials: Credentials | None = None) -> Sequence[SearchResult]:
        """Ask a registry for repositories."""

    async def roots(self) -> Sequence[Root]:
        """Return who needs which layers unpacked."""


class Leases(Protocol):
    """Lasting leases: what a service keeps for as long as it likes, across restarts of all."""

    async def put(self, lease: LastingLease) -> None:
        """Make a lease, or make the one of that name hold this and nothing else. Safe to repeat.

        Raises:
            InvalidArgumentError: it has no name or no owner.
            NotFoundError: a blob is not here; nothing has changed.
            AlreadyExistsError: somebody else has a lease of that name.
        """

    async def list(self, owner: str) -> Sequence[LastingLease]:
        """Return an owner's leases, by name."""

    async def remove(self, owner: str, ids: Iterable[str]) -> RemovedLeases:
        """End leases, and remove the blobs that nothing else keeps. That one is not there is as good.

        What it returns is for ``Layers.unstack``; otherwise a pass of garbage collection finds it.
        """
