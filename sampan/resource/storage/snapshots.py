"""What the snapshotter is asked for: its core offers it, and its clients over gRPC do.

All methods raise ``SampanError``. Closing an iterator (``contextlib.aclosing``) ends what it stands for; who reads
slowly slows the other side down. Consumers declare narrower protocols of their own.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
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
