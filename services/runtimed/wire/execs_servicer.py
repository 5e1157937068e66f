"""``sampan.runtime.v1.Execs``: decode, one call, encode."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc

from runtimed.wire.handing import Handing, tell
from sampan.api.runtime.v1 import execs_pb2 as pb
from sampan.api.runtime.v1 import execs_pb2_grpc
from sampan.client.convert import execs as convert
from sampan.client.convert import streams
from sampan.client.convert.containers import CONSOLE_SIZE
from sampan.errors import InvalidArgumentError
from sampan.resource.protocols import Execs
from sampan.resource.streams import Accepted
from sampan.wire.metadata import ATTACHES_STDIN

Context = grpc.aio.ServicerContext[Any, Any]


class ExecsServicer(execs_pb2_grpc.ExecsServicer):
    """Execs."""

    def __init__(self, execs: Execs, handing: Handing | None = None) -> None:
        """``handing`` is where clients on this host get a lot of output."""
        self._execs = execs
        self._handing = handing

    async def Create(self, request: pb.CreateExecRequest, context: Context) -> pb.CreateExecResponse:
        """Record a process to run."""
        spec = convert.SPEC.decode(request.spec)
        return pb.CreateExecResponse(id=await self._execs.create(request.spec.container, spec))

    async def Get(self, request: pb.GetExecRequest, context: Context) -> pb.Exec:
        """Return one."""
        return convert.exec_to_proto(await self._execs.get(request.id))

    async def Start(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.StartExecRequest], context: Context
    ) -> None:
        """Run it, with the client connected to its streams unless detached. Not a generator, as ``Attach`` is none."""
        first = await anext(request_iterator, pb.StartExecRequest())
        if not first.HasField("start"):
            raise InvalidArgumentError("the first message must be `start`")
        hand_over = self._handing.by(partial(tell, context)) if self._handing is not None else None
        options = streams.exec_start_from_proto(first.start, hand_over)
        given = streams.input_from_proto(request_iterator)
        async with aclosing(self._execs.start(first.start.id, options, given)) as output:
            async for one in output:
                if isinstance(one, Accepted):
                    await context.send_initial_metadata(((ATTACHES_STDIN, str(int(one.attaches_stdin))),))
                else:
                    await context.write(streams.output_to_proto(one))

    async def Resize(self, request: pb.ResizeExecRequest, context: Context) -> pb.ResizeExecResponse:
        """Set its terminal's size."""
        await self._execs.resize(request.id, CONSOLE_SIZE.decode(request.size))
        return pb.ResizeExecResponse()

    async def Kill(self, request: pb.KillExecRequest, context: Context) -> pb.KillExecResponse:
        """Kill it, with all that has come of it."""
        await self._execs.kill(request.id)
        return pb.KillExecResponse()
