"""POST /commit."""

from typing import Final

from aiohttp import web

from dockerapi.container import port_specs
from dockerapi.container.create_body import health_check
from dockerapi.http.call import Call, reply
from dockerapi.http.fields import Fields
from dockerapi.http.routing import Route
from sampan.api.image.v1 import images_pb2
from sampan.client.convert.codec import to_duration
from sampan.engine.commit import CommitOptions
from sampan.errors import InvalidArgumentError


async def commit(call: Call) -> web.StreamResponse:
    """POST /commit: an image of what a container has changed."""
    container, repository, tag = call.text("container"), call.text("repo"), call.text("tag")
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
    return reply({"Id": await call.engine.commit_container(container, options)}, 201)


def _config(sent: Fields) -> images_pb2.ImageConfig:
    """Return what the body replaces in the container's config."""
    config = images_pb2.ImageConfig(
        user=sent.text("User"),
        env=sent.texts("Env"),
        entrypoint=sent.texts("Entrypoint"),
        cmd=sent.texts("Cmd"),
        working_dir=sent.text("WorkingDir"),
        labels=sent.mapping("Labels"),
        exposed_ports=port_specs.exposed(sent.keys("ExposedPorts")),
        volumes=sent.keys("Volumes"),
        stop_signal=sent.text("StopSignal"),
        on_build=sent.texts("OnBuild"),
    )
    if (check := health_check(sent)) is not None:
        config.health_check.CopyFrom(
            images_pb2.HealthCheck(
                test=check.test,
                retries=check.retries,
                interval=to_duration(check.interval_s) if check.interval_s else None,
                timeout=to_duration(check.timeout_s) if check.timeout_s else None,
                start_period=to_duration(check.start_period_s) if check.start_period_s else None,
                start_interval=to_duration(check.start_interval_s) if check.start_interval_s else None,
            )
        )
    return config


ROUTES: Final = (Route("POST", "/commit", commit),)
