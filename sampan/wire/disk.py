"""``sampan.disk`` between the wire and Python."""

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.api.disk.v1 import disk_pb2 as pb
from sampan.disk import Collected, Freed, Holder, StoredObject


def holder_to_proto(holder: Holder) -> pb.Holder:
    """Encode a holder."""
    expires = None
    if holder.expires_ns:
        expires = Timestamp()
        expires.FromNanoseconds(holder.expires_ns)
    return pb.Holder(kind=holder.kind, id=holder.id, names=holder.names, expires=expires)


def holder_from_proto(message: pb.Holder) -> Holder:
    """Decode one."""
    expires_ns = message.expires.ToNanoseconds() if message.HasField("expires") else 0
    return Holder(message.kind, message.id, tuple(message.names), expires_ns)


def object_to_proto(one: StoredObject) -> pb.StoredObject:
    """Encode an object."""
    return pb.StoredObject(
        kind=one.kind, id=one.id, size_bytes=one.size_bytes, holders=map(holder_to_proto, one.holders)
    )


def object_from_proto(message: pb.StoredObject) -> StoredObject:
    """Decode one."""
    return StoredObject(message.kind, message.id, message.size_bytes, tuple(map(holder_from_proto, message.holders)))


def collected_to_proto(collected: Collected) -> pb.CollectResponse:
    """Encode what a pass came to."""
    freed = [
        pb.CollectResponse.Freed(kind=kind, count=one.count, size_bytes=one.size_bytes)
        for kind, one in sorted(collected.freed.items())
    ]
    return pb.CollectResponse(freed=freed, reclaimed_bytes=collected.reclaimed_bytes, seconds=collected.seconds)


def collected_from_proto(message: pb.CollectResponse) -> Collected:
    """Decode it."""
    return Collected({one.kind: Freed(one.count, one.size_bytes) for one in message.freed}, message.seconds)
