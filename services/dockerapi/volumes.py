"""Volumes: /volumes/…"""

from typing import Any, Final

from aiohttp import web

from dockerapi.http.call import Call, empty, reply, to_proto
from dockerapi.http.fields import Fields
from dockerapi.http.listing import Part, reply_object, rows_of
from dockerapi.http.routing import Route
from dockerapi.http.times import rfc3339
from sampan.api.runtime.v1 import volumes_pb2
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import whole


def volume_json(volume: volumes_pb2.Volume) -> dict[str, Any]:
    """Return a volume as every endpoint shows it."""
    return {
        "CreatedAt": rfc3339(volume.created),
        "Driver": volume.driver,
        "Labels": dict(volume.labels) or None,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": dict(volume.options) or None,
        "Scope": "local",
    }


async def listing(call: Call) -> web.StreamResponse:
    """GET /volumes."""
    listed = call.engine.volumes.List(volumes_pb2.ListVolumesRequest(filters=call.proto_filters()))

    def rows(page: volumes_pb2.ListVolumesResponse) -> list[dict[str, Any]]:
        return [volume_json(volume) for volume in page.volumes]

    return await reply_object(call.request, Part("Volumes", rows_of(listed, rows)), Part("Warnings", None))


async def inspect(call: Call) -> web.StreamResponse:
    """GET /volumes/{name}."""
    with rpc_errors():
        volume = await call.engine.volumes.Get(volumes_pb2.GetVolumeRequest(name=call.args["name"]))
    return reply(volume_json(volume))


async def create(call: Call) -> web.StreamResponse:
    """POST /volumes/create."""
    sent = Fields(await call.body(), "")
    request = volumes_pb2.CreateVolumeRequest(
        name=sent.text("Name"),
        driver=sent.text("Driver"),
        options=sent.mapping("DriverOpts"),
        labels=sent.mapping("Labels"),
    )
    with rpc_errors():
        volume = await call.engine.volumes.Create(request)
    return reply(volume_json(volume), 201)


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /volumes/{name}."""
    request = volumes_pb2.RemoveVolumeRequest(name=call.args["name"], force=call.flag("force"))
    with rpc_errors():
        await call.engine.volumes.Remove(request)
    return empty()


async def prune(call: Call) -> web.StreamResponse:
    """POST /volumes/prune: anonymous ones, or with the filter ``all``, which older clients imply, every unused one."""
    filters = call.filters()
    if call.version < (1, 42):
        filters.setdefault("all", ["true"])
    with rpc_errors():
        pruned = await whole(call.engine.volumes.Prune(volumes_pb2.PruneVolumesRequest(filters=to_proto(filters))))
    return reply({"VolumesDeleted": list(pruned.removed) or None, "SpaceReclaimed": pruned.reclaimed_bytes})


ROUTES: Final = (
    Route("GET", "/volumes", listing),
    Route("POST", "/volumes/create", create),
    Route("POST", "/volumes/prune", prune),
    Route("GET", "/volumes/{name}", inspect),
    Route("DELETE", "/volumes/{name}", remove),
)
