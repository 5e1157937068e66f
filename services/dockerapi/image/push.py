"""POST /images/{name}/push, as the messages that Docker's clients draw."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, Final

from aiohttp import web

from dockerapi.http.call import Call
from dockerapi.http.routing import Route
from dockerapi.image import platforms, registry_auth
from dockerapi.image.image_json import descriptor_json
from dockerapi.image.images import stream_progress
from dockerapi.image.progress import moving
from sampan.api.image.v1 import images_pb2
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.reference import Reference, parse_reference
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import whole

_STILL: Final = {
    images_pb2.PushProgress.PREPARING: "Preparing",
    images_pb2.PushProgress.WAITING: "Waiting",
    images_pb2.PushProgress.PUSHED: "Pushed",
    images_pb2.PushProgress.EXISTED: "Layer already exists",
}


async def push(call: Call) -> web.StreamResponse:
    """POST /images/{name}/push; without a tag, all tags of the repository."""
    name, tag = call.args["name"], call.text("tag")
    repository = parse_reference(name)
    if repository.digest is not None:
        raise InvalidArgumentError("cannot push a digest reference")
    if tag:
        repository = parse_reference(f"{repository.name}:{tag}")
    credentials = registry_auth.from_header(call.request.headers.get("X-Registry-Auth", ""))
    platform = platforms.from_query(call.text("platform"))
    messages = PushMessages()
    return await stream_progress(call, _steps(call, repository, platform, credentials), messages.render)


async def _steps(
    call: Call, wanted: Reference, platform: str, credentials: images_pb2.Credentials | None
) -> AsyncGenerator[images_pb2.PushProgress | Reference, None]:
    """Yield the repository, and then the steps of each tag's push."""
    yield wanted
    references = [wanted] if wanted.tag is not None else await _tags(call, wanted)
    for reference in references:
        async with aclosing(call.engine.push(str(reference), platform=platform, credentials=credentials)) as steps:
            async for step in steps:
                yield step


async def _tags(call: Call, repository: Reference) -> list[Reference]:
    with rpc_errors():
        images = (await whole(call.engine.images.List(images_pb2.ListRequest(brief=True)))).images
    tags = [parse_reference(text) for image in images for text in image.repo_tags]
    found = sorted((each for each in tags if each.name == repository.name), key=str)
    if not found:
        raise NotFoundError(f"An image does not exist locally with the tag: {repository.familiar_name}")
    return found


class PushMessages:
    """Turns steps into messages. Layers are called by their diff IDs, as Docker does."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # by the blob's digest

    def render(self, step: images_pb2.PushProgress | Reference) -> Iterator[dict[str, Any]]:
        """Yield the messages for one step."""
        if isinstance(step, Reference):
            yield {"status": f"The push refers to repository [{step.name}]"}
        elif step.HasField("resolved"):
            for layer in step.resolved.layers:
                self._names[layer.descriptor.digest] = layer.diff_id.removeprefix("sha256:")[:12]
        elif step.HasField("layer"):
            if (name := self._names.get(step.layer.digest)) is not None:
                yield _layer(step.layer, name)
        else:
            manifest, tag = step.pushed.manifest, step.pushed.tag
            yield {"status": f"{tag}: digest: {manifest.digest} size: {manifest.size}"}
            yield {"progressDetail": {}, "aux": {"Tag": tag, "Digest": manifest.digest, "Size": manifest.size}}
            if step.pushed.HasField("instead_of"):
                # The client tells its user so.
                yield {
                    "aux": {
                        "manifestPushedInsteadOfIndex": True,
                        "originalIndex": descriptor_json(step.pushed.instead_of),
                        "selectedManifest": descriptor_json(manifest),
                    }
                }


def _layer(layer: images_pb2.PushProgress.Layer, name: str) -> dict[str, Any]:
    if layer.phase == images_pb2.PushProgress.PUSHING:
        return moving("Pushing", name, layer.offset, layer.total)
    if layer.phase == images_pb2.PushProgress.MOUNTED:
        status = f"Mounted from {layer.mounted_from}"
    elif layer.phase == images_pb2.PushProgress.RETRYING:
        status = f"Retrying in {layer.offset} second{'' if layer.offset == 1 else 's'}"
    else:
        status = _STILL[layer.phase]
    return {"status": status, "progressDetail": {}, "id": name}


ROUTES: Final = (Route("POST", "/images/{name+}/push", push, follows=True),)
