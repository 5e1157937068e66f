"""Builds that are remembered, as messages; and how they went, as bytes that last."""

from collections.abc import Sequence

import grpc

from buildd.history.model import BuildRecord, Happened, HistoryQuery
from buildd.wire.services.progress import status_to_proto, timestamp
from sampan.api.buildkit.control.v1 import control_pb2 as pb
from sampan.api.rpc.status_pb2 import Status
from sampan.build.progress import Update
from sampan.client.builds.convert import updates_from_proto
from sampan.errors import UnimplementedError


class UpdatesCodec:
    """Satisfies ``buildd.history.history.Codec``: a ``StatusResponse``."""

    def encode(self, updates: Sequence[Update]) -> bytes:
        """Return updates as bytes."""
        return status_to_proto(updates).SerializeToString()

    def decode(self, data: bytes) -> Sequence[Update]:
        """Return what ``encode`` was given, by kinds."""
        return updates_from_proto(pb.StatusResponse.FromString(data))


def query_from_proto(request: pb.BuildHistoryRequest) -> HistoryQuery:
    """Return which builds are asked for. UnimplementedError: filters, which clients have their own."""
    if request.Filter:
        raise UnimplementedError("filters of the history are not supported by this builder")
    return HistoryQuery(request.Ref, request.ActiveOnly, request.EarlyExit, max(request.Limit, 0))


def event_to_proto(happened: Happened, record: BuildRecord) -> pb.BuildHistoryEvent:
    """Return what has happened to a build."""
    return pb.BuildHistoryEvent(type=pb.BuildHistoryEventType.ValueType(happened.value), record=_record(record))


def _record(record: BuildRecord) -> pb.BuildHistoryRecord:
    unknown: int = grpc.StatusCode.UNKNOWN.value[0]
    return pb.BuildHistoryRecord(
        Ref=record.ref,
        Frontend=record.frontend,
        FrontendAttrs=record.attributes,
        Exporters=[pb.Exporter(Type=each.type, Attrs=each.attributes) for each in record.exports],
        error=Status(code=unknown, message=record.error) if record.error else None,
        CreatedAt=timestamp(record.created_ns),
        CompletedAt=timestamp(record.completed_ns),
        ExporterResponse=record.response,
        Generation=1 if record.completed_ns else 0,
        pinned=record.pinned,
        numCachedSteps=record.cached_steps,
        numTotalSteps=record.total_steps,
        numCompletedSteps=record.completed_steps,
        numWarnings=record.warnings,
    )
