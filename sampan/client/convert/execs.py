"""Execs."""

from typing import Final

from sampan.api.runtime.v1 import execs_pb2
from sampan.client.convert.codec import Codec
from sampan.client.convert.containers import CONSOLE_SIZE
from sampan.resource.exec import Exec, ExecSpec

# Which container it is for stands beside the spec in the core, and in it on the wire.
SPEC: Final = Codec(ExecSpec, execs_pb2.ExecSpec, nested=(CONSOLE_SIZE,), ignored=("container",))


def spec_to_proto(container: str, spec: ExecSpec) -> execs_pb2.ExecSpec:
    """Return what to run in ``container``."""
    message = SPEC.encode(spec)
    message.container = container
    return message


def exec_to_proto(value: Exec) -> execs_pb2.Exec:
    """Return an exec's record."""
    return execs_pb2.Exec(
        id=value.id,
        container_id=value.container_id,
        spec=spec_to_proto(value.container_id, value.spec),
        running=value.running,
        exit_code=value.exit_code,
        pid=value.pid,
    )


def exec_from_proto(message: execs_pb2.Exec) -> Exec:
    """Return an exec's record."""
    ended = message.HasField("exit_code")
    return Exec(
        id=message.id,
        container_id=message.container_id,
        spec=SPEC.decode(message.spec),
        started=message.running or ended,
        pid=message.pid,
        exit_code=message.exit_code if ended else None,
    )
