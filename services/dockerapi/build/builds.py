"""Builds: ``POST /build`` in both its forms, ``/build/cancel`` and ``/build/prune``.

The first form sends a context as a tar, or names one, and shows text; the second (``version=2``) is a client of
BuildKit's that has a session of its own and shows progress itself. The builder makes no difference between them.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Final

from aiohttp import web

from dockerapi.build import messages
from dockerapi.build.parameters import (
    BUILDKIT,
    CLIENT_SESSION,
    UPLOAD_REQUEST,
    BuildParameters,
    familiar,
    parse_parameters,
    registry_credentials,
)
from dockerapi.http.body import Body
from dockerapi.http.call import Call, JsonStream, empty, reply
from dockerapi.http.routing import Route
from sampan.build import plan
from sampan.build.filters import PruneLimits
from sampan.build.protocols import Served, StatusUpdate
from sampan.build.request import DOCKERFILE_FRONTEND, NETWORK_MODE, UPLOADED, SolveRequest
from sampan.docker.options.namespaces import CONTAINER
from sampan.errors import InvalidArgumentError, SampanError
from sampan.json_types import JsonObject

_UPLOAD_PREFIX: Final = f"{UPLOAD_REQUEST}:"

# The builder's last words on its progress come as it answers; a client is not kept for longer than this.
_LAST_WORDS_S: Final = 5.0
_ENDS_S: Final = 20.0  # a build that is cancelled


async def build(call: Call) -> web.StreamResponse:
    """POST /build."""
    name = call.text("buildid")
    if name.startswith(_UPLOAD_PREFIX):
        return await _take_upload(call, name.removeprefix(_UPLOAD_PREFIX))
    parameters = parse_parameters(call)
    if call.text("version") == BUILDKIT:
        return await _build_for_buildkit(call, parameters, name)
    body = Body(call.request)
    async with AsyncExitStack() as stack:
        stack.callback(body.close)
        stack.enter_context(call.backend.underway.named(name))
        credentials = registry_credentials(call.request.headers.get("X-Registry-Config", ""))
        upload = secrets.token_hex(12)
        served = Served(credentials=credentials, uploads={} if parameters.remote else {upload: body.chunks})
        session = await stack.enter_async_context(call.backend.builder.serve(served))
        more = {plan.ATTRIBUTE: "", **await _network_of(call, parameters)}
        request = _request(parameters, session, parameters.remote or f"{UPLOADED}/{upload}", more)
        return await _stream_text(call, request, parameters)


async def _network_of(call: Call, parameters: BuildParameters) -> Mapping[str, str]:
    """Return the attribute for a container whose network steps share, by its ID. Raises NotFoundError."""
    mode = parameters.attributes.get(NETWORK_MODE, "")
    if not mode.startswith(CONTAINER):
        return {}
    other = await call.control.get(mode.removeprefix(CONTAINER))
    return {NETWORK_MODE: CONTAINER + other.id}


async def _build_for_buildkit(call: Call, parameters: BuildParameters, name: str) -> web.StreamResponse:
    session = call.text("session")
    context = parameters.remote
    if context == CLIENT_SESSION and not session:
        raise InvalidArgumentError("a build with BuildKit needs a session")
    async with AsyncExitStack() as stack:
        stack.enter_context(call.backend.underway.named(name))
        uploads = {}
        key = secrets.token_hex(12)
        if context == UPLOAD_REQUEST:
            upload = await call.backend.underway.take(name)
            stack.callback(upload.over.set)
            uploads[key] = upload.chunks
        elif not context:  # it is the body, as in the first form: dockerode does that
            body = Body(call.request)
            stack.callback(body.close)
            uploads[key] = body.chunks
        if uploads or not session:
            credentials = registry_credentials(call.request.headers.get("X-Registry-Config", ""))
            served = Served(credentials=credentials, uploads=uploads)
            own = await stack.enter_async_context(call.backend.builder.serve(served))
            context = f"{UPLOADED}/{key}?session={own}" if uploads else context
            session = session or own
        elif context == CLIENT_SESSION:
            context = ""
        stream = JsonStream(call.request, end=b"\r\n")
        return await _run(
            call,
            stream,
            _request(parameters, session, context),
            lambda status: [messages.trace(status.encoded)],
            lambda image: _built(image, parameters.quiet),
            lambda error: [messages.failure(error)],
        )


def _built(image: str, quiet: bool) -> Iterable[JsonObject]:
    if image:
        yield messages.built(image)
        if quiet:  # all that the client prints
            yield messages.stream(f"{image}\n")


async def _take_upload(call: Call, name: str) -> web.StreamResponse:
    body = Body(call.request)
    try:
        await call.backend.underway.give(name, body)
    finally:
        body.close()
    return empty(200)


def _request(
    parameters: BuildParameters, session: str, context: str, more: Mapping[str, str] | None = None
) -> SolveRequest:
    return SolveRequest(
        ref=secrets.token_hex(12),
        session=session,
        frontend=DOCKERFILE_FRONTEND,
        frontend_attributes={**parameters.attributes, **({"context": context} if context else {}), **(more or {})},
        exports=parameters.exports,
        cache_imports=parameters.cache_imports,
        cache_exports=parameters.cache_exports,
        entitlements=parameters.entitlements,
    )


async def _stream_text(call: Call, request: SolveRequest, parameters: BuildParameters) -> web.StreamResponse:
    text = messages.ClassicMessages()
    names = [familiar(tag) for tag in parameters.tags]
    if parameters.quiet:
        return await _run(
            call,
            JsonStream(call.request, end=b"\r\n"),
            request,
            lambda _: (),
            lambda image: [messages.stream(f"{image}\n")],
            lambda error: [messages.failure(error)],
        )
    return await _run(
        call,
        JsonStream(call.request, end=b"\r\n"),
        request,
        lambda status: text.render(status.updates),
        lambda image: text.done(image, names),
        text.failure,
    )


async def _run(
    call: Call,
    stream: JsonStream,
    request: SolveRequest,
    render: Callable[[StatusUpdate], Iterable[JsonObject]],
    ended: Callable[[str], Iterable[JsonObject]],
    failed: Callable[[str], Iterable[JsonObject]],
) -> web.StreamResponse:
    """Build, and show how it goes. What goes wrong before anything is shown is an HTTP error."""
    builder = call.backend.builder

    async def show() -> None:
        async with aclosing(builder.status(request.ref)) as statuses:
            async for status in statuses:
                if shown := list(render(status)):
                    await stream.write(*shown)

    showing = asyncio.create_task(show(), name="show build")
    solving = asyncio.create_task(builder.solve(request), name="build")
    try:
        await asyncio.wait({showing, solving}, return_when=asyncio.FIRST_COMPLETED)
        if showing.done():
            showing.result()  # raises if the client is gone, which ends the build
        await asyncio.wait({solving})
        await asyncio.wait({showing}, timeout=_LAST_WORDS_S)
        response = solving.result()
    except SampanError as error:
        if not stream.begun:
            raise
        return await stream.end(*failed(str(error)))
    finally:
        solving.cancel()
        try:
            # What is told of a build ends when nothing is left of it.
            await asyncio.wait({showing}, timeout=_ENDS_S)
        finally:
            showing.cancel()
            await asyncio.wait({showing, solving})
    return await stream.end(*ended(response.image_id))


async def cancel(call: Call) -> web.StreamResponse:
    """POST /build/cancel."""
    name = call.text("id")
    if not name:
        raise InvalidArgumentError("build ID not provided")
    await call.backend.underway.cancel(name)
    return empty(200)


async def prune(call: Call) -> web.StreamResponse:
    """POST /build/prune, of ``docker system prune`` as well."""
    limits = PruneLimits(
        all=call.flag("all"),
        reserved_bytes=_bytes(call, "reserved-space") or _bytes(call, "keep-storage"),
        max_used_bytes=_bytes(call, "max-used-space"),
        min_free_bytes=_bytes(call, "min-free-space"),
    )
    gone = await call.system.prune_build_cache(call.filters(), limits)
    return reply({"CachesDeleted": list(gone.records) or None, "SpaceReclaimed": gone.reclaimed_bytes})


def _bytes(call: Call, name: str) -> int:
    size = call.number(name, 0) or 0
    if size < 0:
        raise InvalidArgumentError(f"{name} is {size}, the least is 0")
    return size


ROUTES: Final = (
    Route("POST", "/build", build, follows=True),
    Route("POST", "/build/cancel", cancel, alone=True),
    Route("POST", "/build/prune", prune),
)
