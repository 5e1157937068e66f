"""``runtime.v1``'s two services, each put together of parts that know some of its methods."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final

import grpc
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message import Message

from sampan.api.cri.v1 import image_pb2, image_pb2_grpc, runtime_pb2, runtime_pb2_grpc
from sampan.errors import UnimplementedError

Context = grpc.aio.ServicerContext[Message, Message]
Unary = Callable[[Message, Context], Awaitable[Message]]
Streaming = Callable[[Message, Context], AsyncIterator[Message]]

_NAME: Final = "the Container Runtime Interface of Sampan"


def runtime_service(*parts: object) -> object:
    """Return a servicer of ``RuntimeService``: pods and their containers."""
    return _put_together(runtime_pb2_grpc.RuntimeServiceServicer, runtime_pb2.DESCRIPTOR, parts)


def image_service(*parts: object) -> object:
    """Return a servicer of ``ImageService``: images of the engine, as pods see them."""
    return _put_together(image_pb2_grpc.ImageServiceServicer, image_pb2.DESCRIPTOR, parts)


def _put_together(make: Callable[[], object], file: FileDescriptor, parts: Iterable[object]) -> object:
    """Return a servicer whose every method is that of the part which has it, else a refusal that names it.

    Raises:
        TypeError: two parts have the same method, or one has a method that the service does not.
    """
    (service,) = file.services_by_name.values()
    owners: dict[str, object] = {}
    for part in parts:
        for name in (name for name in dir(type(part)) if name[0].isupper()):
            if name in owners or name not in service.methods_by_name:
                raise TypeError(f"{type(part).__name__}.{name} is no method of {service.full_name}, or another's too")
            owners[name] = part
    servicer = make()
    for name, method in service.methods_by_name.items():
        setattr(servicer, name, getattr(owners[name], name) if name in owners else _refusal(method))
    return servicer


def _refusal(method: MethodDescriptor) -> Unary | Streaming:
    message = f"{method.name} is not implemented by {_NAME}"

    async def refuse(_: Message, __: Context) -> Message:
        raise UnimplementedError(message)

    async def refuse_stream(_: Message, __: Context) -> AsyncIterator[Message]:
        raise UnimplementedError(message)
        yield  # makes it a generator

    return refuse_stream if method.server_streaming else refuse
