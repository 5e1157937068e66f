"""The engine's content store and images over gRPC."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from registryd.repositories.model import EngineImage, Held, Unkept, UploadState
from registryd.repositories.roots import ROOT_PREFIX
from registryd.repositories.uploads import REF_PREFIX
from sampan.api.containerd.content.v1 import content_pb2 as pb
from sampan.api.containerd.content.v1 import content_pb2_grpc as pb_grpc
from sampan.api.containerd.types import types_pb2
from sampan.api.image.v1 import images_pb2, images_pb2_grpc
from sampan.errors import AlreadyExistsError, NotFoundError, UnavailableError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import whole

if TYPE_CHECKING:  # the stubs' asynchronous types exist only for type checkers
    from sampan.api.containerd.content.v1.content_pb2_grpc import ContentAsyncStub
    from sampan.api.image.v1.images_pb2_grpc import ImagesAsyncStub

    WriteCall = grpc.aio.StreamStreamCall[pb.WriteContentRequest, pb.WriteContentResponse]

# For calls that answer at once. imaged is back within a second or two if it is restarted.
DEADLINE_S: Final = 30.0

# How often content may vanish between two calls before we believe that something is wrong.
_TRIES: Final = 5


class ContentClient:
    """Satisfies ``Contents``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: ContentAsyncStub = pb_grpc.ContentStub(channel)

    async def size(self, digest: Digest) -> int:
        """See ``Contents``."""
        with _answering():
            return (await self._stub.Info(pb.InfoRequest(digest=digest), timeout=DEADLINE_S)).info.size

    async def keep(self, digest: Digest, root: str, owner: str) -> int:
        """See ``Contents``."""
        return (await self._label(digest, root, owner)).size

    async def _label(self, digest: Digest, root: str, owner: str) -> pb.Info:
        info = pb.Info(digest=digest, labels={root: owner})
        request = pb.UpdateRequest(info=info, update_mask=FieldMask(paths=[f"labels.{root}"]))
        with _answering():
            return (await self._stub.Update(request, timeout=DEADLINE_S)).info

    async def let_go(self, unkept: Collection[Unkept]) -> None:
        """See ``Contents``."""
        for each in unkept:
            try:
                await self._label(each.digest, each.root, "")
            except NotFoundError:
                continue

    async def read(self, digest: Digest, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        """See ``Contents``."""
        with _answering():
            call = self._stub.Read(pb.ReadContentRequest(digest=digest, offset=offset, size=size))
            try:
                async for piece in call:
                    yield piece.data
            finally:
                call.cancel()

    async def begin(self, ref: str) -> None:
        """See ``Contents``."""
        await self._converse(pb.WriteContentRequest(action=pb.WriteAction.STAT, ref=ref))

    async def offset(self, ref: str) -> int:
        """See ``Contents``."""
        with _answering():
            return (await self._stub.Status(pb.StatusRequest(ref=ref), timeout=DEADLINE_S)).status.offset

    async def state(self, ref: str) -> UploadState:
        """See ``Contents``."""
        await self.offset(ref)  # to write to a ref that is not there would make it
        return await self._converse(pb.WriteContentRequest(action=pb.WriteAction.STAT, ref=ref))

    async def append(self, ref: str, offset: int, pieces: AsyncIterator[bytes]) -> UploadState:
        """See ``Contents``."""
        with _answering():
            call = self._stub.Write()
            try:
                # One piece, one answer: to send on into a call that has ended fails without saying why it ended.
                state = await _ask(call, pb.WriteContentRequest(action=pb.WriteAction.STAT, ref=ref))
                async for data in pieces:
                    request = pb.WriteContentRequest(action=pb.WriteAction.WRITE, ref=ref, offset=offset, data=data)
                    state = await _ask(call, request)
                    offset = state.offset
                await _hang_up(call)
                return state
            finally:
                call.cancel()

    async def commit(self, ref: str, digest: Digest, root: str, owner: str) -> int:
        """See ``Contents``."""
        request = pb.WriteContentRequest(action=pb.WriteAction.COMMIT, ref=ref, expected=digest, labels={root: owner})
        try:
            return (await self._converse(request)).offset
        except AlreadyExistsError:
            return await self.keep(digest, root, owner)

    async def put(self, digest: Digest, data: bytes, root: str, owner: str) -> None:
        """See ``Contents``."""
        for _ in range(_TRIES):
            ref = f"{REF_PREFIX}{secrets.token_hex(16)}"
            await self._converse(pb.WriteContentRequest(action=pb.WriteAction.WRITE, ref=ref, data=data))
            try:
                await self.commit(ref, digest, root, owner)
            except NotFoundError:
                continue  # it was here, and somebody has just removed it
            return
        raise UnavailableError(f"content {digest} comes and goes")

    async def _converse(self, request: pb.WriteContentRequest) -> UploadState:
        with _answering():
            call = self._stub.Write(timeout=DEADLINE_S)
            try:
                state = await _ask(call, request)
                await _hang_up(call)
                return state
            finally:
                call.cancel()

    async def abort(self, ref: str) -> None:
        """See ``Contents``."""
        with _answering():
            await self._stub.Abort(pb.AbortRequest(ref=ref), timeout=DEADLINE_S)

    async def held(self) -> AsyncIterator[Held]:
        """See ``Contents``."""
        with _answering():
            async for response in self._stub.List(pb.ListContentRequest(), timeout=DEADLINE_S):
                for info in response.info:
                    roots = {label: owner for label, owner in info.labels.items() if label.startswith(ROOT_PREFIX)}
                    yield Held(Digest(info.digest), info.size, roots)

    async def roots(self) -> AsyncIterator[Unkept]:
        """See ``Contents``."""
        async for held in self.held():
            for root in held.roots:
                yield Unkept(held.digest, root)

    async def writes(self) -> list[tuple[str, int]]:
        """See ``Contents``."""
        with _answering():
            found = await self._stub.ListStatuses(pb.ListStatusesRequest(), timeout=DEADLINE_S)
        return [
            (status.ref, status.updated_at.ToNanoseconds())
            for status in found.statuses
            if status.ref.startswith(REF_PREFIX)
        ]


class ImagesClient:
    """Satisfies ``Catalog``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: ImagesAsyncStub = images_pb2_grpc.ImagesStub(channel)

    async def images(self) -> tuple[EngineImage, ...]:
        """See ``Catalog``."""
        with _answering():
            found = await whole(self._stub.List(images_pb2.ListRequest(brief=True), timeout=DEADLINE_S))
        return tuple(_image_from_proto(image) for image in found.images)


def _image_from_proto(image: images_pb2.Image) -> EngineImage:
    layers = {Digest(layer.descriptor.digest): layer.descriptor.size for layer in image.layers}
    config_size = image.content_bytes - image.manifest.size - sum(layers.values())
    return EngineImage(
        names=tuple(parse_reference(name) for name in (*image.repo_tags, *image.repo_digests)),
        target=_descriptor_from_proto(image.target),
        manifest=_descriptor_from_proto(image.manifest),
        contents=layers | {Digest(image.id): config_size},
    )


def _descriptor_from_proto(descriptor: types_pb2.Descriptor) -> Descriptor:
    return Descriptor(descriptor.media_type, Digest(descriptor.digest), descriptor.size)


async def _ask(call: "WriteCall", request: pb.WriteContentRequest) -> UploadState:
    await call.write(request)
    reply = await call.read()
    if not isinstance(reply, pb.WriteContentResponse):
        raise UnavailableError("the content store ended a write early")
    return UploadState(reply.offset, Digest(reply.digest))


async def _hang_up(call: "WriteCall") -> None:
    await call.done_writing()
    await call.read()  # raises how it ended, a commit that failed among others


@contextmanager
def _answering() -> Iterator[None]:
    """Say who does not answer: gRPC's own words name a socket at best."""
    try:
        with rpc_errors():
            yield
    except UnavailableError as error:
        raise UnavailableError(f"the content store: {error}") from error
