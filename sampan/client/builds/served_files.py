"""Directories that a session of one's own serves, and where results go: trees of files over calls.

Messages are bytes here: a result is a file or a tree, which one only the export that asked for it knows.

Reference: moby/buildkit, ``session/filesync``.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final
from urllib.parse import unquote_plus

import grpc

from sampan.api.buildkit.session.v1 import filesync_pb2
from sampan.build.protocols import Served, Sink
from sampan.client.builds.packets import receive_tree, send_tree
from sampan.errors import SampanError
from sampan.fsutil.selection import Selection, follow_links

_SYNC: Final = "moby.filesync.v1.FileSync"
_SEND: Final = "moby.filesync.v1.FileSend"
_METHOD: Final = "DiffCopy"
_EXPORTER: Final = "buildkit-attachable-exporter-id"

Context = grpc.aio.ServicerContext[bytes, bytes]


class _Stream:
    """A ``PacketCall`` of the side that is called."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._over = asyncio.Event()

    async def receive(self) -> list[bytes]:
        reading: asyncio.Future[Any] = asyncio.ensure_future(self._context.read())
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait({reading, over}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return []
            message = reading.result()
            return [] if message is grpc.aio.EOF else [message]
        finally:
            reading.cancel()
            over.cancel()

    async def send(self, message: bytes, *, end: bool = False) -> None:
        await self._context.write(message)
        if end:
            self._over.set()  # with its last word the side that is called ends the call

    async def send_all(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            await self._context.write(message)


def file_handlers(served: Served) -> list[grpc.GenericRpcHandler]:
    """Return what serves the directories and sinks of ``served``."""

    async def sync(_: object, context: Context) -> None:
        await _serve_directory(served, context)

    async def send(_: object, context: Context) -> None:
        await _take_result(served, context)

    return [
        grpc.method_handlers_generic_handler(name, {_METHOD: grpc.stream_stream_rpc_method_handler(handler)})
        for name, handler in ((_SYNC, sync), (_SEND, send))
    ]


async def _serve_directory(served: Served, context: Context) -> None:
    asked = _metadata(context)
    name = (asked.get("dir-name") or [""])[0]
    root = served.directories.get(name)
    if root is None:
        await context.abort(grpc.StatusCode.NOT_FOUND, f'no access allowed to dir "{name}"')
    try:
        follow = asked.get("followpaths", [])
        followed = await asyncio.to_thread(follow_links, root, follow) if follow else []
        include = [*asked.get("include-patterns", []), *followed]
        selection = Selection(include, asked.get("exclude-patterns", []))
        await send_tree(_Stream(context), root, selection=selection)
    except SampanError as error:
        await context.abort(grpc.StatusCode.UNKNOWN, str(error))


async def _take_result(served: Served, context: Context) -> None:
    number = (_metadata(context).get(_EXPORTER) or ["0"])[0]
    sink = served.outputs.get(number) or Sink()
    stream = _Stream(context)
    try:
        if sink.directory is not None:
            await asyncio.to_thread(sink.directory.mkdir, parents=True, exist_ok=True)
            await receive_tree(stream, sink.directory, merge=True)
        elif sink.write is not None:
            await sink.write(_pieces(stream))
        else:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no output for export {number}")
    except SampanError as error:
        await context.abort(grpc.StatusCode.UNKNOWN, str(error))
    except OSError as error:
        await context.abort(grpc.StatusCode.UNKNOWN, f"{error.filename or 'output'}: {error.strerror}")


async def _pieces(stream: _Stream) -> AsyncIterator[bytes]:
    while messages := await stream.receive():
        for message in messages:
            yield filesync_pb2.BytesMessage.FromString(message).data


def _metadata(context: Context) -> dict[str, list[str]]:
    """Return a call's metadata; values that are escaped, as for a URL's query, are decoded."""
    found: dict[str, list[str]] = {}
    for name, value in context.invocation_metadata() or ():
        found.setdefault(name, []).append(value if isinstance(value, str) else value.decode())
    return {
        name: [unquote_plus(value, errors="surrogateescape") for value in values]
        if found.get(f"{name}-encoded") == ["1"]
        else values
        for name, values in found.items()
    }
