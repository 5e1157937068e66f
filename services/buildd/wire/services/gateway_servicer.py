"""``moby.buildkit.v1.frontend.LLBBridge``: decode, call, encode."""

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from buildd.build import capabilities
from buildd.build.protocol import Builder, Gateway, GatewayRequest
from buildd.protocol import ImageQuery
from buildd.wire.llb.graphs import positions_from_proto, source_from_proto
from buildd.wire.services.errors import ReturnedError, foreign_errors
from buildd.wire.services.processes import Processes, container_from_proto
from buildd.wire.services.values import (
    DEFAULT_MODE,
    attestations_from_proto,
    capabilities_to_proto,
    definitions_from_proto,
    optional_definition,
    platform_of,
    policies_from_proto,
    query_from_proto,
    refs_from_proto,
    result_to_proto,
    stat_to_proto,
    state_to_proto,
    worker_to_proto,
)
from sampan.api.buildkit.gateway.v1 import gateway_pb2 as pb
from sampan.api.buildkit.gateway.v1 import gateway_pb2_grpc as pb_grpc
from sampan.api.buildkit.solver.v1 import ops_pb2
from sampan.build.progress import BuildWarning
from sampan.build.request import CacheOption
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest

Context = grpc.aio.ServicerContext[Any, Any]

_BUILD: Final = "buildkit-controlapi-buildid"


class GatewayServicer(pb_grpc.LLBBridgeServicer):
    """What clients drive their builds by."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    async def _gateway(self, context: Context) -> Gateway:
        for name, value in context.invocation_metadata() or ():
            if name == _BUILD:
                return await self._builder.gateway(value if isinstance(value, str) else value.decode(errors="replace"))
        raise InvalidArgumentError(f"a call of a build's gateway needs the metadata {_BUILD}")

    async def ResolveImageConfig(
        self, request: pb.ResolveImageConfigRequest, context: Context
    ) -> pb.ResolveImageConfigResponse:
        """Look an image up."""
        with foreign_errors():
            query = ImageQuery(
                request.Ref,
                platform_of(request),
                request.ResolveMode or DEFAULT_MODE,
                request.LogName,
                request.StoreID if request.ResolverType else "",
            )
            found = await (await self._gateway(context)).resolve_config(query, policies_from_proto(request))
        return pb.ResolveImageConfigResponse(Digest=found.digest or "", Config=found.config, Ref=found.reference)

    async def ResolveSourceMeta(
        self, request: pb.ResolveSourceMetaRequest, context: Context
    ) -> pb.ResolveSourceMetaResponse:
        """Look a source up."""
        with foreign_errors():
            gateway = await self._gateway(context)
            state = await gateway.resolve_source(query_from_proto(request), policies_from_proto(request))
        return state_to_proto(state)

    async def Solve(self, request: pb.SolveRequest, context: Context) -> pb.SolveResponse:
        """Make a result."""
        with foreign_errors():
            asked = GatewayRequest(
                optional_definition(request, request.Definition),
                request.Frontend,
                dict(request.FrontendOpt),
                definitions_from_proto(request.FrontendInputs),
                evaluate=request.Evaluate,
                cache_imports=tuple(CacheOption(each.Type, dict(each.Attrs)) for each in request.CacheImports),
                policies=policies_from_proto(request),
            )
            result = await (await self._gateway(context)).solve(asked)
        if not request.allowResultReturn:
            return pb.SolveResponse(ref=result.refs[""].id if "" in result.refs else "")
        return pb.SolveResponse(result=result_to_proto(result))

    async def ReadFile(self, request: pb.ReadFileRequest, context: Context) -> pb.ReadFileResponse:
        """Read a file of a result."""
        with foreign_errors():
            offset, length = _range(request)
            data = await (await self._gateway(context)).read_file(request.Ref, request.FilePath, offset, length)
        return pb.ReadFileResponse(Data=data)

    async def ReadDir(self, request: pb.ReadDirRequest, context: Context) -> pb.ReadDirResponse:
        """List a directory of a result."""
        with foreign_errors():
            gateway = await self._gateway(context)
            entries = await gateway.read_directory(request.Ref, request.DirPath, request.IncludePattern)
        return pb.ReadDirResponse(entries=map(stat_to_proto, entries))

    async def StatFile(self, request: pb.StatFileRequest, context: Context) -> pb.StatFileResponse:
        """Say what a path of a result is."""
        with foreign_errors():
            found = await (await self._gateway(context)).stat(request.Ref, request.Path)
        return pb.StatFileResponse(stat=stat_to_proto(found))

    async def Evaluate(self, request: pb.EvaluateRequest, context: Context) -> pb.EvaluateResponse:
        """Run what a result is made of."""
        with foreign_errors():
            await (await self._gateway(context)).evaluate(request.Ref)
        return pb.EvaluateResponse()

    async def Ping(self, request: pb.PingRequest, context: Context) -> pb.PongResponse:
        """Say what this builder can do."""
        with foreign_errors():
            await self._gateway(context)
        return pb.PongResponse(
            FrontendAPICaps=capabilities_to_proto(capabilities.GATEWAY),
            LLBCaps=capabilities_to_proto(capabilities.LLB),
            Workers=map(worker_to_proto, self._builder.workers()),
        )

    async def Return(self, request: pb.ReturnRequest, context: Context) -> pb.ReturnResponse:
        """End the build."""
        with foreign_errors():
            gateway = await self._gateway(context)
            if request.HasField("error"):
                gateway.fail(ReturnedError(request.error))
            else:
                said = attestations_from_proto(request.result)
                gateway.give(refs_from_proto(request.result), dict(request.result.metadata), said)
        return pb.ReturnResponse()

    async def Inputs(self, request: pb.InputsRequest, context: Context) -> pb.InputsResponse:
        """Return what the build was given instead of directories."""
        with foreign_errors():
            given = (await self._gateway(context)).inputs()
        definitions = {name: ops_pb2.Definition.FromString(data) for name, data in given.items()}
        return pb.InputsResponse(Definitions=definitions)

    async def Warn(self, request: pb.WarnRequest, context: Context) -> pb.WarnResponse:
        """Show a warning."""
        with foreign_errors():
            short = request.short.decode(errors="replace")
            warning = BuildWarning(
                short.partition(":")[0],
                short,
                tuple(line.decode(errors="replace") for line in request.detail),
                request.url,
                positions_from_proto(request.ranges),
            )
            source = source_from_proto(request.info) if request.HasField("info") else None
            gateway = await self._gateway(context)
            await gateway.warn(Digest.parse(request.digest), warning, source, request.level)
        return pb.WarnResponse()

    async def NewContainer(self, request: pb.NewContainerRequest, context: Context) -> pb.NewContainerResponse:
        """Make a container beside the build."""
        with foreign_errors():
            await (await self._gateway(context)).new_container(container_from_proto(request))
        return pb.NewContainerResponse()

    async def ReleaseContainer(
        self, request: pb.ReleaseContainerRequest, context: Context
    ) -> pb.ReleaseContainerResponse:
        """End a container."""
        with foreign_errors():
            await (await self._gateway(context)).release_container(request.ContainerID)
        return pb.ReleaseContainerResponse()

    async def ExecProcess(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.ExecMessage], context: Context
    ) -> None:
        """Run processes in containers.

        Not a generator: one that a client's death finds at its yield is closed at some later time.
        """
        with foreign_errors():
            await Processes(await self._gateway(context), context.write).run(request_iterator)

    async def ReadFileContainer(self, request: pb.ReadFileRequest, context: Context) -> pb.ReadFileResponse:
        """Read a file in a container's mount."""
        with foreign_errors():
            offset, length = _range(request)
            data = await (await self._gateway(context)).read_container_file(
                request.Ref, request.MountIndex, request.FilePath, offset, length
            )
        return pb.ReadFileResponse(Data=data)

    async def ReadDirContainer(self, request: pb.ReadDirRequest, context: Context) -> pb.ReadDirResponse:
        """List a directory in a container's mount."""
        with foreign_errors():
            entries = await (await self._gateway(context)).read_container_directory(
                request.Ref, request.MountIndex, request.DirPath, request.IncludePattern
            )
        return pb.ReadDirResponse(entries=map(stat_to_proto, entries))

    async def StatFileContainer(self, request: pb.StatFileRequest, context: Context) -> pb.StatFileResponse:
        """Say what a path in a container's mount is."""
        with foreign_errors():
            gateway = await self._gateway(context)
            found = await gateway.stat_in_container(request.Ref, request.MountIndex, request.Path)
        return pb.StatFileResponse(stat=stat_to_proto(found))


def _range(request: pb.ReadFileRequest) -> tuple[int, int]:
    if request.Range.Offset < 0 or request.Range.Length < 0:
        raise InvalidArgumentError(f"invalid range of {request.FilePath!r}: it begins or ends before the file")
    return request.Range.Offset, request.Range.Length
