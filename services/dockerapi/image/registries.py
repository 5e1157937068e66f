"""What registries say: /distribution/{name}/json and /images/search."""

from typing import Final

from aiohttp import web

from dockerapi.http.call import Call, reply
from dockerapi.http.routing import Route
from dockerapi.image import parameters
from sampan.docker.views.image_view import descriptor_json, platform_json, result_json
from sampan.errors import InvalidArgumentError


async def distribution(call: Call) -> web.StreamResponse:
    """GET /distribution/{name}/json: what a name points to at its registry."""
    credentials = parameters.from_header(call.request.headers.get("X-Registry-Auth", ""))
    found = await call.images.images.inspect(call.args["name"], credentials)
    return reply(
        {
            "Descriptor": descriptor_json(found.target),
            "Platforms": [platform_json(platform) for platform in found.platforms] or None,
        }
    )


async def search(call: Call) -> web.StreamResponse:
    """GET /images/search."""
    limit = call.number("limit", 0)
    assert limit is not None
    if not -(1 << 31) <= limit < 1 << 31:
        raise InvalidArgumentError(f"invalid value for limit: {limit} is out of range")
    credentials = parameters.from_header(call.request.headers.get("X-Registry-Auth", ""))
    found = await call.images.search_images(
        call.text("term"), limit=limit, filters=call.filters(), credentials=credentials
    )
    return reply([result_json(each) for each in found])


ROUTES: Final = (
    Route("GET", "/distribution/{name+}/json", distribution),
    Route("GET", "/images/search", search),
)
