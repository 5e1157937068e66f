"""containerd's messages about content to and from imaged's values."""

from imaged.content.writes import Action, WriteReply, WriteStep
from imaged.images.model import Blob, IngestStatus
from sampan.api.containerd.content.v1 import content_pb2 as content_pb
from sampan.client.convert.codec import ns_to_timestamp
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest

_ACTIONS = {
    content_pb.STAT: Action.STAT,
    content_pb.WRITE: Action.WRITE,
    content_pb.COMMIT: Action.COMMIT,
}
_ACTION_NUMBERS = {action: number for number, action in _ACTIONS.items()}


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


def write_from_proto(message: content_pb.WriteContentRequest) -> WriteStep:
    """Decode a writer's message."""
    action = _ACTIONS.get(message.action)
    if action is None:
        raise InvalidArgumentError(f"unhandled action {message.action}")
    if message.total < 0 or message.offset < 0:
        raise InvalidArgumentError(f"ref {message.ref}: offset {message.offset}, total {message.total}")
    return WriteStep(
        action=action,
        ref=message.ref,
        total=message.total,
        expected=Digest.parse(message.expected) if message.expected else None,
        offset=message.offset,
        data=message.data,
        labels=dict(message.labels),
    )


def reply_to_proto(reply: WriteReply) -> content_pb.WriteContentResponse:
    """Encode the answer to a writer's message."""
    return content_pb.WriteContentResponse(
        action=_ACTION_NUMBERS[reply.action],
        started_at=ns_to_timestamp(reply.started_ns),
        updated_at=ns_to_timestamp(reply.updated_ns),
        offset=reply.offset,
        total=reply.total,
        digest=reply.digest,
    )
