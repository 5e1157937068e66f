"""``/v2/<name>/blobs/<digest>``."""

from contextlib import aclosing

from aiohttp import web

from registryd.http.call import Call
from registryd.http.names import parse_digest
from registryd.repositories.ranges import parse_range


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
