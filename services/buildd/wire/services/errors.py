"""Errors as BuildKit's clients read them.

What an error is about travels in the status's details: each an ``Any`` whose type is named as containerd's typeurl
does and whose value is JSON, under the fields' names of ``errdefs``. Clients print the lines that are to blame.

Reference: moby/buildkit, util/grpcerrors and solver/errdefs.
"""

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage

from buildd.build.protocol import LocatedError
from buildd.protocol import SourceFile, StepError
from sampan import errors as e
from sampan.api.rpc.status_pb2 import Status
from sampan.wire.status import ForeignError, wire_for

_TYPES: Final = "github.com/moby/buildkit/errdefs."

# Details travel as metadata, of which a peer takes 16 KiB or so: of a larger file, only what is around the lines.
_MAX_SOURCE_BYTES: Final = 4 << 10

# Codes that clients act upon. Any other error of a build is "Unknown" to them, as it is with BuildKit, and they show
# what it says without the code's name before it.
_TOLD: Final = frozenset(
    (
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ALREADY_EXISTS,
    )
)


class ReturnedError(e.RemoteError):
    """What a client, or a frontend of its own, has ended its build with: it goes back as it came."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message or "the client has given the build up")
        self.status = status


@contextmanager
def foreign_errors() -> Iterator[None]:
    """Raise what a build ends with as BuildKit's clients expect it."""
    try:
        yield
    except e.SampanError as error:
        raise _foreign(error) from error


def error_status(error: e.SampanError) -> bytes:
    """Return a build's error as ``google.rpc.Status``, with its details."""
    cause = _innermost(error)
    if isinstance(cause, ReturnedError):
        return cause.status.SerializeToString()
    code: int = _code_of(error, cause).value[0]
    return Status(code=code, message=str(error), details=list(_details(error))).SerializeToString()


def _foreign(error: e.SampanError) -> ForeignError:
    cause = _innermost(error)
    if isinstance(cause, ReturnedError):
        return ForeignError(cause, _code(cause.status.code), cause.status.SerializeToString())
    code = _code_of(error, cause)
    details = list(_details(error))
    status = Status(code=code.value[0], message=str(error), details=details)
    return ForeignError(cause, code, status.SerializeToString() if details else b"")


def _code_of(error: e.SampanError, cause: e.SampanError) -> grpc.StatusCode:
    code = wire_for(cause).code if not isinstance(error, LocatedError) else grpc.StatusCode.UNKNOWN
    return code if code in _TOLD else grpc.StatusCode.UNKNOWN


def _code(number: int) -> grpc.StatusCode:
    return next((code for code in grpc.StatusCode if code.value[0] == number and number), grpc.StatusCode.UNKNOWN)


def _innermost(error: e.SampanError) -> e.SampanError:
    while isinstance(error, LocatedError | StepError):
        error = error.cause
    return error


def _details(error: e.SampanError) -> Iterator[AnyMessage]:
    if not isinstance(error, LocatedError):
        return
    yield from _details(error.cause)
    if error.vertex is not None:
        yield _detail("Vertex", {"digest": error.vertex})
    if error.source is not None and error.lines:
        ranges = [{"start": {"line": first}, "end": {"line": last}} for first, last in error.lines]
        yield _detail("Source", {"info": _info(error.source, error.lines[0][0]), "ranges": ranges})


def _detail(name: str, value: object) -> AnyMessage:
    return AnyMessage(type_url=f"{_TYPES}{name}+json", value=json.dumps(value, separators=(",", ":")).encode())


def _info(source: SourceFile, line: int) -> dict[str, str]:
    data = source.data if len(source.data) <= _MAX_SOURCE_BYTES else _around(source.data, line)
    return {"filename": source.name, "data": b64encode(data).decode(), "language": source.language}


def _around(data: bytes, line: int) -> bytes:
    """Return a file in which only the lines around one are left; the others are empty, so that numbers stay."""
    lines = data.split(b"\n")
    left = _MAX_SOURCE_BYTES
    kept: dict[int, bytes] = {}
    for number in sorted(range(len(lines)), key=lambda number: abs(number - (line - 1))):
        left -= len(lines[number])
        if left < 0 or abs(number - (line - 1)) > _MAX_AROUND:
            break
        kept[number] = lines[number]
    return b"\n".join(kept.get(number, b"") for number in range(min(len(lines), line + _MAX_AROUND)))


_MAX_AROUND: Final = 40  # lines
