"""Builds as messages of ``moby.buildkit.v1`` and back."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from sampan.api.buildkit.control.v1 import control_pb2 as pb
from sampan.api.buildkit.solver.v1 import ops_pb2
from sampan.api.rpc.status_pb2 import Status
from sampan.build.progress import (
    BuildWarning,
    Position,
    ProgressGroup,
    Update,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from sampan.build.request import CacheOption, PruneOptions, SolveRequest, UsageRecord
from sampan.client.convert.codec import timestamp_ns
from sampan.json_types import JsonObject
from sampan.oci.digest import Digest
from sampan.wire.status import DETAILS_KEY

_SOURCE: Final = "errdefs.Source+json"
_AROUND: Final = 3  # lines before and after
_RULE: Final = "-" * 20


def solve_to_proto(request: SolveRequest) -> pb.SolveRequest:
    """Return a request to build."""
    return pb.SolveRequest(
        Ref=request.ref,
        Session=request.session,
        Frontend=request.frontend,
        FrontendAttrs=request.frontend_attributes,
        Definition=ops_pb2.Definition.FromString(request.definition) if request.definition is not None else None,
        FrontendInputs={
            name: ops_pb2.Definition.FromString(definition) for name, definition in request.frontend_inputs.items()
        },
        Exporters=[pb.Exporter(Type=export.type, Attrs=export.attributes) for export in request.exports],
        EnableSessionExporter=False,
        Cache=pb.CacheOptions(Imports=_options(request.cache_imports), Exports=_options(request.cache_exports)),
        Entitlements=sorted(request.entitlements),
        Internal=request.internal,
    )


def _options(options: tuple[CacheOption, ...]) -> list[pb.CacheOptionsEntry]:
    return [pb.CacheOptionsEntry(Type=option.type, Attrs=option.attributes) for option in options]


def updates_from_proto(message: pb.StatusResponse) -> list[Update]:
    """Return what a message tells, vertexes first: what else there is belongs to them."""
    updates: list[Update] = [_vertex(vertex) for vertex in message.vertexes]
    updates += [_status(status) for status in message.statuses]
    updates += [_log(log) for log in message.logs]
    updates += [_warning(warning) for warning in message.warnings]
    return updates


def _vertex(vertex: pb.Vertex) -> Vertex:
    group = vertex.progressGroup
    return Vertex(
        digest=Digest(vertex.digest),
        name=vertex.name,
        inputs=tuple(map(Digest, vertex.inputs)),
        started_ns=timestamp_ns(vertex.started),
        completed_ns=timestamp_ns(vertex.completed),
        cached=vertex.cached,
        error=vertex.error,
        progress_group=ProgressGroup(group.id, group.name, group.weak) if vertex.HasField("progressGroup") else None,
    )


def _status(status: pb.VertexStatus) -> VertexStatus:
    return VertexStatus(
        id=status.ID,
        vertex=Digest(status.vertex),
        current=status.current,
        total=status.total,
        timestamp_ns=timestamp_ns(status.timestamp),
        started_ns=timestamp_ns(status.started),
        completed_ns=timestamp_ns(status.completed),
    )


def _log(log: pb.VertexLog) -> VertexLog:
    return VertexLog(Digest(log.vertex), log.stream, log.msg, timestamp_ns(log.timestamp))


def _warning(warning: pb.VertexWarning) -> VertexWarning:
    said = BuildWarning(
        rule=warning.short.decode(errors="replace").partition(":")[0],
        message=warning.short.decode(errors="replace"),
        detail=tuple(line.decode(errors="replace") for line in warning.detail),
        url=warning.url,
        positions=tuple(Position(each.start.line, each.end.line) for each in warning.ranges),
    )
    return VertexWarning(Digest(warning.vertex), said, warning.level, warning.info.filename, warning.info.data)


def prune_to_proto(options: PruneOptions) -> pb.PruneRequest:
    """Return a request to remove records."""
    return pb.PruneRequest(
        filter=options.filters,
        all=options.all,
        keepDuration=options.keep_duration_ns,
        reservedSpace=options.reserved_bytes,
        maxUsedSpace=options.max_used_bytes,
        minFreeSpace=options.min_free_bytes,
    )


def usage_from_proto(record: pb.UsageRecord) -> UsageRecord:
    """Return a record of the cache."""
    return UsageRecord(
        id=record.ID,
        size_bytes=record.Size,
        description=record.Description,
        type=record.RecordType or "regular",
        parents=tuple(record.Parents),
        mutable=record.Mutable,
        in_use=record.InUse,
        shared=record.Shared,
        created_ns=timestamp_ns(record.CreatedAt),
        last_used_ns=timestamp_ns(record.LastUsedAt),
        usage_count=record.UsageCount,
    )


def excerpt(error: grpc.aio.AioRpcError) -> str:
    """Return the lines of a Dockerfile that an error is about, marked, and those that led there; empty without any.

    Reference: moby/buildkit, solver/errdefs (``Source``) and its ``Print``.
    """
    for name, value in error.trailing_metadata() or ():
        if name == DETAILS_KEY and isinstance(value, bytes):
            try:
                details = Status.FromString(value).details
            except DecodeError:
                return ""
            sources = [json.loads(each.value) for each in details if each.type_url.endswith(_SOURCE)]
            return "\n".join(filter(None, map(_shown, reversed(sources))))
    return ""


def _shown(source: JsonObject) -> str:
    info = source.get("info") or {}
    spans = [
        (int(each.get("start", {}).get("line", 0)), int(each.get("end", {}).get("line", 0)))
        for each in source.get("ranges") or ()
    ]
    spans = [(first, max(first, last)) for first, last in spans if first > 0]
    try:
        lines = base64.b64decode(info.get("data", "")).decode(errors="replace").split("\n")
    except (binascii.Error, ValueError):
        return ""
    return _marked(str(info.get("filename", "")), lines, spans) if spans else ""


def _marked(name: str, lines: Sequence[str], spans: Sequence[tuple[int, int]]) -> str:
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    shown = [f"{name}:{first}", _RULE]
    for number in range(max(1, first - _AROUND), min(len(lines), last + _AROUND) + 1):
        blamed = any(start <= number <= end for start, end in spans)
        if number == len(lines) and not lines[number - 1]:
            break  # what follows the last line feed is none
        shown.append(f" {number:3} | {'>>>' if blamed else '   '} {lines[number - 1].rstrip()}".rstrip())
    return "\n".join([*shown, _RULE])
