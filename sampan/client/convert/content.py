"""Content, in containerd's messages."""

from collections.abc import Iterable
from typing import Final

from sampan.api.containerd.content.v1 import content_pb2 as content_pb
from sampan.api.image.v1 import leases_pb2 as leases_pb
from sampan.client.convert.codec import Codec, ns_to_timestamp, timestamp_ns
from sampan.oci.digest import Digest
from sampan.resource.content import (
    Action,
    Blob,
    IngestStatus,
    LastingLease,
    RemovedLeases,
    WriteReply,
    WriteStep,
)

STEP: Final = Codec(WriteStep, content_pb.WriteContentRequest)
LEASE: Final = Codec(LastingLease, leases_pb.LastingLease)

_ACTIONS: Final = {one: content_pb.WriteAction.Value(one.name) for one in Action}


def blob_to_proto(blob: Blob) -> content_pb.Info:
    """Encode what is known of a blob."""
    return content_pb.Info(
        digest=blob.digest,
        size=blob.size,
        created_at=ns_to_timestamp(blob.created_ns),
        updated_at=ns_to_timestamp(blob.updated_ns),
        labels=blob.labels,
    )


def status_to_proto(status: IngestStatus) -> content_pb.Status:
    """Encode how far a write is."""
    return content_pb.Status(
        started_at=ns_to_timestamp(status.started_ns),
        updated_at=ns_to_timestamp(status.updated_ns),
        ref=status.ref,
        offset=status.offset,
        total=status.total,
        expected=status.expected or "",
    )


def reply_to_proto(reply: WriteReply) -> content_pb.WriteContentResponse:
    """Encode the answer to a writer's message."""
    return content_pb.WriteContentResponse(
        action=_ACTIONS[reply.action],
        started_at=ns_to_timestamp(reply.started_ns),
        updated_at=ns_to_timestamp(reply.updated_ns),
        offset=reply.offset,
        total=reply.total,
        digest=reply.digest,
    )


def blob_from_proto(message: content_pb.Info) -> Blob:
    """Decode what is known of a blob."""
    return Blob(
        Digest.parse(message.digest),
        message.size,
        timestamp_ns(message.created_at),
        timestamp_ns(message.updated_at),
        dict(message.labels),
    )


def status_from_proto(message: content_pb.Status) -> IngestStatus:
    """Decode how far a write is."""
    return IngestStatus(
        message.ref,
        message.offset,
        message.total,
        Digest.parse(message.expected) if message.expected else None,
        timestamp_ns(message.started_at),
        timestamp_ns(message.updated_at),
    )


def reply_from_proto(message: content_pb.WriteContentResponse) -> WriteReply:
    """Decode the answer to a writer's message."""
    return WriteReply(
        Action[content_pb.WriteAction.Name(message.action)],
        message.offset,
        message.total,
        Digest(message.digest),
        timestamp_ns(message.started_at),
        timestamp_ns(message.updated_at),
    )


def stack_to_proto(chain_ids: Iterable[Digest]) -> leases_pb.RemoveLeasesResponse.Stack:
    """Encode what nothing needs any more of a stack."""
    return leases_pb.RemoveLeasesResponse.Stack(chain_ids=chain_ids)


def removed_from_proto(message: leases_pb.RemoveLeasesResponse) -> RemovedLeases:
    """Decode what a removal of leases came to."""
    stacks = tuple(tuple(map(Digest.parse, stack.chain_ids)) for stack in message.stacks)
    return RemovedLeases(stacks, message.reclaimed_bytes)
