"""What a session of one's own serves in long streams: directories, uploads, and where results go.

A tree of files is several messages for each of them, and grpcio takes 0.1 to 0.3 ms for one: a result of 5,000 files
was seconds. So these calls are answered over ``sampan.wire.http2``.

Messages are bytes here: a result is a file or a tree, which one only the export that asked for it knows.

Reference: moby/buildkit, ``session/filesync``, ``session/upload``.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias
from urllib.parse import unquote_plus

from google.protobuf.message import DecodeError

from sampan.api.buildkit.session.v1 import filesync_pb2, upload_pb2
from sampan.build.protocols import Served, Sink
from sampan.client.builds.packets import receive_tree, send_tree
from sampan.errors import NotFoundError, RemoteError, SampanError
from sampan.fsutil.selection import Selection, follow_links
from sampan.log import log
from sampan.wire.http2.call import ServedCall
from sampan.wire.http2.connection import Connection
from sampan.wire.http2.frames import ErrorCode
from sampan.wire.http2.relay import HEAD, ending, path_of, relay
from sampan.wire.http2.stream import Headers, Stream

_EXPORTER: Final = "buildkit-attachable-exporter-id"
# The builder's bound for messages is 16 MiB, BuildKit's 4.
_PIECE_BYTES: Final = 1 << 20

_Metadata: TypeAlias = Mapping[str, Sequence[str]]


class _Packets:
    """A ``PacketCall`` of the side that is called."""

    def __init__(self, request: Stream) -> None:
        self._request = request
        self._call = ServedCall(request)

    async def receive(self) -> list[bytes]:
        return await self._call.receive()

    async def send(self, message: bytes, *, end: bool = False) -> None:
        await self._call.send(message)
        if end:
            self._request.take_no_more()  # with its last word the side that is called ends the call

    async def send_all(self, messages: Iterable[bytes]) -> None:
        await self._call.send_all(messages)


class ServedFiles:
    """Answers the calls that ask for a client's files, or bring some."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._uploads = dict(served.uploads)
        self._handlers = {
            "/moby.filesync.v1.FileSync/DiffCopy": self._send_directory,
            "/moby.filesync.v1.FileSend/DiffCopy": self._take_result,
            "/moby.upload.v1.Upload/Pull": self._upload,
        }

    def answer(self, request: Stream, headers: Headers, behind: Connection) -> Coroutine[None, None, None]:
        """See ``relay.Work``: what does not ask for files is passed on."""
        path = path_of(headers)
        return self._answer(path, request, headers) if path in self._handlers else relay(request, headers, behind)

    async def _answer(self, path: str, request: Stream, headers: Headers) -> None:
        error: Exception | None = None
        try:
            request.send_headers(HEAD)
            await self._handlers[path](_Packets(request), _metadata(headers))
        except SampanError as known:
            error = known
        except Exception as bug:  # noqa: BLE001 - it is logged, and the call still ends
            log.exception("a session's call failed", path=path)
            error = bug
        finally:
            request.send_headers(ending(error), end=True)
            request.close(ErrorCode.NO_ERROR)

    async def _send_directory(self, call: _Packets, asked: _Metadata) -> None:
        name = _first(asked, "dir-name")
        root = self._served.directories.get(name)
        if root is None:
            raise NotFoundError(f'no access allowed to dir "{name}"')
        with _transfer():
            follow = asked.get("followpaths", [])
            followed = await asyncio.to_thread(follow_links, root, follow) if follow else []
            include = [*asked.get("include-patterns", []), *followed]
            selection = Selection(include, asked.get("exclude-patterns", []))
            await send_tree(call, root, selection=selection)

    async def _take_result(self, call: _Packets, asked: _Metadata) -> None:
        number = _first(asked, _EXPORTER) or "0"
        sink = self._served.outputs.get(number) or Sink()
        with _transfer():
            if sink.directory is not None:
                await asyncio.to_thread(sink.directory.mkdir, parents=True, exist_ok=True)
                await receive_tree(call, sink.directory, merge=True)
                return
            if sink.write is not None:
                await sink.write(_pieces(call))
                return
        raise NotFoundError(f"no output for export {number}")

    async def _upload(self, call: _Packets, asked: _Metadata) -> None:
        """Send what is uploaded under an ID, once."""
        name = _first(asked, "urlpath").strip("/")
        begin = self._uploads.pop(name, None)
        if begin is None:
            raise NotFoundError(f"no upload {name}")
        with _transfer():
            async for chunk in begin():
                for at in range(0, len(chunk), _PIECE_BYTES):
                    piece = chunk[at : at + _PIECE_BYTES]
                    await call.send(upload_pb2.BytesMessage(data=piece).SerializeToString())


@contextmanager
def _transfer() -> Iterator[None]:
    """Have what fails within told in its own words, and as nothing but that: its kind means something else there."""
    try:
        yield
    except SampanError as error:
        raise RemoteError(str(error)) from error
    except OSError as error:
        raise RemoteError(f"{error.filename or 'output'}: {error.strerror}") from error


async def _pieces(call: _Packets) -> AsyncIterator[bytes]:
    while messages := await call.receive():
        for message in messages:
            try:
                yield filesync_pb2.BytesMessage.FromString(message).data
            except DecodeError as error:
                raise RemoteError("a file comes in messages that are none") from error


def _first(asked: _Metadata, name: str) -> str:
    return (asked.get(name) or [""])[0]


def _metadata(headers: Headers) -> _Metadata:
    """Return a call's metadata; values that are escaped, as for a URL's query, are decoded."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    return {
        name: [unquote_plus(value, errors="surrogateescape") for value in values]
        if found.get(f"{name}-encoded") == ["1"]
        else values
        for name, values in found.items()
    }
