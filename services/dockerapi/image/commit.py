"""POST /commit."""

from typing import Final

from aiohttp import web

from dockerapi.container.create_body import health_check
from dockerapi.http.call import Call, reply
from dockerapi.http.fields import Fields
from dockerapi.http.routing import Route
from sampan.docker.options.ports import parse_exposed
from sampan.engine.commit import CommitOptions, for_image
from sampan.errors import InvalidArgumentError
from sampan.oci.image_config import RunConfig


async def commit(call: Call) -> web.StreamResponse:
    """POST /commit: an image of what a container has changed."""
    container = call.args.get("container") or call.text("container")  # its ID, if a socket's scope has looked at it
    repository, tag = call.text("repo"), call.text("tag")
    if not container:
        raise InvalidArgumentError("no container is named")
    if tag and not repository:
        raise InvalidArgumentError("invalid reference format: a tag without a repository")
    options = CommitOptions(
        reference=f"{repository}:{tag}" if repository and tag else repository,
        author=call.text("author"),
        message=call.text("comment"),
        changes=tuple(call.request.query.getall("changes", [])),
        pause=call.flag("pause", default=True),
        config=_config(Fields(await call.body(), "")),
    )
    with call.backend.metrics.action("commit"):
        return reply({"Id": await call.images.commit_container(container, options)}, 201)


def _config(sent: Fields) -> RunConfig:
    """Return what the body replaces in the container's config."""
    return RunConfig(
        user=sent.text("User"),
        env=tuple(sent.texts("Env")),
        entrypoint=tuple(sent.texts("Entrypoint")),
        cmd=tuple(sent.texts("Cmd")),
        working_dir=sent.text("WorkingDir"),
        labels=sent.mapping("Labels"),
        exposed_ports=tuple(parse_exposed(sent.keys("ExposedPorts"))),
        volumes=tuple(sent.keys("Volumes")),
        stop_signal=sent.text("StopSignal"),
        on_build=tuple(sent.texts("OnBuild")),
        health_check=for_image(health_check(sent)),
    )


ROUTES: Final = (Route("POST", "/commit", commit),)
