"""``/v2/<name>/blobs/<digest>`` and ``/v2/<name>/blobs/uploads/``."""

import contextlib
from contextlib import aclosing

from aiohttp import web

from registryd.http.call import Call, parse_digest, parse_repository
from registryd.repositories.ranges import parse_content_range, parse_range
from registryd.repositories.refusal import Code, RefusedError
from registryd.repositories.uploads import span
from sampan.errors import SampanError
from sampan.oci.digest import Digest


async def get_blob(call: Call) -> web.StreamResponse:
    """Send a blob or a part of it; for HEAD, say how large it is."""
    digest = parse_digest(call.args["digest"])
    size = await call.parts.blobs.size(call.repository, digest, counted_on=call.is_head)
    headers = {
        "Docker-Content-Digest": str(digest),
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": f'"{digest}"',
    }
    if call.request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    span = None if call.is_head else parse_range(call.request.headers.get("Range"), size)
    first, length = (span.first, span.size) if span else (0, size)
    if span:
        headers["Content-Range"] = span.header(size)
    response = web.StreamResponse(status=206 if span else 200, headers=headers)
    response.content_length = length
    if call.is_head or not length:
        await response.prepare(call.request)
        await response.write_eof()
        return response
    async with aclosing(call.parts.blobs.read(digest, first, length)) as pieces:
        piece = await anext(pieces, b"")  # what cannot be read at all gets an answer that says so
        await response.prepare(call.request)
        while piece:
            await call.send(response, piece)
            piece = await anext(pieces, b"")
    await response.write_eof()
    return response


async def delete_blob(call: Call) -> web.StreamResponse:
    """Remove a blob that no manifest needs."""
    await call.parts.blobs.delete(call.repository, parse_digest(call.args["digest"]))
    return web.Response(status=202)


async def begin_upload(call: Call) -> web.StreamResponse:
    """Begin an upload; or take the blob from another repository; or receive it whole."""
    query = call.request.query
    if "mount" in query:
        digest = parse_digest(query["mount"])
        source = parse_repository(query["from"]) if query.get("from") else None
        if await call.parts.blobs.mount(call.repository, digest, source):
            return _created(call, digest)
    elif "digest" in query:
        return await _receive_whole(call, parse_digest(query["digest"]))
    upload = await call.parts.uploads.begin(call.repository)
    return _accepted(call, upload, 0)


async def _receive_whole(call: Call, digest: Digest) -> web.StreamResponse:
    uploads = call.parts.uploads
    upload = await uploads.begin(call.repository)
    try:
        await uploads.append(call.repository, upload, call.pieces())
        await uploads.finish(call.repository, upload, digest)
    except BaseException:
        with contextlib.suppress(SampanError):  # nobody knows its name, so nobody can go on with it
            await uploads.cancel(call.repository, upload)
        raise
    return _created(call, digest)


async def upload_state(call: Call) -> web.StreamResponse:
    """Say how far an upload is."""
    arrived = await call.parts.uploads.offset(call.repository, call.args["upload"])
    return _accepted(call, call.args["upload"], arrived, 204)


async def add_to_upload(call: Call) -> web.StreamResponse:
    """Receive a chunk."""
    return _accepted(call, call.args["upload"], await _append(call))


async def finish_upload(call: Call) -> web.StreamResponse:
    """Receive the last chunk, if there is one, and make a blob of all."""
    text = call.request.query.get("digest")
    if text is None:
        raise RefusedError(Code.DIGEST_INVALID, "an upload is ended with its digest: ?digest=sha256:…")
    digest = parse_digest(text)
    if call.request.can_read_body:
        await _append(call)
    await call.parts.uploads.finish(call.repository, call.args["upload"], digest)
    return _created(call, digest)


async def cancel_upload(call: Call) -> web.StreamResponse:
    """Drop an upload."""
    await call.parts.uploads.cancel(call.repository, call.args["upload"])
    return web.Response(status=204)


async def _append(call: Call) -> int:
    upload = call.args["upload"]
    first = parse_content_range(call.request.headers.get("Content-Range"), call.length)
    try:
        return await call.parts.uploads.append(call.repository, upload, call.pieces(), first)
    except RefusedError as error:
        if error.code is Code.RANGE_INVALID:
            error.headers["Location"] = call.upload_path(upload)
        raise


def _accepted(call: Call, upload: str, arrived: int, status: int = 202) -> web.Response:
    headers = {"Location": call.upload_path(upload), "Range": span(arrived), "Docker-Upload-UUID": upload}
    return web.Response(status=status, headers=headers)


def _created(call: Call, digest: Digest) -> web.Response:
    return web.Response(status=201, headers={"Location": call.blob_path(digest), "Docker-Content-Digest": str(digest)})
