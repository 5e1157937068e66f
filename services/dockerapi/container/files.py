"""Files of containers: /containers/{id}/archive, which ``docker cp`` uses."""

import base64
import json
import stat
from contextlib import aclosing
from typing import Final

from aiohttp import web
from aiohttp.http import HttpVersion11

from dockerapi.http.body import Body
from dockerapi.http.call import Call, break_off, streamed
from dockerapi.http.connection import Connection
from dockerapi.http.routing import Route
from sampan.docker.times import rfc3339_ns
from sampan.errors import InvalidArgumentError, SampanError
from sampan.resource.container import PathStat
from sampan.resource.streams import OpenBody

_STAT_HEADER: Final = "X-Docker-Container-Path-Stat"

# Go's own numbers for what the kernel has in st_mode.
_KINDS: Final = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_BITS: Final = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


def go_mode(mode: int) -> int:
    """Return ``st_mode`` as Go's ``os.FileMode``."""
    kind = _KINDS.get(stat.S_IFMT(mode), 0)
    return kind | mode & 0o777 | sum(bit for mask, bit in _BITS.items() if mode & mask)


def stat_header(found: PathStat) -> str:
    """Return what clients learn of a path before its archive: JSON in base64."""
    fields: dict[str, object] = {
        "name": found.name,
        "size": found.size_bytes,
        "mode": go_mode(found.mode),
        "mtime": rfc3339_ns(found.modified_ns),
        "linkTarget": found.link_target,
    }
    return base64.b64encode(json.dumps(fields).encode()).decode()


def _path(call: Call) -> str:
    if not (path := call.text("path")):
        raise InvalidArgumentError("Bad parameters: path is empty")
    return path


async def get(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/archive, and HEAD, which tells what there is."""
    container, path = call.args["id"], _path(call)
    if call.request.method == "HEAD":
        # Sent when all is over: what a client asks for next on this connection is then seen as that.
        found = stat_header(await call.files.stat(container, path))
        return web.Response(headers={_STAT_HEADER: found}, content_type="application/x-tar")
    response = streamed("application/x-tar")
    connection = Connection.of(call.request)
    direct = call.files.takes_descriptors and connection.is_plain and call.request.version >= HttpVersion11
    try:
        async with aclosing(call.files.read(container, path, connection.outlet if direct else None)) as parts:
            async for part in parts:
                if isinstance(part, PathStat):
                    response.headers[_STAT_HEADER] = stat_header(part)
                    await response.prepare(call.request)
                else:
                    await response.write(part)
    except SampanError as error:
        if not response.prepared:
            raise
        break_off(call.request, error)
    await response.write_eof()
    return response


async def put(call: Call) -> web.StreamResponse:
    """PUT /containers/{id}/archive."""
    container, path, keep_kinds = call.args["id"], _path(call), call.flag("noOverwriteDirNonDir")
    response = web.Response(status=200)
    connection = Connection.of(call.request)
    if call.files.takes_descriptors:
        with connection.lent() as lent:
            if lent is not None:
                await call.files.write(container, path, OpenBody(lent.fd, lent.begun), keep_kinds=keep_kinds)
                lent.is_read = True
                response.force_close()
                return response
    connection.speak_http()  # what came together with the head is a part of the body
    body = Body(call.request)
    try:
        await call.files.write(container, path, body.chunks(), keep_kinds=keep_kinds)
    finally:
        body.close()
    return response


ROUTES: Final = (
    Route("GET", "/containers/{id}/archive", get, follows=True),
    Route("PUT", "/containers/{id}/archive", put, follows=True),
)
