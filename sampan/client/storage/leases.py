"""Leases of imaged's: those of sequences, which end with the sequence and with its process, and lasting ones."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

import grpc

from sampan.api.image.v1 import images_pb2, leases_pb2
from sampan.api.image.v1.leases_pb2_grpc import LeasesStub
from sampan.client.convert import content as convert
from sampan.errors import SampanError, UnavailableError
from sampan.resource.content import LastingLease, RemovedLeases
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import pages, send, whole
from sampan.wire.repeating import PUT_LEASE, Repeating

if TYPE_CHECKING:
    from sampan.api.image.v1.images_pb2_grpc import ImagesAsyncStub
    from sampan.api.image.v1.leases_pb2_grpc import LeasesAsyncStub

    KeepCall: TypeAlias = grpc.aio.StreamStreamCall[images_pb2.KeepRequest, images_pb2.KeepResponse]

_RELEASE_S: Final = 5.0


class LeasesClient:
    """Satisfies ``resource.storage.images.Leases``."""

    def __init__(self, channel: grpc.aio.Channel, *, waits: bool = False) -> None:
        """With ``waits`` a service that is away is waited for by its first call, too: see ``Repeating``."""
        self._stub: LeasesAsyncStub = LeasesStub(channel)
        self._again = Repeating(channel, "imaged", waits=waits)

    async def put(self, lease: LastingLease) -> None:
        """See ``resource.storage.images.Leases``."""
        request = leases_pb2.PutLeaseRequest(lease=convert.LEASE.encode(lease))
        await self._again.do(PUT_LEASE, lambda: self._stub.Put(request))

    async def list(self, owner: str) -> Sequence[LastingLease]:
        """See ``resource.storage.images.Leases``."""
        with rpc_errors():
            answer = await whole(self._stub.List(leases_pb2.ListLeasesRequest(owner=owner)))
        return convert.LEASE.decode_all(answer.leases)

    async def remove(self, owner: str, ids: Iterable[str]) -> RemovedLeases:
        """See ``resource.storage.images.Leases``."""
        with rpc_errors():
            return convert.removed_from_proto(await whole(self._stub.Remove(send(_removal(owner, ids)))))


def _removal(owner: str, ids: Iterable[str]) -> Iterator[leases_pb2.RemoveLeasesRequest]:
    return pages(leases_pb2.RemoveLeasesRequest, "ids", ids, owner=owner)


@asynccontextmanager
async def kept(images: "ImagesAsyncStub", *leases: str) -> AsyncIterator[str]:
    """Have imaged keep ``leases`` for as long as this block lasts, and no longer than this process; yield the first.

    Without any a new one is made. What they still hold at the end is given back, or, of a fetch, left to the next one.
    When imaged is started again meanwhile, it is told again.

    Raises:
        NotFoundError: one is over.
    """
    keeper = _Keeper(images)
    try:
        bound = await keeper.begin(leases)
        keeping = asyncio.create_task(keeper.go_on(bound), name="keep leases")
        try:
            yield bound[0]
            await keeper.end()
            await asyncio.wait({keeping}, timeout=_RELEASE_S)
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
    finally:
        keeper.call.cancel()


class _Keeper:
    """A call that keeps leases, and the next one whenever imaged goes away."""

    def __init__(self, images: "ImagesAsyncStub") -> None:
        self._images = images
        self.call: KeepCall = images.Keep()

    async def begin(self, leases: Sequence[str]) -> tuple[str, ...]:
        with rpc_errors():
            await self.call.write(images_pb2.KeepRequest(leases=leases))
            answer = await self.call.read()
        if not isinstance(answer, images_pb2.KeepResponse):
            raise UnavailableError("imaged has ended the call that keeps its leases")
        return tuple(answer.leases)

    async def go_on(self, leases: Sequence[str]) -> None:
        while True:
            try:
                with rpc_errors():
                    while await self.call.read() is not grpc.aio.EOF:
                        pass
                return
            except UnavailableError:
                self.call = self._images.Keep(wait_for_ready=True)
            except SampanError:
                return  # they are over: whoever uses them is told so
            with contextlib.suppress(UnavailableError), rpc_errors():
                await self.call.write(images_pb2.KeepRequest(leases=leases))

    async def end(self) -> None:
        """Say that they are not needed any more; imaged ends the call when they are given back."""
        with contextlib.suppress(SampanError, asyncio.InvalidStateError), rpc_errors():
            await self.call.done_writing()
