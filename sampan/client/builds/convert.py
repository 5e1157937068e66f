"""Builds as messages of ``moby.buildkit.v1`` and back."""

from sampan.api.buildkit.control.v1 import control_pb2 as pb
from sampan.api.buildkit.solver.v1 import ops_pb2
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
from sampan.oci.digest import Digest


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
