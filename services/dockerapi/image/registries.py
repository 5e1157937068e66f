"""What registries say: /distribution/{name}/json and /images/search."""

from typing import Any, Final

from aiohttp import web

from dockerapi.http.call import Call, reply
from dockerapi.http.routing import Route
from dockerapi.image import registry_auth
from sampan.api.image.v1 import images_pb2
from sampan.errors import InvalidArgumentError
from sampan.wire.channel import rpc_errors


async def distribution(call: Call) -> web.StreamResponse:
    """GET /distribution/{name}/json: what a name points to at its registry."""
    credentials = registry_auth.from_header(call.request.headers.get("X-Registry-Auth", ""))
    request = images_pb2.InspectRequest(reference=call.args["name"], credentials=credentials)
    with rpc_errors():
        found = await call.engine.images.Inspect(request)
    target = found.target
    return reply(
        {
            "Descriptor": {"mediaType": target.media_type, "digest": target.digest, "size": target.size},
            "Platforms": [platform_json(platform) for platform in found.platforms] or None,
        }
    )


def platform_json(platform: images_pb2.Platform) -> dict[str, str]:
    """Return a platform as the OCI image spec writes it."""
    result = {"architecture": platform.architecture, "os": platform.os}
    return result | ({"variant": platform.variant} if platform.variant else {})


async def search(call: Call) -> web.StreamResponse:
    """GET /images/search."""
    limit = call.number("limit", 0)
    assert limit is not None
    if not -(1 << 31) <= limit < 1 << 31:
        raise InvalidArgumentError(f"invalid value for limit: {limit} is out of range")
    credentials = registry_auth.from_header(call.request.headers.get("X-Registry-Auth", ""))
    found = await call.engine.search_images(
        call.text("term"), limit=limit, filters=call.filters(), credentials=credentials
    )
    return reply([_result(each) for each in found])


def _result(found: images_pb2.SearchResponse.Result) -> dict[str, Any]:
    return {
        "star_count": found.stars,
        "is_official": found.official,
        "name": found.name,
        "is_automated": False,  # as Docker says of all of them
        "description": found.description,
    }


ROUTES: Final = (
    Route("GET", "/distribution/{name+}/json", distribution),
    Route("GET", "/images/search", search),
)
