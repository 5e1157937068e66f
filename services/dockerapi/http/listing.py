"""Answers with lists of any length: written as they are made, in pieces, as fast as the client reads."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

from aiohttp import web

from dockerapi.http.call import break_off, streamed
from dockerapi.http.encode import Written, encode
from sampan.errors import SampanError

# An answer that is shorter goes out whole, with its length; of a longer one this much is in memory, and one page.
_PIECE_BYTES: Final = 256 << 10

T = TypeVar("T")

Rows = AsyncGenerator[Sequence[object], None]  # some rows at a time


class Part(NamedTuple):
    """A member of an object."""

    name: str
    value: object  # plain, or ``Rows``


async def rows_of(pages: AsyncGenerator[Sequence[T], None], render: Callable[[T], object]) -> Rows:
    """Yield what ``render`` makes of each object, page by page; closing the iterator closes ``pages``."""
    async with aclosing(pages):
        async for page in pages:
            yield [render(one) for one in page]


async def reply_list(request: web.BaseRequest, rows: Rows, *, empty: bytes = b"[]") -> web.StreamResponse:
    """Answer with a list; ``empty`` is what stands for one without rows. Closes ``rows``.

    What goes wrong before the first piece is out is raised; afterwards the answer is broken off.
    """
    async with _Answer(request) as answer:
        await answer.rows(rows, empty)
        return await answer.end(b"\n")


async def reply_object(
    request: web.BaseRequest, *parts: Part, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Answer with an object of ``parts``, in their order; otherwise as ``reply_list``."""
    async with _Answer(request, headers or {}) as answer, AsyncExitStack() as stack:
        for part in parts:
            if isinstance(part.value, AsyncGenerator):
                stack.push_async_callback(part.value.aclose)
        mark = b"{"
        for part in parts:
            await answer.put(mark + encode(part.name)[:-1] + b":")
            if isinstance(part.value, AsyncGenerator):
                await answer.rows(part.value, b"[]")
            else:
                await answer.put(encode(part.value)[:-1])
            mark = b","
        return await answer.end(b"}\n")


class _Answer:
    """One answer; its head goes out with the first full piece. Broken off if an error leaves the block after that."""

    def __init__(self, request: web.BaseRequest, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self._request = request
        self._headers = headers
        self._pieces: list[bytes] = []
        self._size = 0
        self._response: web.StreamResponse | None = None

    async def __aenter__(self) -> "_Answer":
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._response is not None and isinstance(error, SampanError):
            break_off(self._request, error)

    async def rows(self, rows: Rows, empty: bytes) -> None:
        mark = b"["
        async with aclosing(rows):
            async for some in rows:
                if some:
                    await self.put(mark + _written(some))
                    mark = b","
        await self.put(empty if mark == b"[" else b"]")

    async def put(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size < _PIECE_BYTES:
            return
        if self._response is None:
            self._response = streamed("application/json")
            self._response.headers.update(self._headers)
            await self._response.prepare(self._request)
        await self._response.write(self._taken())

    async def end(self, last: bytes) -> web.StreamResponse:
        body = self._taken() + last
        if self._response is None:
            return web.Response(body=body, content_type="application/json", headers=self._headers)
        await self._response.write_eof(body)
        return self._response

    def _taken(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return taken


def _written(rows: Sequence[object]) -> bytes:
    """Return rows with commas between them; those of one list are all of one kind."""
    if isinstance(rows[0], Written):
        return b",".join([row for row in rows if isinstance(row, Written)])
    return encode(rows)[1:-2]
