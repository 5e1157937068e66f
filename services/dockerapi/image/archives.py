"""Images and containers as archives: /images/get, /images/load and /containers/{id}/export."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Final

from aiohttp import web

from dockerapi.http.body import Body
from dockerapi.http.call import Call, break_off, streamed
from dockerapi.http.routing import Route
from dockerapi.image import parameters
from dockerapi.image.images import stream_progress
from dockerapi.image.progress import moving
from sampan.engine.progress import LayerProgress, Loaded, Phase, Progress
from sampan.errors import InvalidArgumentError, SampanError
from sampan.json_types import JsonObject

_TAR: Final = "application/x-tar"


async def save_one(call: Call) -> web.StreamResponse:
    """GET /images/{name}/get."""
    return await _save(call, [call.args["name"]])


async def save(call: Call) -> web.StreamResponse:
    """GET /images/get: several images in one archive."""
    return await _save(call, call.request.query.getall("names", []))


async def _save(call: Call, names: Sequence[str]) -> web.StreamResponse:
    return await _archive(call, call.images.save_images(names, platforms=_platforms(call)))


def _platforms(call: Call) -> list[str]:
    """Return the platforms that are asked for, of which there may be several from 1.52 on; none: all."""
    asked = parameters.all_from_query(call.all_since((1, 48), "platform"))
    if len(asked) > 1 and call.version < (1, 52):
        raise InvalidArgumentError(
            "multiple platforms are not supported before API version 1.52: ask for one, or for all of them"
        )
    return asked


async def export(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/export."""
    return await _archive(call, call.images.export_container(call.args["id"]))


async def _archive(call: Call, pieces: AsyncGenerator[bytes, None]) -> web.StreamResponse:
    """Send an archive. What goes wrong before its first piece is an HTTP error; later the connection breaks off."""
    response = streamed(_TAR)
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                if not response.prepared:
                    await response.prepare(call.request)
                await response.write(piece)
        except SampanError as error:
            if not response.prepared:
                raise
            break_off(call.request, error)
    if not response.prepared:
        await response.prepare(call.request)
    await response.write_eof()
    return response


async def load(call: Call) -> web.StreamResponse:
    """POST /images/load."""
    body = Body(call.request)
    messages = _LoadMessages(quiet=call.flag("quiet"))
    try:
        return await stream_progress(
            call,
            call.images.load_images(body.chunks(), platforms=_platforms(call)),
            messages.render,
            refuses=False,  # dockerd has answered 200 before it looks at the archive
            outlives_client=True,  # tools go away as soon as they have sent it all
        )
    finally:
        body.close()


class _LoadMessages:
    """Turns events into what Docker's client prints."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def render(self, event: Progress) -> Iterator[JsonObject]:
        if isinstance(event, Loaded):
            for reference in event.references:
                yield {"stream": f"Loaded image: {reference}\n"}
            if not event.references:
                yield {"stream": f"Loaded image ID: {event.image_id}\n"}
        elif isinstance(event, LayerProgress) and event.phase in (Phase.EXTRACTING, Phase.COMPLETE) and not self._quiet:
            layer = event.digest.removeprefix("sha256:")[:12]
            yield moving("Loading layer", layer, event.current, event.total)


ROUTES: Final = (
    Route("GET", "/images/get", save, follows=True),
    Route("GET", "/images/{name+}/get", save_one, follows=True),
    Route("POST", "/images/load", load),
    Route("GET", "/containers/{id}/export", export, follows=True),
)
