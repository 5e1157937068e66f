"""``sampan.runtime.v1.Steps``: decode, one call, encode."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from sampan.api.runtime.v1 import steps_pb2 as pb
from sampan.api.runtime.v1 import steps_pb2_grpc
from sampan.client.convert import steps as convert
from sampan.errors import InvalidArgumentError
from sampan.resource.protocols import Steps

Context = grpc.aio.ServicerContext[Any, Any]


class StepsServicer(steps_pb2_grpc.StepsServicer):
    """Processes of build steps."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    async def Run(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.RunStepRequest], context: Context
    ) -> None:
        """Run one to its end.

        Not a generator: one that a client's death finds at its yield is closed at some later time.
        """
        first = await anext(request_iterator, pb.RunStepRequest())
        if not first.HasField("spec"):
            raise InvalidArgumentError("the first message must be `spec`")
        spec = convert.spec_from_proto(first.spec)
        async with aclosing(self._steps.run(spec, convert.input_from_proto(request_iterator))) as output:
            async for one in output:
                await context.write(convert.output_to_proto(one))
