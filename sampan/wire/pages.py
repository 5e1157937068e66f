"""Answers of any length as streams of messages of bounded size, and back.

A list may be of any length, while gRPC refuses a message that is larger than ``harness.MAX_MESSAGE_BYTES``, and a large
one is in memory several times on both sides. So whatever grows with what is stored comes in pages: messages with one
repeated field, each closed as soon as it holds ``PAGE_BYTES``. An item is never divided: how large one may be is
decided where it comes in.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.message import Message

# Most lists are one page, which costs hardly more than a unary answer; and nobody waits for a page.
PAGE_BYTES: Final = 512 << 10

# What precedes an item on the wire: field 1, of a length that is told.
_FIRST: Final = 1 << 3 | 2

M = TypeVar("M", bound=Message)
Received = TypeVar("Received", bound=Message, covariant=True)
T = TypeVar("T")


class Pages(Protocol[Received]):
    """A call that answers with a stream, as gRPC returns it."""

    def __aiter__(self) -> AsyncIterator[Received]:
        """Its messages."""

    def cancel(self) -> bool:
        """End it."""


def pages(kind: type[M], field: str, items: Iterable[Any], **others: Any) -> Iterator[M]:
    """Yield messages of ``kind`` with ``items``, messages or text, in ``field``; there is one even without items.

    ``others`` are set in the last one.
    """
    page = kind()
    repeated, size = getattr(page, field), 0
    for item in items:
        if size >= PAGE_BYTES:
            yield page
            page = kind()
            repeated, size = getattr(page, field), 0
        repeated.append(item)
        size += size_of(item)
    page.MergeFrom(kind(**others))
    yield page


def items_of(page: bytes) -> list[bytes] | None:
    """Return the messages in a page as they were sent; None if it holds more than its first field, or is none."""
    items: list[bytes] = []
    begin, end = 0, len(page)
    try:
        while begin < end:
            if page[begin] != _FIRST:
                return None
            size, shift = 0, 0
            while True:
                begin += 1
                byte = page[begin]
                size |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
            begin += 1
            items.append(page[begin : begin + size])
            begin += size
    except IndexError:
        return None
    return items if begin == end else None


def batches(items: Iterable[T], size: Callable[[T], int], limit: int = PAGE_BYTES) -> Iterator[list[T]]:
    """Yield ``items`` in lists that are closed as soon as what ``size`` says of theirs comes to ``limit``."""
    batch: list[T] = []
    total = 0
    for item in items:
        batch.append(item)
        total += size(item)
        if total >= limit:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def size_of(item: Message | str) -> int:
    """Return how much a message takes that holds ``item``, nearly."""
    return item.ByteSize() if isinstance(item, Message) else len(item)


async def send(messages: Iterable[M]) -> AsyncIterator[M]:
    """Yield ``messages`` as a request that streams."""
    for message in messages:
        yield message


async def whole(call: Pages[M]) -> M:
    """Return the pages of an answer as one message. Belongs in ``rpc_errors``."""
    result: M | None = None
    async for page in call:
        if result is None:
            result = page
        else:
            result.MergeFrom(page)
    assert result is not None, "an answer in pages has at least one"
    return result
