"""POST /images/{name}/push, as the messages that Docker's clients draw."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Final

from aiohttp import web

from dockerapi.http.call import Call
from dockerapi.http.routing import Route
from dockerapi.image import parameters
from dockerapi.image.images import stream_progress
from dockerapi.image.progress import moving
from sampan.docker.views.image_view import descriptor_json
from sampan.engine.transfer import check_push, local_tags
from sampan.json_types import JsonObject
from sampan.oci.reference import Reference, parse_reference
from sampan.resource.image import Credentials
from sampan.resource.transfer import PushPhase, PushProgress, PushResolved, PushStep

_STILL: Final = {
    PushPhase.PREPARING: "Preparing",
    PushPhase.WAITING: "Waiting",
    PushPhase.PUSHED: "Pushed",
    PushPhase.EXISTED: "Layer already exists",
}


async def push(call: Call) -> web.StreamResponse:
    """POST /images/{name}/push; without a tag, all tags of the repository."""
    name, tag = call.args["name"], call.text("tag")
    repository = parse_reference(name)
    check_push(repository)
    if tag:
        repository = parse_reference(f"{repository.name}:{tag}")
    credentials = parameters.from_header(call.request.headers.get("X-Registry-Auth", ""))
    platform = parameters.from_query(call.since((1, 46), "platform"))
    messages = PushMessages()
    with call.backend.metrics.image_action("push"):
        return await stream_progress(call, _steps(call, repository, platform, credentials), messages.render)


async def _steps(
    call: Call, wanted: Reference, platform: str, credentials: Credentials | None
) -> AsyncGenerator[PushProgress | Reference, None]:
    """Yield the repository, and then the steps of each tag's push."""
    yield wanted
    references = [wanted] if wanted.tag is not None else await local_tags(call.images.images, wanted)
    for reference in references:
        async with aclosing(call.images.push(str(reference), platform=platform, credentials=credentials)) as steps:
            async for step in steps:
                yield step


class PushMessages:
    """Turns steps into messages. Layers are called by their diff IDs, as Docker does."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # by the blob's digest

    def render(self, step: PushProgress | Reference) -> Iterator[JsonObject]:
        """Yield the messages for one step."""
        if isinstance(step, Reference):
            yield {"status": f"The push refers to repository [{step.name}]"}
        elif isinstance(step, PushResolved):
            for layer in step.layers:
                self._names[layer.descriptor.digest] = layer.diff_id.removeprefix("sha256:")[:12]
        elif isinstance(step, PushStep):
            if (name := self._names.get(step.digest)) is not None:
                yield _layer(step, name)
        else:
            manifest, tag = step.manifest, step.tag
            yield {"status": f"{tag}: digest: {manifest.digest} size: {manifest.size}"}
            yield {"progressDetail": {}, "aux": {"Tag": tag, "Digest": manifest.digest, "Size": manifest.size}}
            if step.instead_of is not None:
                # The client tells its user so.
                yield {
                    "aux": {
                        "manifestPushedInsteadOfIndex": True,
                        "originalIndex": descriptor_json(step.instead_of),
                        "selectedManifest": descriptor_json(manifest),
                    }
                }


def _layer(layer: PushStep, name: str) -> JsonObject:
    if layer.phase is PushPhase.PUSHING:
        return moving("Pushing", name, layer.offset, layer.total)
    if layer.phase is PushPhase.MOUNTED:
        status = f"Mounted from {layer.mounted_from}"
    elif layer.phase is PushPhase.RETRYING:
        status = f"Retrying in {layer.offset} second{'' if layer.offset == 1 else 's'}"
    else:
        status = _STILL[layer.phase]
    return {"status": status, "progressDetail": {}, "id": name}


ROUTES: Final = (Route("POST", "/images/{name+}/push", push, follows=True),)
