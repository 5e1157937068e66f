"""Snapshots, layers and what differs between them."""

from collections.abc import Iterable, Mapping
from typing import Final

from sampan.api.containerd.snapshots.v1 import snapshots_pb2 as snapshots_pb
from sampan.api.containerd.types import types_pb2 as types_pb
from sampan.api.snapshot.v1 import layers_pb2 as layers_pb
from sampan.client.convert.codec import Codec, ns_to_timestamp, timestamp_ns
from sampan.client.convert.oci import DESCRIPTOR
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest
from sampan.resource.image import Layer
from sampan.resource.snapshot import (
    ApplyProgress,
    Change,
    ChangeKind,
    DriverReport,
    DriversReport,
    Kind,
    Mount,
    NewLayer,
    SnapshotInfo,
    SnapshotUsage,
)
from sampan.sys.measuring import Usage

PROGRESS: Final = Codec(ApplyProgress, layers_pb.ApplyLayerProgress)
DRIVERS: Final = Codec(
    DriversReport, layers_pb.DriversResponse, nested=(Codec(DriverReport, layers_pb.DriversResponse.Driver),)
)
APPLIED: Final = Codec(Layer, layers_pb.ApplyLayerRequest, nested=(DESCRIPTOR,))

_KINDS: Final = {
    Kind.VIEW: snapshots_pb.Kind.VIEW,
    Kind.ACTIVE: snapshots_pb.Kind.ACTIVE,
    Kind.COMMITTED: snapshots_pb.Kind.COMMITTED,
}
_KINDS_BACK: Final = {value: kind for kind, value in _KINDS.items()}

_CHANGES: Final = {
    ChangeKind.MODIFIED: layers_pb.ChangesResponse.Kind.MODIFIED,
    ChangeKind.ADDED: layers_pb.ChangesResponse.Kind.ADDED,
    ChangeKind.DELETED: layers_pb.ChangesResponse.Kind.DELETED,
}
_CHANGES_BACK: Final = {value: kind for kind, value in _CHANGES.items()}


def mount_to_proto(mount: Mount) -> types_pb.Mount:
    """Encode a mount."""
    return types_pb.Mount(type=mount.fstype, source=mount.source, options=mount.options)


def mount_from_proto(mount: types_pb.Mount) -> Mount:
    """Decode a mount."""
    return Mount(mount.type, mount.source, tuple(mount.options))


def mounts_from_proto(mounts: Iterable[types_pb.Mount]) -> tuple[Mount, ...]:
    """Decode mounts."""
    return tuple(map(mount_from_proto, mounts))


def info_to_proto(snapshot: SnapshotInfo) -> snapshots_pb.Info:
    """Encode what is known of a snapshot."""
    return snapshots_pb.Info(
        name=snapshot.key,
        parent=snapshot.parent or "",
        kind=_KINDS[snapshot.kind],
        created_at=ns_to_timestamp(snapshot.created_at_ns),
        updated_at=ns_to_timestamp(snapshot.updated_at_ns),
        labels=snapshot.labels,
    )


def info_from_proto(info: snapshots_pb.Info) -> SnapshotInfo:
    """Decode what travels of a snapshot; where it is on disk does not."""
    return SnapshotInfo(
        key=info.name,
        kind=_KINDS_BACK[info.kind],
        parent=info.parent or None,
        created_at_ns=timestamp_ns(info.created_at),
        updated_at_ns=timestamp_ns(info.updated_at),
        labels=dict(info.labels),
    )


def label_updates(labels: Mapping[str, str], paths: Iterable[str]) -> tuple[dict[str, str | None], bool]:
    """Return what an update mask asks for: labels to set or remove, and whether they replace all others.

    Raises:
        InvalidArgumentError: the mask names what cannot be changed.
    """
    wanted = list(paths)
    if not wanted or "labels" in wanted:
        return dict(labels), True
    updates: dict[str, str | None] = {}
    for path in wanted:
        field, dot, name = path.partition(".")
        if field != "labels" or not dot or not name:
            raise InvalidArgumentError(f"field {path!r} of a snapshot cannot be updated: only labels can")
        updates[name] = labels.get(name) or None
    return updates, False


def usage_to_proto(usage: SnapshotUsage) -> layers_pb.LayersUsageResponse.Snapshot:
    """Encode one snapshot's disk use."""
    return layers_pb.LayersUsageResponse.Snapshot(
        key=usage.key,
        parent=usage.parent or "",
        size_bytes=usage.usage.size_bytes,
        inodes=usage.usage.inodes,
        diff_id=usage.diff_id or "",
        layer_users=usage.layer_users,
    )


def usage_from_proto(usage: layers_pb.LayersUsageResponse.Snapshot) -> SnapshotUsage:
    """Decode one snapshot's disk use."""
    return SnapshotUsage(
        key=usage.key,
        parent=usage.parent or None,
        usage=Usage(usage.size_bytes, usage.inodes),
        diff_id=Digest.parse(usage.diff_id) if usage.diff_id else None,
        layer_users=usage.layer_users,
    )


def change_to_proto(change: Change) -> layers_pb.ChangesResponse.Change:
    """Encode a change; bytes that are not UTF-8, which protobuf cannot carry, become U+FFFD."""
    return layers_pb.ChangesResponse.Change(path="/" + change.path.decode(errors="replace"), kind=_CHANGES[change.kind])


def change_from_proto(change: layers_pb.ChangesResponse.Change) -> Change:
    """Decode a change."""
    return Change(change.path.encode().removeprefix(b"/"), _CHANGES_BACK[change.kind])


def new_layer_to_proto(layer: NewLayer | None) -> layers_pb.DiffLayerResponse:
    """Encode a layer that was made, or that there was nothing to make it of."""
    if layer is None:
        return layers_pb.DiffLayerResponse(empty=True)
    return layers_pb.DiffLayerResponse(descriptor=DESCRIPTOR.encode(layer.descriptor), diff_id=layer.diff_id)


def new_layer_from_proto(message: layers_pb.DiffLayerResponse) -> NewLayer | None:
    """Decode it."""
    if message.empty:
        return None
    return NewLayer(DESCRIPTOR.decode(message.descriptor), Digest.parse(message.diff_id))


def frozen_to_proto(layer: NewLayer | None) -> layers_pb.FreezeResponse:
    """Encode a layer that a snapshot has become, or that there was nothing to make it of."""
    if layer is None:
        return layers_pb.FreezeResponse(empty=True)
    return layers_pb.FreezeResponse(
        descriptor=DESCRIPTOR.encode(layer.descriptor), diff_id=layer.diff_id, size_bytes=layer.size_bytes
    )


def frozen_from_proto(message: layers_pb.FreezeResponse) -> NewLayer | None:
    """Decode it."""
    if message.empty:
        return None
    return NewLayer(DESCRIPTOR.decode(message.descriptor), Digest.parse(message.diff_id), message.size_bytes)
