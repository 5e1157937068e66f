"""Client of ``sampan.runtime.v1.Execs``."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from sampan.api.runtime.v1 import execs_pb2 as pb
from sampan.api.runtime.v1.execs_pb2_grpc import ExecsStub
from sampan.client.calls import requests
from sampan.client.convert import execs as convert
from sampan.client.convert import streams
from sampan.client.convert.containers import CONSOLE_SIZE
from sampan.client.runtime.conversations import converse, takes_descriptors
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.exec import Exec, ExecSpec
from sampan.resource.streams import Accepted, ExecStart, Input, Output
from sampan.wire.channel import rpc_errors
from sampan.wire.metadata import ATTACHES_STDIN
from sampan.wire.repeating import GET_EXEC, KILL_EXEC, RESIZE_EXEC, Repeating

if TYPE_CHECKING:
    from sampan.api.runtime.v1.execs_pb2_grpc import ExecsAsyncStub


class ExecsClient:
    """Satisfies ``resource.protocols.Execs``."""

    def __init__(self, channel: grpc.aio.Channel, handing: Path | None = None) -> None:
        """``handing`` is where runtimed hands over output, if it is on this host."""
        self._handing = handing
        self._stub: ExecsAsyncStub = ExecsStub(channel)
        self._again = Repeating(channel, "runtimed")

    async def create(self, container: str, spec: ExecSpec) -> str:
        """Record a process to run; return its ID."""
        with rpc_errors():
            return (await self._stub.Create(pb.CreateExecRequest(spec=convert.spec_to_proto(container, spec)))).id

    async def get(self, id: str) -> Exec:
        """Return one."""
        request = pb.GetExecRequest(id=id)
        return convert.exec_from_proto(await self._again.ask(GET_EXEC, lambda: self._stub.Get(request)))

    async def start(self, id: str, options: ExecStart, input: Input) -> AsyncGenerator[Accepted | Output, None]:
        """Run it: ``Accepted`` when the start is, ``Attached`` when it runs, its output unless detached."""
        first = streams.exec_start_to_proto(id, options, takes_descriptors=takes_descriptors(self._handing))
        call = self._stub.Start(requests(first, input, _input))
        try:
            with rpc_errors():
                metadata = dict(await call.initial_metadata() or ())
                if ATTACHES_STDIN in metadata:  # else the call has ended, and what it ended with comes below
                    yield Accepted(metadata[ATTACHES_STDIN] == "1")
            async with aclosing(converse(call, self._handing)) as output:
                async for one in output:
                    yield one
        finally:
            call.cancel()

    async def resize(self, id: str, size: ConsoleSize) -> None:
        """Set its terminal's size."""
        request = pb.ResizeExecRequest(id=id, size=CONSOLE_SIZE.encode(size))
        await self._again.do(RESIZE_EXEC, lambda: self._stub.Resize(request))

    async def kill(self, id: str) -> None:
        """Kill it, with all that has come of it."""
        request = pb.KillExecRequest(id=id)
        await self._again.do(KILL_EXEC, lambda: self._stub.Kill(request))


def _input(item: bytes | ConsoleSize) -> pb.StartExecRequest:
    if isinstance(item, ConsoleSize):
        return pb.StartExecRequest(resize=CONSOLE_SIZE.encode(item))
    return pb.StartExecRequest(stdin=item)
