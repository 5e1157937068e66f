"""Execs: /containers/{id}/exec and /exec/{id}/…"""

from typing import Any, Final

from aiohttp import web

from dockerapi.container.streams import Streams, hijack_first
from dockerapi.http.call import Call, empty, reply
from dockerapi.http.decode import shown
from dockerapi.http.fields import UINT16, Fields
from dockerapi.http.routing import Route
from sampan.api.runtime.v1 import execs_pb2, spec_pb2
from sampan.errors import InvalidArgumentError
from sampan.wire.channel import rpc_errors


async def create(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/exec."""
    sent = Fields(await call.body(required=True), "")
    spec = execs_pb2.ExecSpec(
        container=call.args["id"],
        args=sent.texts("Cmd"),
        env=sent.texts("Env"),
        working_dir=sent.text("WorkingDir"),
        user=sent.text("User"),
        tty=sent.flag("Tty"),
        attach_stdin=sent.flag("AttachStdin"),
        attach_stdout=sent.flag("AttachStdout"),
        attach_stderr=sent.flag("AttachStderr"),
        privileged=sent.flag("Privileged"),
        detach_keys=sent.text("DetachKeys"),
        console_size=console_size(sent),
    )
    if not spec.args:
        raise InvalidArgumentError("no exec command specified")
    with rpc_errors():
        created = await call.engine.execs.Create(execs_pb2.CreateExecRequest(spec=spec))
    return reply({"Id": created.id}, 201)


async def start(call: Call) -> web.StreamResponse:
    """POST /exec/{id}/start: streams, or an answer at once if detached."""
    # Some clients send no Content-Type here, and dockerd takes the body as JSON all the same.
    sent = Fields(await call.body(), "")
    detach, tty = sent.flag("Detach"), sent.flag("Tty")
    message = execs_pb2.StartExecRequest.Start(
        id=call.args["id"], detach=detach, tty=tty, console_size=console_size(sent)
    )
    request = execs_pb2.StartExecRequest(start=message)
    streams = Streams(call.engine.execs.Start, request, None if detach else _input)
    if detach:
        try:
            await streams.attached()
        finally:
            streams.close()
        return empty(200)
    return await hijack_first(call, streams, tty=tty)


def _input(chunk: bytes) -> execs_pb2.StartExecRequest:
    return execs_pb2.StartExecRequest(stdin=chunk)


def console_size(sent: Fields) -> spec_pb2.ConsoleSize | None:
    """Return the ``ConsoleSize`` pair, height first, or None."""
    pair = sent.numbers("ConsoleSize", UINT16)
    return spec_pb2.ConsoleSize(height=pair[0], width=pair[1]) if len(pair) == 2 and any(pair) else None


def query_size(call: Call) -> spec_pb2.ConsoleSize:
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
    return spec_pb2.ConsoleSize(height=size["height"], width=size["width"])


async def resize(call: Call) -> web.StreamResponse:
    """POST /exec/{id}/resize."""
    request = execs_pb2.ResizeExecRequest(id=call.args["id"], size=query_size(call))
    with rpc_errors():
        await call.engine.execs.Resize(request)
    return empty(200)


async def inspect(call: Call) -> web.StreamResponse:
    """GET /exec/{id}/json."""
    with rpc_errors():
        found = await call.engine.execs.Get(execs_pb2.GetExecRequest(id=call.args["id"]))
    return reply(exec_json(found))


def exec_json(found: execs_pb2.Exec) -> dict[str, Any]:
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
        "ExitCode": found.exit_code if found.HasField("exit_code") else None,
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
