"""Lists that are asked for again and again."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.message import Message

from sampan.api.image.v1 import images_pb2 as pb
from sampan.client.calls import Recent

LIST = pb.DESCRIPTOR.services_by_name["Images"].methods_by_name["List"]


class Channel:
    """Answers every call with ``pages``."""

    def __init__(self) -> None:
        self.pages: list[bytes] = []
        self.name = ""
        self.sent: list[bytes] = []

    def unary_stream(self, name: str, request_serializer: Callable[[Message], bytes]) -> Any:
        self.name = name

        def call(request: Message, timeout: float | None) -> Call:
            self.sent.append(request_serializer(request))
            return Call(list(self.pages))

        return call


class Call:
    def __init__(self, pages: list[bytes]) -> None:
        self._pages = pages

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for page in self._pages:
            yield page

    def add_done_callback(self, _tell: Callable[[Any], None]) -> None:
        pass

    def cancel(self) -> None:
        pass


def page(parent: str) -> bytes:
    return pb.ListResponse(images=[pb.Image(parent=parent)]).SerializeToString()


async def test_page_that_has_not_changed_is_decoded_once() -> None:
    channel, decoded = Channel(), []

    def decode(message: pb.ListResponse) -> str:
        decoded.append(message.images[0].parent)
        return decoded[-1]

    recent = Recent(channel, LIST, pb.ListResponse, decode)  # type: ignore[arg-type]  # a fake
    assert channel.name == "/sampan.image.v1.Images/List"
    channel.pages = [page("one"), page("two")]
    assert [one async for one in recent.pages(pb.ListRequest())] == ["one", "two"]
    channel.pages = [page("two"), page("three")]
    assert [one async for one in recent.pages(pb.ListRequest())] == ["two", "three"]
    assert decoded == ["one", "two", "three"]


async def test_request_is_sent_as_it_is() -> None:
    channel = Channel()
    recent = Recent(channel, LIST, pb.ListResponse, lambda message: message)  # type: ignore[arg-type]  # a fake
    assert [one async for one in recent.pages(pb.ListRequest(manifests=True))] == []
    assert pb.ListRequest.FromString(channel.sent[0]) == pb.ListRequest(manifests=True)


async def test_no_more_than_some_pages_are_kept() -> None:
    channel, decoded = Channel(), []
    recent = Recent(channel, LIST, pb.ListResponse, lambda message: decoded.append(message.images[0].parent))  # type: ignore[arg-type]  # a fake
    channel.pages = [page(str(number)) for number in range(40)]
    for _ in range(2):
        assert [one async for one in recent.pages(pb.ListRequest())] == [None] * 40
    assert len(decoded) == 80
