"""Images: /images/… and /auth."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import Final, TypeVar

from aiohttp import web

from dockerapi.http.body import Body
from dockerapi.http.call import Call, JsonStream, reply
from dockerapi.http.encode import Written
from dockerapi.http.fields import Fields
from dockerapi.http.listing import Rows, reply_list
from dockerapi.http.routing import Route
from dockerapi.http.versions import Version
from dockerapi.image import parameters
from dockerapi.image.progress import ImportMessages, PullMessages
from sampan.docker.views.image_view import history_json, inspect_json, manifests_json, summary_json
from sampan.engine import image_filters
from sampan.engine.archives import archive_url, remote_archive
from sampan.engine.df import sizes
from sampan.engine.listing import image_pages, list_images
from sampan.engine.progress import Done, Progress
from sampan.engine.remove import Step
from sampan.errors import InvalidArgumentError, SampanError, UnauthenticatedError
from sampan.json_types import JsonObject
from sampan.oci.platform import parse_platform
from sampan.oci.reference import Reference, parse_reference
from sampan.resource.image import ANONYMOUS, Credentials, ImageDetails

T = TypeVar("T")

_PLATFORM: Final[Version] = (1, 32)  # since when an image may be asked for by its platform


async def create(call: Call) -> web.StreamResponse:
    """POST /images/create: pull with ``fromImage``, import with ``fromSrc``."""
    if call.text("fromImage"):
        with call.backend.metrics.image_action("pull"):
            return await _pull(call)
    if call.text("fromSrc"):
        return await _import(call)
    raise InvalidArgumentError("either fromImage or fromSrc is required")


async def _pull(call: Call) -> web.StreamResponse:
    name, tag = call.text("fromImage"), call.text("tag")
    if tag:
        # Old clients put a digest into the tag.
        name = f"{name}@{tag}" if tag.startswith("sha256:") else f"{name}:{tag}"
    reference = parse_reference(name)
    credentials = parameters.from_header(call.request.headers.get("X-Registry-Auth", ""))
    if reference.is_name_only:
        if platform := call.since(_PLATFORM, "platform"):
            parse_platform(platform)
        return await stream_progress(call, _pull_all(call, reference, credentials), lambda message: [message])
    events = call.images.pull(str(reference), platform=call.since(_PLATFORM, "platform"), credentials=credentials)
    return await stream_progress(call, events, PullMessages(reference).render)


async def _pull_all(call: Call, repository: Reference, credentials: Credentials | None) -> AsyncIterator[JsonObject]:
    """Pull all tags, one after the other, and yield the messages; what came of it is said once, at the end."""
    newer = False
    for tag in await call.images.remote_tags(str(repository), credentials=credentials):
        reference = parse_reference(f"{repository}:{tag}")
        messages = PullMessages(reference)
        events = call.images.pull(str(reference), platform=call.since(_PLATFORM, "platform"), credentials=credentials)
        async with aclosing(events):
            async for event in events:
                newer = newer or (isinstance(event, Done) and not event.existed)
                for message in messages.render(event):
                    if not message["status"].startswith("Status: "):
                        yield message
    verdict = "Downloaded newer image for" if newer else "Image is up to date for"
    yield {"status": f"Status: {verdict} {repository.familiar}"}


async def _import(call: Call) -> web.StreamResponse:
    source = call.text("fromSrc")
    if source != "-":
        async with remote_archive(archive_url(source)) as archive:
            return await stream_progress(call, _importing(call, archive.pieces), ImportMessages(archive).render)
    body = Body(call.request)
    try:
        return await stream_progress(call, _importing(call, body.chunks()), ImportMessages().render)
    finally:
        body.close()


def _importing(call: Call, chunks: AsyncIterator[bytes]) -> AsyncIterator[Progress]:
    reference, tag = call.text("repo"), call.text("tag")
    return call.images.import_image(
        chunks,
        reference=f"{reference}:{tag}" if reference and tag else reference,
        message=call.text("message"),
        changes=tuple(call.request.query.getall("changes", [])),
        platform=call.since(_PLATFORM, "platform"),
    )


async def stream_progress(
    call: Call,
    events: AsyncIterator[T],
    render: Callable[[T], Iterable[JsonObject]],
    *,
    refuses: bool = True,
    outlives_client: bool = False,
) -> web.StreamResponse:
    """Send messages as they come. What goes wrong before the first is an HTTP error, and after it the last message.

    Without ``refuses`` it is the last message in any case. What ``outlives_client`` goes on to its end unheard.
    """
    stream = JsonStream(call.request, end=b"\r\n")
    gone: ConnectionError | None = None
    try:
        async for event in events:
            if gone is None and (messages := list(render(event))):
                try:
                    await stream.write(*messages)
                except ConnectionError as error:
                    if not outlives_client:
                        raise
                    gone = error
        if gone is not None:
            raise gone
    except SampanError as error:
        if stream.begun or not refuses:
            return await stream.end({"errorDetail": {"message": str(error)}, "error": str(error)})
        if isinstance(error, UnauthenticatedError):
            # A 401 would say that this engine wants credentials, and clients ask for them and try again, for ever.
            raise SampanError(str(error)) from error
        raise
    return await stream.end()


async def listing(call: Call) -> web.StreamResponse:
    """GET /images/json."""
    filters = call.filters()
    if (name := call.text("filter")) and call.version < (1, 41):
        filters.setdefault("reference", []).append(name)
    manifests = call.version >= (1, 47) and call.flag("manifests")
    listed, stored = await asyncio.gather(
        list_images(call.images.images, manifests=manifests), sizes(call.images.layers)
    )
    everything = listed.items
    hidden = image_filters.hidden(everything, filters, everything=call.flag("all"))
    shared = stored.shared(everything) if call.version >= (1, 42) and call.flag("shared-size") else {}
    counted = call.version >= (1, 51)
    users = await image_filters.users_by_image(call.control) if manifests or counted else {}
    until = await call.images.read_until(filters)

    def row(image: ImageDetails) -> object:
        render = summary_json if manifests else call.backend.image_rows.row
        shown = render(
            image,
            stored.of(image),
            call.version,
            shared_bytes=shared.get(image.id, -1),
            containers=len(users.get(image.id, ())) if counted else -1,
        )
        if isinstance(shown, Written):
            return shown
        return shown | {"Manifests": manifests_json(image, everything, stored.of, users)}

    async def rows() -> Rows:
        async with aclosing(image_pages(call.images.images, listed, manifests=manifests)) as pages:
            async for page in pages:
                chosen = image_filters.choose(page, filters, until, everything)
                yield [row(one) for one in chosen if one.id not in hidden]

    return await reply_list(call.request, rows())


async def _get(call: Call, since: Version, *, manifests: bool = False) -> ImageDetails:
    """Return the image that is named or, with ``platform``, which is known ``since``, that platform's of its index."""
    platform, name = parameters.from_query(call.since(since, "platform")), call.args["name"]
    if platform and manifests:
        raise InvalidArgumentError("conflicting options: manifests and platform options cannot both be set")
    if platform:
        return await image_filters.of_platform(call.images.images, name, platform)
    return await call.images.images.get(name, manifests=manifests)


async def inspect(call: Call) -> web.StreamResponse:
    """GET /images/{name}/json."""
    manifests = call.version >= (1, 48) and call.flag("manifests")
    image = await _get(call, (1, 49), manifests=manifests)
    stored = await sizes(call.images.layers)
    drivers = await call.images.layers.drivers()
    result = inspect_json(image, stored.of(image), drivers.driver, call.version)
    if manifests:
        result["Manifests"] = manifests_json(
            image,
            await call.images.images.list(brief=True),
            stored.of,
            await image_filters.users_by_image(call.control),
        )
    return reply(result)


async def history(call: Call) -> web.StreamResponse:
    """GET /images/{name}/history."""
    with call.backend.metrics.image_action("history"):
        image = await _get(call, (1, 48))
        stored = await sizes(call.images.layers)
        return reply(history_json(image, stored.parts(image), await image_filters.ancestors(call.images.images, image)))


async def tag(call: Call) -> web.StreamResponse:
    """POST /images/{name}/tag."""
    repository, tag_ = call.text("repo"), call.text("tag")
    if not repository:
        raise InvalidArgumentError("invalid reference format: repo is empty")
    await call.images.tag_image(call.args["name"], f"{repository}:{tag_}" if tag_ else repository)
    return web.Response(status=201)


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /images/{name}."""
    with call.backend.metrics.image_action("delete"):
        steps = await call.images.remove_image(
            call.args["name"],
            force=call.flag("force"),
            no_prune=call.flag("noprune"),
            platforms=parameters.all_from_query(call.all_since((1, 50), "platforms")),
        )
    return reply(deletions_json(steps))


async def prune(call: Call) -> web.StreamResponse:
    """POST /images/prune: images without a name, or with ``dangling=false`` all that no container uses."""
    pruned = await call.images.prune_images(call.filters())
    return reply({"ImagesDeleted": deletions_json(pruned.steps) or None, "SpaceReclaimed": pruned.reclaimed_bytes})


async def auth(call: Call) -> web.StreamResponse:
    """POST /auth: ``docker login``."""
    sent = Fields(await call.body(required=True), "")
    registry = sent.text("serveraddress")
    # Docker's own registry goes by a URL of another age.
    registry = registry.removeprefix("https://").removeprefix("http://").partition("/")[0] or "docker.io"
    token = await call.images.images.login(registry, parameters.from_json(sent) or ANONYMOUS)
    return reply({"Status": "Login Succeeded", "IdentityToken": token})


def deletions_json(steps: Iterable[Step]) -> list[dict[str, str]]:
    """Return what a removal did."""
    return [{"Untagged" if step.untagged else "Deleted": step.name} for step in steps]


ROUTES: Final = (
    Route("POST", "/images/create", create, follows=True),
    Route("GET", "/images/json", listing),
    Route("POST", "/images/prune", prune),
    Route("GET", "/images/{name+}/json", inspect),
    Route("GET", "/images/{name+}/history", history),
    Route("POST", "/images/{name+}/tag", tag),
    Route("DELETE", "/images/{name+}", remove),
    Route("POST", "/auth", auth),
)
