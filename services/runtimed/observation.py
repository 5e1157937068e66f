"""Looking at running containers: processes and use of resources."""

from collections.abc import AsyncIterator

from runtimed.registry import Entry
from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.errors import ConflictError


class Observation:
    """Placeholder until stats land."""

    async def top(self, entry: Entry, ps_args: str) -> pb.TopResponse:
        raise ConflictError("x")

    async def stats(self, entry: Entry, *, stream: bool, one_shot: bool) -> AsyncIterator[pb.StatsResponse]:
        yield pb.StatsResponse()
