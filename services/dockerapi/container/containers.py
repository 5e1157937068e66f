"""Containers: /containers/…, except for their streams, logs and statistics."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

from aiohttp import web

from dockerapi.container import create_body, host_config, mount_specs
from dockerapi.container.container_json import inspect_json, summary_json
from dockerapi.container.execs import query_size
from dockerapi.http.call import Call, JsonStream, empty, reply, to_proto
from dockerapi.http.fields import Fields
from dockerapi.http.listing import Part, reply_list, reply_object, rows_of
from dockerapi.http.routing import Route
from sampan.api.image.v1 import images_pb2
from sampan.api.runtime.v1 import containers_pb2, spec_pb2
from sampan.api.snapshot.v1 import layers_pb2
from sampan.engine import following
from sampan.engine.changes import Change, container_changes
from sampan.engine.sizes import sizes
from sampan.errors import InvalidArgumentError, NotFoundError, SampanError
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import page_by_page, whole

_CONDITIONS: Final = {
    "": containers_pb2.WaitContainerRequest.NOT_RUNNING,
    "not-running": containers_pb2.WaitContainerRequest.NOT_RUNNING,
    "next-exit": containers_pb2.WaitContainerRequest.NEXT_EXIT,
    "removed": containers_pb2.WaitContainerRequest.REMOVED,
}

_CHANGES: Final = 1000  # made into JSON at a time: a few milliseconds
_CHANGE_KINDS: Final = {
    layers_pb2.ChangesResponse.MODIFIED: 0,
    layers_pb2.ChangesResponse.ADDED: 1,
    layers_pb2.ChangesResponse.DELETED: 2,
}


async def create(call: Call) -> web.StreamResponse:
    """POST /containers/create."""
    body = await call.body(required=True)
    spec, ignored = create_body.parse(body, call.text("name"), call.version)
    for text in Fields(body, "").fields("HostConfig").texts("VolumesFrom"):
        await _inherit(call, spec, text)
    with call.backend.metrics.action("create"):
        container_id, warnings = await call.engine.create_container(spec, platform=call.text("platform"))
    return reply({"Id": container_id, "Warnings": [*ignored, *warnings]}, 201)


async def _inherit(call: Call, spec: spec_pb2.ContainerSpec, text: str) -> None:
    name, read_only = mount_specs.parse_volumes_from(text)
    try:
        with rpc_errors():
            source = await call.engine.containers.Get(containers_pb2.GetContainerRequest(container=name))
    except NotFoundError as error:  # clients take a 404 from create for a missing image, and pull it
        raise InvalidArgumentError(str(error)) from error
    spec.mounts.extend(mount_specs.inherited(source.mounts, spec.mounts, read_only=read_only))


async def listing(call: Call) -> web.StreamResponse:
    """GET /containers/json."""
    filters = call.filters()
    limit = call.number("limit", 0) or 0
    request = containers_pb2.ListContainersRequest(
        # Asking for the newest few, or for a state, is asking among all.
        all=call.flag("all") or limit > 0 or "status" in filters,
        filters=to_proto(await _with_image_ids(call, filters)),
        limit=max(limit, 0),
        size=call.flag("size"),
    )
    stored = await sizes(call.engine) if request.size else None
    now = time.time()

    def rows(page: containers_pb2.ListContainersResponse) -> list[dict[str, Any]]:
        shown = [summary_json(container, call.version, now) for container in page.containers]
        if stored is not None:
            for row, container in zip(shown, page.containers, strict=True):
                row["SizeRootFs"] = container.size_rw_bytes + stored.chain_bytes(container.spec.chain_id)
        return shown

    return await reply_list(call.request, rows_of(call.engine.containers.List(request), rows))


async def _with_image_ids(call: Call, filters: dict[str, list[str]]) -> dict[str, list[str]]:
    """Add to ``ancestor`` the IDs of the images that it names; runtimed knows no image names but those as given."""
    if "ancestor" not in filters:
        return filters
    ids = []
    for name in filters["ancestor"]:
        try:
            with rpc_errors():
                ids.append((await call.engine.images.Get(images_pb2.GetRequest(image=name))).id)
        except (NotFoundError, InvalidArgumentError):
            continue  # a name that is gone may still be in a container's record
    return {**filters, "ancestor": [*filters["ancestor"], *ids]}


async def inspect(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/json."""
    request = containers_pb2.GetContainerRequest(container=call.args["id"], size=call.flag("size"))
    with rpc_errors():
        container = await call.engine.containers.Get(request)
    result = inspect_json(container, call.version)
    if request.size:
        stored = await sizes(call.engine)
        result["SizeRootFs"] = container.size_rw_bytes + stored.chain_bytes(container.spec.chain_id)
    return reply(result)


async def top(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/top."""
    request = containers_pb2.TopRequest(container=call.args["id"], ps_args=call.text("ps_args"))
    async with aclosing(page_by_page(call.engine.containers.Top(request))) as pages:
        titles = (await anext(pages)).titles  # the first page has nothing else
        rows = ([list(row.values) for row in page.processes] async for page in pages)
        return await reply_object(call.request, Part("Titles", list(titles)), Part("Processes", rows))


async def changes(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/changes; null if nothing changed."""
    with call.backend.metrics.action("changes"):
        found = await container_changes(call.engine, call.args["id"])
    rows = ([{"Path": one.path, "Kind": _CHANGE_KINDS[one.kind]} for one in some] async for some in _parts(found))
    return await reply_list(call.request, rows, empty=b"null")


async def _parts(found: Sequence[Change]) -> AsyncGenerator[Sequence[Change], None]:
    for first in range(0, len(found), _CHANGES):
        yield found[first : first + _CHANGES]


async def resize(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/resize."""
    request = containers_pb2.ResizeContainerRequest(container=call.args["id"], size=query_size(call))
    with rpc_errors():
        await call.engine.containers.Resize(request)
    return empty(200)


async def start(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/start."""
    with call.backend.metrics.action("start"), rpc_errors():
        await call.engine.containers.Start(containers_pb2.StartContainerRequest(container=call.args["id"]))
    return empty()


async def stop(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/stop."""
    request = containers_pb2.StopContainerRequest(
        container=call.args["id"], timeout_s=call.number("t"), signal=call.text("signal")
    )
    with rpc_errors():
        await call.engine.containers.Stop(request)
    return empty()


async def restart(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/restart."""
    request = containers_pb2.RestartContainerRequest(
        container=call.args["id"], timeout_s=call.number("t"), signal=call.text("signal")
    )
    with rpc_errors():
        await call.engine.containers.Restart(request)
    return empty()


async def kill(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/kill."""
    name = call.args["id"]
    try:
        with rpc_errors():
            await call.engine.containers.Kill(
                containers_pb2.KillContainerRequest(container=name, signal=call.text("signal"))
            )
    except NotFoundError as error:
        raise NotFoundError(f"Cannot kill container: {name}: {error}") from error
    return empty()


async def pause(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/pause."""
    with rpc_errors():
        await call.engine.containers.Pause(containers_pb2.PauseContainerRequest(container=call.args["id"]))
    return empty()


async def unpause(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/unpause."""
    with rpc_errors():
        await call.engine.containers.Unpause(containers_pb2.UnpauseContainerRequest(container=call.args["id"]))
    return empty()


async def update(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/update."""
    sent = Fields(await call.body(required=True), "")
    request = containers_pb2.UpdateContainerRequest(
        container=call.args["id"],
        resources=host_config.resources(sent),
        restart_policy=host_config.restart_policy(sent),
    )
    with rpc_errors():
        updated = await call.engine.containers.Update(request)
    return reply({"Warnings": list(updated.warnings)})


async def rename(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/rename."""
    name = call.text("name").removeprefix("/")
    if not name:
        raise InvalidArgumentError("Neither old nor new names may be empty")
    with rpc_errors():
        await call.engine.containers.Rename(containers_pb2.RenameContainerRequest(container=call.args["id"], name=name))
    return empty()


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /containers/{id}."""
    if call.flag("link"):
        raise InvalidArgumentError(
            "removing a link is not supported by this engine: legacy links go with their container"
        )
    request = containers_pb2.RemoveContainerRequest(
        container=call.args["id"], force=call.flag("force"), volumes=call.flag("v")
    )
    with call.backend.metrics.action("delete"), rpc_errors():
        await call.engine.containers.Remove(request)
    return empty()


async def wait(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/wait. The headers go out once the wait is in place, so that a start can follow them."""
    condition = _CONDITIONS.get(call.text("condition"))
    if condition is None:
        raise InvalidArgumentError(f'invalid condition: "{call.text("condition")}"')
    request = containers_pb2.WaitContainerRequest(container=call.args["id"], condition=condition)
    stream = JsonStream(call.request)
    result: dict[str, Any] = {"StatusCode": 0}
    async with aclosing(following.wait(call.engine, request)) as answers:
        try:
            async for message in answers:
                if message.waiting:
                    await stream.begin()
                    continue
                result["StatusCode"] = message.exit_code
                # Clients print it, and whoever waits beside a start is told its error by the start already.
                if message.error and condition == containers_pb2.WaitContainerRequest.NOT_RUNNING:
                    result["Error"] = {"Message": message.error}
        except SampanError as error:
            if not stream.begun:
                raise
            # The exit code is not known, and a client must not take it for a success.
            result = {"StatusCode": 125, "Error": {"Message": str(error)}}
    return await stream.end(result)


async def prune(call: Call) -> web.StreamResponse:
    """POST /containers/prune."""
    request = containers_pb2.PruneContainersRequest(filters=call.proto_filters())
    with rpc_errors():
        pruned = await whole(call.engine.containers.Prune(request))
    return reply({"ContainersDeleted": list(pruned.removed) or None, "SpaceReclaimed": pruned.reclaimed_bytes})


ROUTES: Final = (
    Route("POST", "/containers/create", create),
    Route("GET", "/containers/json", listing),
    Route("POST", "/containers/prune", prune),
    Route("GET", "/containers/{id}/json", inspect),
    Route("GET", "/containers/{id}/top", top),
    Route("GET", "/containers/{id}/changes", changes),
    Route("POST", "/containers/{id}/resize", resize),
    Route("POST", "/containers/{id}/start", start),
    Route("POST", "/containers/{id}/stop", stop),
    Route("POST", "/containers/{id}/restart", restart),
    Route("POST", "/containers/{id}/kill", kill),
    Route("POST", "/containers/{id}/pause", pause),
    Route("POST", "/containers/{id}/unpause", unpause),
    Route("POST", "/containers/{id}/update", update),
    Route("POST", "/containers/{id}/rename", rename),
    Route("POST", "/containers/{id}/wait", wait, follows=True),
    Route("DELETE", "/containers/{id}", remove),
)
