"""Client of ``sampan.runtime.v1.Steps``."""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import grpc

from sampan.api.runtime.v1.steps_pb2_grpc import StepsStub
from sampan.build.step import StepInput, StepOutput, StepSpec, no_input
from sampan.client.calls import read, requests
from sampan.client.convert import steps as convert

if TYPE_CHECKING:
    from sampan.api.runtime.v1.steps_pb2_grpc import StepsAsyncStub


class StepsClient:
    """Satisfies ``resource.protocols.Steps``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: StepsAsyncStub = StepsStub(channel)

    def run(self, spec: StepSpec, input: StepInput | None = None) -> AsyncGenerator[StepOutput, None]:
        """Run a process to its end."""
        given = no_input() if input is None else input
        call = self._stub.Run(requests(convert.spec_to_proto(spec), given, convert.input_to_proto))
        return read(call, convert.output_from_proto)
