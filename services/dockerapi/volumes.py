"""Volumes: /volumes/…"""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from dockerapi.http.call import Call, empty, reply, to_filters
from dockerapi.http.fields import Fields
from dockerapi.http.listing import Part, reply_object, rows_of
from dockerapi.http.routing import Route
from dockerapi.system.swarm import NOT_MANAGER
from sampan.docker.views.volume_view import volume_json
from sampan.errors import NotFoundError, UnavailableError
from sampan.resource.volume import VolumeRequest


async def listing(call: Call) -> web.StreamResponse:
    """GET /volumes."""
    rows = rows_of(call.volumes.pages(call.chosen()), volume_json)
    return await reply_object(call.request, Part("Volumes", rows), Part("Warnings", None))


async def inspect(call: Call) -> web.StreamResponse:
    """GET /volumes/{name}."""
    return reply(volume_json(await call.volumes.get(call.args["name"])))


async def create(call: Call) -> web.StreamResponse:
    """POST /volumes/create. One of a cluster, which docker's ``--scope`` and its like ask for, takes a swarm."""
    body = await call.body()
    if Fields(body, "").has("ClusterVolumeSpec") and call.version >= (1, 42):
        raise UnavailableError(NOT_MANAGER)
    return reply(volume_json(await call.volumes.create(parse_request(body))), 201)


def parse_request(body: Mapping[str, object]) -> VolumeRequest:
    """Read the body."""
    sent = Fields(body, "")
    return VolumeRequest(sent.text("Name"), sent.text("Driver"), sent.mapping("DriverOpts"), sent.mapping("Labels"))


async def update(call: Call) -> web.StreamResponse:
    """PUT /volumes/{name}: of a volume of a cluster, which takes a swarm; earlier versions have no such path."""
    if call.version < (1, 42):
        raise NotFoundError("page not found")
    raise UnavailableError(NOT_MANAGER)


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /volumes/{name}."""
    await call.volumes.remove(call.args["name"], force=call.flag("force"))
    return empty()


async def prune(call: Call) -> web.StreamResponse:
    """POST /volumes/prune: anonymous ones, or with the filter ``all``, which older clients imply, every unused one."""
    filters = call.filters()
    if call.version < (1, 42):
        filters.setdefault("all", ["true"])
    pruned = await call.volumes.prune(to_filters(filters))
    return reply({"VolumesDeleted": list(pruned.removed), "SpaceReclaimed": pruned.reclaimed_bytes})


ROUTES: Final = (
    Route("GET", "/volumes", listing),
    Route("POST", "/volumes/create", create),
    Route("POST", "/volumes/prune", prune),
    Route("GET", "/volumes/{name+}", inspect),
    Route("PUT", "/volumes/{name+}", update, alone=True),
    Route("DELETE", "/volumes/{name+}", remove),
)
