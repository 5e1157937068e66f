"""What imaged and the snapshotter are asked for: their cores offer it, and their clients over gRPC do.

All methods raise ``SampanError``. Closing an iterator (``contextlib.aclosing``) ends what it stands for; who reads
slowly slows the other side down. Consumers declare narrower protocols of their own.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping, Sequence
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
    RemoteImage,
    RemoteManifest,
    RemovedImages,
    SearchResult,
)
from sampan.resource.listing import Page
from sampan.resource.snapshot import (
    ApplyProgress,
    Change,
    DriversReport,
    Mount,
    NewLayer,
    SnapshotInfo,
    SnapshotUsage,
    Unstacked,
)
from sampan.resource.transfer import FetchProgress, PushProgress
from sampan.sys.measuring import Usage


class Snapshots(Protocol):
    """File-system states by name.

    *active*: writable, nobody's parent. *view*: a read-only look at a committed one. *committed*: frozen, may be a
    parent. A key names one snapshot, of whatever kind.
    """

    async def prepare(self, key: str, parent: str | None, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """Make an active snapshot on ``parent``, or an empty one, and return its mounts.

        Raises:
            AlreadyExistsError: ``key`` is taken.
            NotFoundError: there is no ``parent``.
            ConflictError: ``parent`` is not committed.
            InvalidArgumentError: an empty key, or more parents than can be mounted.
        """

    async def view(self, key: str, parent: str | None, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """Make a view, likewise."""

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """Return the mounts of an active snapshot or a view, the same as when it was made.

        Raises:
            NotFoundError: there is none.
            ConflictError: it is committed: prepare or view it first.
            DataLossError: a directory it needs has vanished.
        """

    async def commit(self, name: str, key: str, labels: Mapping[str, str]) -> None:
        """Freeze active snapshot ``key`` under ``name``; ``key`` is gone afterwards.

        On disk when this returns. Safe to repeat after a lost reply. The new name has ``labels`` and no others.

        Raises:
            NotFoundError: no snapshot ``key``, and ``name`` was not made from it.
            AlreadyExistsError: ``name`` was made from another key.
            ConflictError: ``key`` is a view or committed.
        """

    async def remove(self, key: str) -> None:
        """Remove a snapshot, which nothing may have mounted, and the layer that only it used.

        Raises:
            NotFoundError: there is none.
            ConflictError: it has children.
        """

    async def stat(self, key: str) -> SnapshotInfo:
        """Return what is known of a snapshot. Raises NotFoundError."""

    async def update(self, key: str, labels: Mapping[str, str | None], *, replace: bool) -> SnapshotInfo:
        """Set labels (None: remove one), or replace them all, and return the snapshot. Raises NotFoundError."""

    async def list(self, filters: Sequence[str]) -> Sequence[SnapshotInfo]:
        """Return those that match any of ``filters`` (see ``filters``), or all; parents before children.

        Raises:
            InvalidArgumentError: a malformed filter.
        """

    async def usage(self, key: str) -> Usage:
        """Return what a snapshot takes, without its parents; measured now if it is active. Raises NotFoundError."""

    async def cleanup(self) -> None:
        """Remove from disk what no row refers to any more; returns when it is gone."""


class Layers(Protocol):
    """Layers by diff ID, and the stacks that images are made of."""

    def apply(self, descriptor: Descriptor, diff_id: Digest) -> AsyncGenerator[ApplyProgress, None]:
        """Store a layer whose blob is in the content store, and hold it for the caller who will stack it.

        The last progress has ``done``; the layer is on disk by then. Of callers who want the same layer at once, one
        works and all wait; when the last of them leaves (closes the generator), the work is given up and leaves
        nothing behind.

        Raises:
            NotFoundError: the content store does not have the blob.
            DataLossError: the blob is not what its descriptor says, or not what ``diff_id`` says.
            InvalidArgumentError: the layer holds something that it must not; the message names the entry.
            ResourceExhaustedError: the disk is full.
            UnavailableError: the content store does not answer, or the process that unpacks the layer died.
        """

    async def stack(self, diff_ids: Sequence[Digest]) -> str:
        """Make a committed snapshot for each prefix of the stack, base first; return the last's name, the chain ID.

        Ends one hold on each layer. Safe to repeat. Empty for no layers.

        Raises:
            NotFoundError: a layer is not stored; the message names the first.
            ConflictError: a snapshot of a chain's name exists and is something else.
        """

    async def unpack(self, layers: Sequence[tuple[Descriptor, Digest]]) -> None:
        """Apply layers (each with its diff ID), base first, and stack them, in the background.

        It is a favour to whoever needs the stack next: a failure is logged, and ``unstack`` ends it.
        """

    async def unstack(self, stacks: Sequence[Sequence[str]]) -> Unstacked:
        """Remove snapshots from the top down, as far as nothing stands on them, and unused layers.

        Each of ``stacks`` is the chain IDs of what is to go, base first. Removing what is not there removes nothing.
        """

    async def drivers(self) -> DriversReport:
        """Return the driver in use and how the others fared."""

    async def usages(self, *, committed: bool = False) -> Sequence[SnapshotUsage]:
        """Return the disk use of all snapshots, or only of ``committed`` ones; active ones are measured now.

        Of committed ones it is the same sequence again as long as nothing has changed.
        """

    async def changes(self, key: str) -> list[Change]:
        """Return what differs between a snapshot and its parent, by path; a directory counts if anything in it does.

        Raises:
            NotFoundError: there is no snapshot ``key``.
        """


class Differ(Protocol):
    """Layers from and onto snapshots, by their mounts."""

    async def apply_onto(self, descriptor: Descriptor, mounts: Sequence[Mount]) -> Descriptor:
        """Unpack a layer onto the active snapshot that ``mounts`` show; return what it is uncompressed.

        The snapshot must not be mounted. When this fails, it holds an unknown part of the layer: remove it.

        Raises:
            NotFoundError: no active snapshot has these mounts, or the content store does not have the blob.
            DataLossError, InvalidArgumentError, ResourceExhaustedError, UnavailableError: as ``Layers.apply``.
        """

    async def diff(
        self,
        left: Sequence[Mount],
        right: Sequence[Mount],
        media_type: str,
        ref: str,
        labels: Mapping[str, str],
    ) -> Descriptor:
        """Write the layer that makes ``left`` into ``right`` to the content store; return its descriptor.

        Its diff ID is the label ``containerd.io/uncompressed`` of the content.

        Raises:
            NotFoundError: no snapshot has these mounts.
            InvalidArgumentError: a media type that is no layer's.
        """

    async def layer_of(self, key: str, exclude: Sequence[str], lease: str = "") -> NewLayer | None:
        """Write what a snapshot changes in its parent to the content store, as an uncompressed layer.

        Paths in ``exclude``, and what is in them, are left out. None if nothing else differs. The content store keeps
        the layer by ``lease``, or for a time of its own.

        Raises:
            NotFoundError: there is no snapshot ``key``.
            ResourceExhaustedError: the disk is full.
        """

    async def freeze(
        self,
        key: str,
        exclude: Sequence[str],
        lease: str = "",
        rewrite_timestamp: int | None = None,
        defer_bytes: int = 0,
    ) -> NewLayer | None:
        """Make what active snapshot ``key``, which nothing may have mounted, changes a stored layer and a blob.

        The layer is held for the caller who will stack it, as by ``Layers.apply``; to stay after that it needs an
        image, or a lease that names it: put that before ``stack``. The snapshot is gone afterwards. None if nothing
        differs: then there is only a snapshot less. ``exclude`` and ``lease`` are as for ``layer_of``; no file is newer
        than ``rewrite_timestamp``, in seconds since the epoch, in the blob and in the stored layer.

        What takes ``defer_bytes`` on disk, if not 0, becomes a stored layer alone, whose blob ``pack`` makes: its
        descriptor is that of its tar.

        Safe to repeat after a lost reply, for an hour. When it fails, the snapshot is still there, perhaps without what
        is in ``exclude`` and with its times rewritten.

        Raises:
            NotFoundError: there is no snapshot ``key``, and none was frozen.
            ConflictError: it is not active.
            ResourceExhaustedError: the disk is full.
            UnavailableError: the content store does not answer, the lease is over, or the process working on it died.
        """

    async def pack(self, diff_id: Digest, lease: str = "") -> Descriptor:
        """Write the blob of a stored layer, as ``freeze`` would have made it, to the content store. Safe to repeat.

        Raises as ``freeze``, NotFoundError if the layer is not stored, and DataLossError if what is stored does not
        come to ``diff_id``, as what was unpacked of another program's tar may not.
        """

    def export(self, key: str) -> AsyncGenerator[bytes, None]:
        """Yield all that a snapshot shows as a tar, in pieces; closing the iterator ends the work.

        Raises:
            NotFoundError: there is no snapshot ``key``; before the first piece.
        """


class Images(Protocol):
    """Image names, what stands behind them, and its way here and elsewhere. An image is named by ID or reference."""

    def fetch(
        self, reference: str, platform: Platform | None = None, credentials: Credentials | None = None
    ) -> AsyncGenerator[FetchProgress, None]:
        """Bring an image's content under a lease: ``FetchResolved`` first, ``Fetched`` last; without a name yet.

        Raises:
            NotFoundError: in Docker's words, no such repository, tag or platform.
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

    async def get(self, image: str, *, manifests: bool = False) -> ImageDetails:
        """Return one; ``manifests``: with what its index leads to. NotFoundError: ``No such image: …``."""

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

    def save(self, images: Sequence[str], platform: Platform | None = None) -> AsyncGenerator[bytes, None]:
        """Yield an archive of images, in pieces. NotFoundError before the first; DataLossError."""

    async def load(self, chunks: AsyncIterator[bytes], platform: Platform | None = None) -> Sequence[LoadedImage]:
        """Read an archive of images; each is held by a lease of its own. InvalidArgumentError, DataLossError."""

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
