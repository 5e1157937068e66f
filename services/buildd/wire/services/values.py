"""What BuildKit's clients send and get, as values and back."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from google.protobuf.message import Message

from buildd.build.protocol import GatewayAttestation, GatewayResult, SourceQuery, SourceState, Worker
from buildd.llb.ops import SourceOp
from buildd.protocol import FileStat
from buildd.source_metadata import AttestationChain, AttestationQuery, ChecksumQuery
from buildd.wire.llb.decode import platform_from_proto
from buildd.wire.llb.encode import platform_to_proto
from buildd.wire.llb.graphs import definition_bytes
from buildd.wire.services.progress import timestamp
from sampan.api.buildkit.control.v1 import control_pb2 as pb
from sampan.api.buildkit.gateway.v1 import gateway_pb2 as gateway_pb
from sampan.api.buildkit.session.v1 import fsutil_pb2
from sampan.api.buildkit.solver.v1 import ops_pb2
from sampan.api.buildkit.sourcepolicy.v1 import policy_pb2
from sampan.api.buildkit.types.v1 import caps_pb2, worker_pb2
from sampan.build.policy import Action, Condition, Constraint, Match, Policies, Rule
from sampan.build.request import CacheOption, Export, PruneOptions, SolveRequest, UsageRecord
from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.json_types import JsonObject
from sampan.oci.platform import Platform, host_platform


def solve_from_proto(request: pb.SolveRequest) -> SolveRequest:
    """Return what a client asks for.

    Raises:
        UnimplementedError: something that would change what comes out and is not done here.
    """
    for asked, what in (
        (request.EnableSessionExporter, "exporters that the client's session names are"),
        (request.ProxyNetwork, "a proxied network is"),
    ):
        if asked:
            raise UnimplementedError(f"{what} not supported by this builder")
    return SolveRequest(
        ref=request.Ref,
        session=request.Session,
        frontend=request.Frontend,
        frontend_attributes=dict(request.FrontendAttrs),
        definition=optional_definition(request, request.Definition),
        frontend_inputs=definitions_from_proto(request.FrontendInputs),
        exports=tuple(_exports(request)),
        cache_imports=tuple(_imports(request.Cache)),
        cache_exports=tuple(_cache_exports(request.Cache)),
        entitlements=frozenset(request.Entitlements),
        policy=tuple(map(_rule, request.SourcePolicy.rules)),
        policy_session=request.SourcePolicySession,
        internal=request.Internal,
    )


def policies_from_proto(
    request: gateway_pb.SolveRequest | gateway_pb.ResolveImageConfigRequest | gateway_pb.ResolveSourceMetaRequest,
) -> Policies:
    """Return the policies that a request brings itself; those without rules are none. InvalidArgumentError."""
    return tuple(tuple(map(_rule, each.rules)) for each in request.SourcePolicies if each.rules)


def _rule(rule: policy_pb2.Rule) -> Rule:
    """Return one rule. InvalidArgumentError: it is of a later version, or says nothing of what it converts to."""
    try:
        action, match = Action(rule.action), Match(rule.selector.match_type)
        constraints = tuple(
            Constraint(each.key, each.value, Condition(each.condition)) for each in rule.selector.constraints
        )
    except ValueError as error:
        raise InvalidArgumentError(f"invalid rule of a source policy: {error}") from error
    if action is Action.CONVERT and not rule.HasField("updates"):
        raise InvalidArgumentError("error mutating source policy: missing destination for convert rule")
    updates = rule.updates
    return Rule(action, rule.selector.identifier, match, constraints, updates.identifier, dict(updates.attrs))


def optional_definition(
    request: pb.SolveRequest | gateway_pb.SolveRequest, definition: ops_pb2.Definition
) -> bytes | None:
    """Return a request's definition; None if it has none. Clients that name a frontend may send an empty one."""
    if not request.HasField("Definition") or (request.Frontend and not getattr(definition, "def")):
        return None
    return definition_bytes(definition)


def definitions_from_proto(given: Mapping[str, ops_pb2.Definition]) -> Mapping[str, bytes]:
    """Return definitions by name."""
    return {name: definition_bytes(definition) for name, definition in given.items()}


def _exports(request: pb.SolveRequest) -> Iterable[Export]:
    if not request.Exporters and request.ExporterDeprecated:
        yield Export(request.ExporterDeprecated, dict(request.ExporterAttrsDeprecated), "0")
    for number, each in enumerate(request.Exporters):
        yield Export(each.Type, dict(each.Attrs), str(number))


def _imports(cache: pb.CacheOptions) -> Iterable[CacheOption]:
    for ref in cache.ImportRefsDeprecated:
        yield CacheOption("registry", {"ref": ref})
    for each in cache.Imports:
        yield CacheOption(each.Type, dict(each.Attrs))


def _cache_exports(cache: pb.CacheOptions) -> Iterable[CacheOption]:
    if cache.ExportRefDeprecated:
        yield CacheOption("registry", {**cache.ExportAttrsDeprecated, "ref": cache.ExportRefDeprecated})
    for each in cache.Exports:
        yield CacheOption(each.Type, dict(each.Attrs))


def prune_from_proto(request: pb.PruneRequest) -> PruneOptions:
    """Return which records are to go."""
    return PruneOptions(
        filters=tuple(request.filter),
        all=request.all,
        keep_duration_ns=request.keepDuration,
        reserved_bytes=request.reservedSpace,
        max_used_bytes=request.maxUsedSpace,
        min_free_bytes=request.minFreeSpace,
    )


def usage_to_proto(record: UsageRecord) -> pb.UsageRecord:
    """Return a record of the build cache."""
    return pb.UsageRecord(
        ID=record.id,
        Mutable=record.mutable,
        InUse=record.in_use,
        Size=record.size_bytes,
        CreatedAt=timestamp(record.created_ns),
        LastUsedAt=timestamp(record.last_used_ns),
        UsageCount=record.usage_count,
        Description=record.description,
        RecordType=record.type,
        Shared=record.shared,
        Parents=record.parents,
    )


def worker_to_proto(worker: Worker) -> worker_pb2.WorkerRecord:
    """Return a worker."""
    return worker_pb2.WorkerRecord(
        ID=worker.id,
        Labels=worker.labels,
        platforms=map(platform_to_proto, worker.platforms),
        BuildkitVersion=version_to_proto(worker),
    )


def version_to_proto(worker: Worker) -> worker_pb2.BuildkitVersion:
    """Return which program this is."""
    return worker_pb2.BuildkitVersion(package="sampan", version=worker.version)


def capabilities_to_proto(names: Iterable[str]) -> list[caps_pb2.APICap]:
    """Return capabilities, all of them enabled."""
    return [caps_pb2.APICap(ID=name, Enabled=True) for name in sorted(names)]


def result_to_proto(result: GatewayResult) -> gateway_pb.Result:
    """Return a result with the graph of each ref."""
    refs = {name: _ref(ref.id, ref.definition) for name, ref in result.refs.items()}
    if "" in refs:
        return gateway_pb.Result(ref=refs[""], metadata=result.metadata)
    return gateway_pb.Result(refs=gateway_pb.RefMap(refs=refs), metadata=result.metadata)


def _ref(id: str, definition: bytes) -> gateway_pb.Ref:
    # ``def`` is no name that Python can say; the other members are.
    ref = gateway_pb.Ref(id=id)
    if definition:
        named: Message = getattr(ref, "def")
        named.MergeFromString(definition)
    return ref


def refs_from_proto(result: gateway_pb.Result) -> dict[str, str]:
    """Return the IDs of a result's refs by platform, "" for the only one."""
    match result.WhichOneof("result"):
        case "ref":
            return {"": result.ref.id}
        case "refs":
            return {name: ref.id for name, ref in result.refs.refs.items()}
        case "refDeprecated":
            return {"": result.refDeprecated}
        case "refsDeprecated":
            return dict(result.refsDeprecated.refs)
        case None:
            return {}


def attestations_from_proto(result: gateway_pb.Result) -> Mapping[str, Sequence[GatewayAttestation]]:
    """Return what a frontend says of its result, by platform. InvalidArgumentError: of an unknown kind."""
    return {key: [_attestation(each) for each in several.attestation] for key, several in result.attestations.items()}


def _attestation(said: gateway_pb.Attestation) -> GatewayAttestation:
    if said.kind not in (gateway_pb.InToto, gateway_pb.Bundle):
        raise InvalidArgumentError(f"invalid kind {said.kind} of an attestation")
    subjects: list[JsonObject] = []
    for each in said.inTotoSubjects:
        if each.kind == gateway_pb.Self:
            if len(said.inTotoSubjects) > 1:
                raise UnimplementedError(
                    "an attestation that is about an output and about something else is not supported"
                )
            continue
        digests = {name: value for name, _, value in (digest.partition(":") for digest in each.digest)}
        subjects.append({"name": each.name, "digest": digests})
    return GatewayAttestation(
        said.ref.id, said.path, said.kind == gateway_pb.Bundle, said.inTotoPredicateType, tuple(subjects)
    )


def stat_to_proto(stat: FileStat) -> fsutil_pb2.Stat:
    """Return what is known of a file."""
    return fsutil_pb2.Stat(
        path=stat.path.encode(errors="surrogateescape"),
        mode=stat.mode,
        uid=stat.uid,
        gid=stat.gid,
        size=stat.size,
        modTime=stat.mtime_ns,
        linkname=stat.link_name.encode(errors="surrogateescape"),
        devmajor=stat.dev_major,
        devminor=stat.dev_minor,
        xattrs=stat.xattrs,
    )


DEFAULT_MODE: Final = "default"

_ALGORITHMS: Final = {
    gateway_pb.ChecksumRequest.CHECKSUM_ALGO_SHA256: "sha256",
    gateway_pb.ChecksumRequest.CHECKSUM_ALGO_SHA384: "sha384",
    gateway_pb.ChecksumRequest.CHECKSUM_ALGO_SHA512: "sha512",
}


def platform_of(request: gateway_pb.ResolveImageConfigRequest | gateway_pb.ResolveSourceMetaRequest) -> Platform:
    """Return the platform that a source is asked for; the host's, if none is named."""
    return platform_from_proto(request.Platform) if request.HasField("Platform") else host_platform()


def query_from_proto(request: gateway_pb.ResolveSourceMetaRequest) -> SourceQuery:
    """Return what is asked of a source.

    Raises:
        InvalidArgumentError: an algorithm that nobody knows.
    """
    attestations = checksum = None
    if request.Image.AttestationChain or request.Image.ResolveAttestations:
        attestations = AttestationQuery(tuple(each for each in request.Image.ResolveAttestations if each))
    if request.HTTP.HasField("ChecksumRequest"):
        wanted = request.HTTP.ChecksumRequest
        if wanted.Algo not in _ALGORITHMS:
            raise InvalidArgumentError(f"unsupported checksum algorithm {wanted.Algo}")
        checksum = ChecksumQuery(_ALGORITHMS[wanted.Algo], wanted.Suffix)
    return SourceQuery(
        SourceOp(request.Source.identifier, dict(request.Source.attrs)),
        platform_of(request),
        request.LogName,
        request.ResolveMode or DEFAULT_MODE,
        config=not request.Image.NoConfig,
        objects=request.Git.ReturnObject,
        attestations=attestations,
        checksum=checksum,
    )


def state_to_proto(state: SourceState) -> gateway_pb.ResolveSourceMetaResponse:
    """Return what is known of a source."""
    message = gateway_pb.ResolveSourceMetaResponse(
        Source=ops_pb2.SourceOp(identifier=state.op.identifier, attrs=state.op.attrs)
    )
    if state.pinned is None:
        return message
    kind = state.op.identifier.partition("://")[0]
    if state.image is not None:
        message.Image.Digest, message.Image.Config = state.image.digest or "", state.image.config
    elif kind in ("docker-image", "oci-layout"):
        message.Image.Digest = state.pinned.pin
    elif kind == "git":
        message.Git.Checksum = message.Git.CommitChecksum = state.pinned.pin
        if (objects := state.objects) is not None:
            message.Git.Checksum = objects.tag_hash or state.pinned.pin
            message.Git.CommitObject, message.Git.TagObject = objects.commit, objects.tag
    elif kind in ("http", "https"):
        message.HTTP.Checksum = state.pinned.pin
        if (checksum := state.checksum) is not None:
            message.HTTP.ChecksumResponse.Digest = checksum.digest
            message.HTTP.ChecksumResponse.Suffix = checksum.suffix
    if state.attestations is not None:
        _tell_attestations(message.Image.AttestationChain, state.attestations)
    return message


def _tell_attestations(message: gateway_pb.AttestationChain, chain: AttestationChain) -> None:
    message.Root, message.ImageManifest = chain.root, chain.image_manifest
    message.AttestationManifest = chain.attestation_manifest
    message.SignatureManifests.extend(chain.signature_manifests)
    for digest, blob in chain.blobs.items():
        own, told = blob.descriptor, message.Blobs[digest]
        told.data = blob.data
        told.descriptor.media_type, told.descriptor.digest, told.descriptor.size = own.media_type, digest, own.size
        told.descriptor.annotations.update(own.annotations)
