"""Builds that are remembered, as messages; and how they went, as bytes that last."""

import struct
from collections.abc import Sequence
from typing import Final

import grpc

from buildd.build.updates import in_messages
from buildd.history.model import CANCELLED, BuildRecord, Happened, HistoryQuery, KeptBlob
from buildd.wire.services.progress import status_to_proto, timestamp
from sampan.api.buildkit.control.v1 import control_pb2 as pb
from sampan.api.rpc.status_pb2 import Status
from sampan.build.progress import Update
from sampan.client.builds.convert import updates_from_proto
from sampan.errors import InvalidArgumentError

_LENGTH: Final = struct.Struct("<I")


class UpdatesCodec:
    """Satisfies ``buildd.history.history.Codec``: ``StatusResponse`` after ``StatusResponse``."""

    def encode(self, updates: Sequence[Update]) -> bytes:
        """Return updates as a log: messages, each with its length before it."""
        messages = [status_to_proto(some).SerializeToString() for some in in_messages(updates)]
        return b"".join(part for each in messages for part in (_LENGTH.pack(len(each)), each))

    def decode(self, data: bytes) -> Sequence[Update]:
        """Return what ``encode`` was given, by kinds within a message."""
        found: list[Update] = []
        at = 0
        while at < len(data):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size + length
            found += self.decode_single(data[at - length : at])
        return found

    def decode_single(self, data: bytes) -> Sequence[Update]:
        """Return what one message says, by kinds."""
        return updates_from_proto(pb.StatusResponse.FromString(data))


def query_from_proto(request: pb.BuildHistoryRequest) -> HistoryQuery:
    """Return which builds are asked for. InvalidArgumentError: a limit that cannot be."""
    if request.Limit < 0:
        raise InvalidArgumentError(f"invalid limit {request.Limit}")
    return HistoryQuery(request.Ref, request.ActiveOnly, request.EarlyExit, tuple(request.Filter), request.Limit)


def event_to_proto(happened: Happened, record: BuildRecord) -> pb.BuildHistoryEvent:
    """Return what has happened to a build."""
    return pb.BuildHistoryEvent(type=pb.BuildHistoryEventType.ValueType(happened.value), record=_record(record))


def _record(record: BuildRecord) -> pb.BuildHistoryRecord:
    cancelled = record.error == CANCELLED
    code: int = (grpc.StatusCode.CANCELLED if cancelled else grpc.StatusCode.UNKNOWN).value[0]
    results = {name: _result(record, name) for name in record.attestations}
    only = results.pop("", None) or (_result(record, "") if record.results else None)
    return pb.BuildHistoryRecord(
        Ref=record.ref,
        Frontend=record.frontend,
        FrontendAttrs=record.attributes,
        Exporters=[pb.Exporter(Type=each.type, Attrs=each.attributes) for each in record.exports],
        error=Status(code=code, message=record.error) if record.error else None,
        CreatedAt=timestamp(record.created_ns),
        CompletedAt=timestamp(record.completed_ns),
        logs=_descriptor(record.log) if record.log is not None else None,
        externalError=_descriptor(record.failure) if record.failure is not None else None,
        ExporterResponse=record.response,
        Result=only,
        Results=results,
        Generation=1 if record.completed_ns else 0,
        pinned=record.pinned,
        numCachedSteps=record.cached_steps,
        numTotalSteps=record.total_steps,
        numCompletedSteps=record.completed_steps,
        numWarnings=record.warnings,
    )


def _result(record: BuildRecord, platform: str) -> pb.BuildResultInfo:
    """Return what a build has for a platform; images, which are of all platforms, are with the result without one."""
    images = {int(name): _descriptor(each) for name, each in record.results.items()} if not platform else {}
    return pb.BuildResultInfo(
        ResultDeprecated=images[min(images)] if images else None,
        Attestations=map(_descriptor, record.attestations.get(platform, ())),
        Results=images,
    )


def _descriptor(blob: KeptBlob) -> pb.Descriptor:
    return pb.Descriptor(media_type=blob.media_type, digest=blob.digest, size=blob.size, annotations=blob.annotations)
