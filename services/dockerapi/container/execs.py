"""Execs: /containers/{id}/exec and /exec/{id}/…"""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from dockerapi.container.streams import Streams, hijack_first
from dockerapi.http.call import Call, empty, reply
from dockerapi.http.decode import shown
from dockerapi.http.fields import UINT16, Fields
from dockerapi.http.routing import Route
from dockerapi.http.versions import Version
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.exec import Exec, ExecSpec
from sampan.resource.streams import ExecStart


async def create(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/exec."""
    spec = parse_spec(await call.body(required=True), call.version)
    return reply({"Id": await call.execs.create(call.args["id"], spec)}, 201)


def parse_spec(body: Mapping[str, object], version: Version) -> ExecSpec:
    """Read the body, of a version."""
    sent = Fields(body, "")
    return ExecSpec(
        args=tuple(sent.texts("Cmd")),
        env=tuple(sent.texts("Env")),
        working_dir=sent.text("WorkingDir"),
        user=sent.text("User"),
        tty=sent.flag("Tty"),
        attach_stdin=sent.flag("AttachStdin"),
        attach_stdout=sent.flag("AttachStdout"),
        attach_stderr=sent.flag("AttachStderr"),
        privileged=sent.flag("Privileged"),
        detach_keys=sent.text("DetachKeys"),
        console_size=console_size(sent, version),
    )


async def start(call: Call) -> web.StreamResponse:
    """POST /exec/{id}/start: streams, or an answer at once if detached."""
    # Some clients send no Content-Type here, and dockerd takes the body as JSON all the same.
    sent = Fields(await call.body(), "")
    detach, tty = sent.flag("Detach"), sent.flag("Tty")
    # Whether there is a terminal was said when it was made; this says whether the client wants frames.
    options = ExecStart(detach, console_size(sent, call.version))
    streams = Streams(lambda given: call.execs.start(call.args["id"], options, given), has_input=not detach)
    if detach:
        try:
            await streams.attached()
        finally:
            await streams.close()
        return empty(200)
    return await hijack_first(call, streams, tty=tty)


def console_size(sent: Fields, version: Version) -> ConsoleSize | None:
    """Return the ``ConsoleSize`` pair, height first, or None; nobody looked at it before 1.42."""
    if version < (1, 42):
        return None
    pair = sent.numbers("ConsoleSize", UINT16)
    return ConsoleSize(height=pair[0], width=pair[1]) if len(pair) == 2 and any(pair) else None


def query_size(call: Call) -> ConsoleSize:
    """Return the size that a resize request carries.

    Raises:
        InvalidArgumentError: a missing or impossible number.
    """
    size: dict[str, int] = {}
    for key, name in (("h", "height"), ("w", "width")):
        value = call.number(key)
        if value is None or not 0 <= value < 1 << 16:
            raise InvalidArgumentError(f"invalid resize {name} {shown(call.text(key))}: invalid value")
        size[name] = value
    return ConsoleSize(height=size["height"], width=size["width"])


async def resize(call: Call) -> web.StreamResponse:
    """POST /exec/{id}/resize."""
    await call.execs.resize(call.args["id"], query_size(call))
    return empty(200)


async def inspect(call: Call) -> web.StreamResponse:
    """GET /exec/{id}/json."""
    return reply(_exec_json(await call.execs.get(call.args["id"])))


def _exec_json(found: Exec) -> dict[str, object]:
    """Return an exec in the shape of its inspect; ``ExitCode`` is null until it has ended."""
    spec = found.spec
    process = {
        "arguments": list(spec.args[1:]),
        "entrypoint": spec.args[0] if spec.args else "",
        "privileged": spec.privileged,
        "tty": spec.tty,
    }
    if spec.user:
        process["user"] = spec.user
    return {
        "ID": found.id,
        "Running": found.running,
        "ExitCode": found.exit_code,
        "ProcessConfig": process,
        "OpenStdin": spec.attach_stdin,
        "OpenStderr": spec.attach_stderr,
        "OpenStdout": spec.attach_stdout,
        "CanRemove": False,
        "ContainerID": found.container_id,
        "DetachKeys": spec.detach_keys,
        "Pid": found.pid,
    }


ROUTES: Final = (
    Route("POST", "/containers/{id}/exec", create),
    Route("POST", "/exec/{id}/start", start, follows=True),
    Route("POST", "/exec/{id}/resize", resize),
    Route("GET", "/exec/{id}/json", inspect),
)
