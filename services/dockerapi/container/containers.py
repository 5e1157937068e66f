"""Containers: /containers/…, except for their streams, logs and statistics."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from aiohttp import web

from dockerapi.container import create_body, host_config
from dockerapi.container.earlier import update_as_newest
from dockerapi.container.execs import query_size
from dockerapi.http.call import Call, JsonStream, empty, reply
from dockerapi.http.encode import Written
from dockerapi.http.fields import Fields
from dockerapi.http.listing import reply_list, rows_of
from dockerapi.http.routing import Route
from sampan.docker.options.networks import link_of
from sampan.docker.views.container_view import inspect_json, summary_json
from sampan.engine import following
from sampan.engine.create import with_volumes_of
from sampan.engine.df import Sizes, sizes
from sampan.errors import InvalidArgumentError, SampanError
from sampan.resource.container import Change, Condition, ContainerDetails
from sampan.resource.listing import Selection

_CONDITIONS: Final = {"": Condition.NOT_RUNNING} | {one.value: one for one in Condition}

_CHANGES: Final = 1000  # made into JSON at a time: a few milliseconds


async def create(call: Call) -> web.StreamResponse:
    """POST /containers/create."""
    body = await call.body(required=True)
    spec, said = create_body.read(body, call.text("name"), call.version)
    if call.judged is not None:
        spec = call.judged
    else:
        spec = await with_volumes_of(call.control, spec, create_body.volumes_from(body))
    platform = call.text("platform") if call.version >= (1, 41) else ""
    with call.backend.metrics.action("create"):
        created = await call.containers.create_container(spec, platform=platform)
    return reply({"Id": created.id, "Warnings": [*said, *created.warnings]}, 201)


async def listing(call: Call) -> web.StreamResponse:
    """GET /containers/json."""
    selection = Selection(call.flag("all"), max(call.number("limit", 0) or 0, 0), owner=call.backend.shown_owner)
    size = call.flag("size")
    filters = call.chosen()
    stored = await sizes(call.containers.layers) if size else None
    now = time.time()

    def row(container: ContainerDetails) -> object:
        if size:
            return summary_json(container, call.version, now) | _root_size(container, stored)
        return Written(call.backend.rows.row(container, call.version, now))

    return await reply_list(
        call.request, rows_of(call.containers.select_containers(selection, filters, size=size), row)
    )


def _root_size(container: ContainerDetails, stored: Sizes | None) -> dict[str, int]:
    return {} if stored is None else {"SizeRootFs": stored.root_bytes(container)}


async def inspect(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/json."""
    size = call.flag("size")
    container = await call.control.get(call.args["id"], size=size)
    stored = await sizes(call.containers.layers) if size else None
    return reply(inspect_json(container, call.version) | _root_size(container, stored))


async def top(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/top."""
    table = await call.control.top(call.args["id"], call.text("ps_args"))
    return reply({"Titles": table.titles, "Processes": table.rows})


async def changes(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/changes; null if nothing changed."""
    with call.backend.metrics.action("changes"):
        found = await call.containers.container_changes(call.args["id"])
    rows = ([{"Path": one.path, "Kind": one.kind.value} for one in some] async for some in _parts(found))
    return await reply_list(call.request, rows, empty=b"null")


async def _parts(found: Sequence[Change]) -> AsyncGenerator[Sequence[Change], None]:
    for first in range(0, len(found), _CHANGES):
        yield found[first : first + _CHANGES]


async def resize(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/resize."""
    await call.control.resize(call.args["id"], query_size(call))
    return empty(200)


async def start(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/start."""
    if call.text("checkpoint"):
        raise InvalidArgumentError("checkpoint is only supported in experimental mode")
    with call.backend.metrics.action("start"):
        await following.start(call.followed, call.args["id"])
    return empty()


async def stop(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/stop."""
    await call.control.stop(call.args["id"], call.number("t"), call.since((1, 42), "signal"))
    return empty()


async def restart(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/restart."""
    await call.control.restart(call.args["id"], call.number("t"), call.since((1, 42), "signal"))
    return empty()


async def kill(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/kill."""
    await call.control.kill(call.args["id"], call.text("signal"))
    return empty()


async def pause(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/pause."""
    await call.control.pause(call.args["id"])
    return empty()


async def unpause(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/unpause."""
    await call.control.unpause(call.args["id"])
    return empty()


async def update(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/update."""
    body, said = update_as_newest(await call.body(required=True), call.version)
    sent = Fields(body, "")
    warnings = await call.control.update(call.args["id"], host_config.resources(sent), host_config.restart_policy(sent))
    return reply({"Warnings": [*said, *warnings] or None})


async def rename(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/rename."""
    await call.control.rename(call.args["id"], call.text("name").removeprefix("/"))
    return empty()


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /containers/{id}."""
    if call.flag("link"):
        await call.control.unlink(*link_of(call.args["id"]))
        return empty()
    with call.backend.metrics.action("delete"):
        await call.control.remove(call.args["id"], force=call.flag("force"), volumes=call.flag("v"))
    return empty()


async def wait(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/wait. The headers go out once the wait is in place, so that a start can follow them."""
    asked = call.since((1, 30), "condition")
    condition = _CONDITIONS.get(asked)
    if condition is None:
        raise InvalidArgumentError(f'invalid condition: "{asked}"')
    stream = JsonStream(call.request)
    result: dict[str, object] = {"StatusCode": 0}
    async with aclosing(following.wait(call.followed, call.args["id"], condition)) as answers:
        try:
            async for end in answers:
                if end is None:
                    await stream.begin()
                    continue
                result["StatusCode"] = end.code
                # Clients print it, and whoever waits beside a start is told its error by the start already.
                if end.error and condition is Condition.NOT_RUNNING:
                    result["Error"] = {"Message": end.error}
        except SampanError as error:
            if not stream.begun:
                raise
            # The exit code is not known, and a client must not take it for a success.
            result = {"StatusCode": 125, "Error": {"Message": str(error)}}
    return await stream.end(result)


async def prune(call: Call) -> web.StreamResponse:
    """POST /containers/prune."""
    pruned = await call.control.prune(call.chosen())
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
    Route("DELETE", "/containers/{id+}", remove),  # with a slash it names a link
)
