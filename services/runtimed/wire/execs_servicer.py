"""``sampan.runtime.v1.Execs`` over the core."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from runtimed.containers.memory_store import Registry
from runtimed.execs.operations import Execs
from runtimed.wire import convert
from runtimed.wire.containers_servicer import first, input_of
from sampan.api.runtime.v1 import containers_pb2, execs_pb2_grpc
from sampan.api.runtime.v1 import execs_pb2 as pb
from sampan.wire.metadata import ATTACHES_STDIN

Context = grpc.aio.ServicerContext[Any, Any]


class ExecsServicer(execs_pb2_grpc.ExecsServicer):
    """Decodes, makes one call, encodes."""

    def __init__(self, registry: Registry, execs: Execs) -> None:
        self._registry = registry
        self._execs = execs

    async def Create(self, request: pb.CreateExecRequest, context: Context) -> pb.CreateExecResponse:
        """Record a process to run."""
        entry = self._registry.find(request.spec.container)
        return pb.CreateExecResponse(
            id=(await self._execs.create(entry, convert.exec_spec_from_proto(request.spec))).id
        )

    async def Get(self, request: pb.GetExecRequest, context: Context) -> pb.Exec:
        """Return one."""
        return convert.exec_to_proto(self._execs.get(request.id))

    async def Start(
        self, request_iterator: AsyncIterator[pb.StartExecRequest], context: Context
    ) -> AsyncIterator[containers_pb2.StreamOutput]:
        """Run it, with the client connected to its streams unless detached."""
        start = (await first(request_iterator)).start
        tty = start.tty if start.HasField("tty") else None
        size = convert.console_size_from_proto(start.console_size) if start.console_size.height else None
        begin = self._execs.start_detached if start.detach else self._execs.start
        running, started = begin(start.id, tty, size)
        # Clients answer their own clients by now, and need to know whether there is input.
        await context.send_initial_metadata(((ATTACHES_STDIN, str(int(running.exec.spec.attach_stdin))),))
        await started
        if start.detach:
            yield containers_pb2.StreamOutput(attached=True)
            return
        yield containers_pb2.StreamOutput(attached=True, tty=running.exec.spec.tty)
        async for frames in self._execs.converse(running, input_of(request_iterator)):
            yield convert.output_to_proto(frames)
        if running.detached:
            yield containers_pb2.StreamOutput(detached=True)

    async def Resize(self, request: pb.ResizeExecRequest, context: Context) -> pb.ResizeExecResponse:
        """Set its terminal's size."""
        self._execs.resize(request.id, convert.console_size_from_proto(request.size))
        return pb.ResizeExecResponse()
