"""How a build goes, as ``StatusResponse``."""

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from buildd.protocol import SourceFile
from buildd.wire.llb.encode import group_to_proto, range_to_proto
from buildd.wire.llb.graphs import source_to_proto
from sampan.api.buildkit.control.v1 import control_pb2 as pb
from sampan.build.progress import Update, Vertex, VertexLog, VertexStatus, VertexWarning


def status_to_proto(updates: Iterable[Update]) -> pb.StatusResponse:
    """Return several updates as one message."""
    message = pb.StatusResponse()
    for update in updates:
        match update:
            case Vertex():
                message.vertexes.append(_vertex(update))
            case VertexStatus():
                message.statuses.append(_status(update))
            case VertexLog(vertex, stream, data, timestamp_ns):
                log = pb.VertexLog(vertex=vertex, stream=stream, msg=data, timestamp=timestamp(timestamp_ns))
                message.logs.append(log)
            case VertexWarning():
                message.warnings.append(_warning(update))
    return message


def timestamp(ns: int) -> Timestamp | None:
    """Return a time in nanoseconds since the epoch; None for 0, which is no time."""
    return Timestamp(seconds=ns // 10**9, nanos=ns % 10**9) if ns else None


def _vertex(vertex: Vertex) -> pb.Vertex:
    return pb.Vertex(
        digest=vertex.digest,
        inputs=vertex.inputs,
        name=vertex.name,
        cached=vertex.cached,
        started=timestamp(vertex.started_ns),
        completed=timestamp(vertex.completed_ns),
        error=vertex.error,
        progressGroup=group_to_proto(vertex.progress_group) if vertex.progress_group else None,
    )


def _status(status: VertexStatus) -> pb.VertexStatus:
    return pb.VertexStatus(
        ID=status.id,
        vertex=status.vertex,
        current=status.current,
        total=status.total,
        timestamp=timestamp(status.timestamp_ns),
        started=timestamp(status.started_ns),
        completed=timestamp(status.completed_ns),
    )


def _warning(update: VertexWarning) -> pb.VertexWarning:
    warning = update.warning
    file = SourceFile(update.file_name, update.file_data) if update.file_name else None
    return pb.VertexWarning(
        vertex=update.vertex,
        level=update.level,
        short=warning.message.encode(),
        detail=[line.encode() for line in warning.detail],
        url=warning.url,
        info=source_to_proto(file) if file else None,
        ranges=map(range_to_proto, warning.positions),
    )
