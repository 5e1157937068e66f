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
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage

from buildd.build.judging import PolicyDeniedError
from buildd.build.protocol import LocatedError
from buildd.protocol import FrontendError, ProcessError, SourceFile, StepError
from sampan import errors as e
from sampan.api.buildkit.solver.v1 import ops_pb2
from sampan.api.rpc.status_pb2 import Status
from sampan.wire.status import ForeignError, wire_for

_EXIT: Final = "github.com/moby/buildkit/gatewayapi.ExitMessage+json"
_TYPES: Final = "github.com/moby/buildkit/errdefs."

# All of it travels as metadata, of which peers take little, and base64 makes it a third larger twice. So a message is
# cut in the middle, as what matters most is at its end (an exit code); of a larger file only what is around the lines
# travels, or nothing if they are so far down that the empty lines before them were too much.
_MAX_MESSAGE_BYTES: Final = 3 << 10
_MAX_SOURCE_BYTES: Final = 8 << 10
_MAX_RANGES: Final = 100
_MAX_DETAILS_BYTES: Final = 20 << 10

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


class ReturnedError(FrontendError):
    """Such an error, with its details."""

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
        return ForeignError(cause, _code(cause.status.code), _encoded(cause.status), _shortened(str(cause)))
    code = _code_of(error, cause)
    details = list(_details(error))
    words = _shortened(str(error))
    status = Status(code=code.value[0], message=words, details=details)
    return ForeignError(cause, code, _encoded(status) if details else b"", words)


def _shortened(words: str) -> str:
    """Return a message that travels, by its ends if it is long: a command may be in it, which may be a whole script."""
    encoded = words.encode(errors="replace")
    if len(encoded) <= _MAX_MESSAGE_BYTES:
        return words
    half = _MAX_MESSAGE_BYTES // 2 - 4
    return f"{encoded[:half].decode(errors='ignore')} … {encoded[-half:].decode(errors='ignore')}"


def _encoded(status: Status) -> bytes:
    """Return a status that travels: without details, those that were added first, if they are too much."""
    status = Status(code=status.code, message=_shortened(status.message), details=status.details)
    while status.details and status.ByteSize() > _MAX_DETAILS_BYTES:
        del status.details[0]
    return status.SerializeToString()


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
    if isinstance(error, ProcessError) and not isinstance(error.__cause__, e.StartError):
        yield AnyMessage(type_url=_EXIT, value=json.dumps({"Code": error.exit_code}).encode())
    if not isinstance(error, LocatedError):
        return
    denied = _denied(error)
    if denied is not None and denied.messages:
        messages = [{"message": each} for each in denied.messages]
        yield AnyMessage(
            type_url="github.com/moby/buildkit/policysession.DecisionResponse+json",
            value=json.dumps({"action": "DENY", "denyMessages": messages}).encode(),
        )
    if error.step is not None:
        op = json_format.MessageToDict(ops_pb2.Op.FromString(error.step.operation))
        step = {"inputIDs": error.step.before, "mountIDs": error.step.after, "op": op}
        yield _detail("Solve", step)
    yield from _details(error.cause)
    if error.vertex is not None:
        yield _detail("Vertex", {"digest": error.vertex})
    if error.source is not None and error.lines:
        info = _info(error.source, error.lines[0][0])
        ranges = [{"start": {"line": first}, "end": {"line": last}} for first, last in error.lines[:_MAX_RANGES]]
        if info is not None:
            yield _detail("Source", {"info": info, "ranges": ranges})


def _denied(error: BaseException | None) -> PolicyDeniedError | None:
    """Return the denial that an error comes of."""
    while error is not None and not isinstance(error, PolicyDeniedError):
        error = error.cause if isinstance(error, LocatedError | StepError) else error.__cause__
    return error


def _detail(name: str, value: object) -> AnyMessage:
    return AnyMessage(type_url=f"{_TYPES}{name}+json", value=json.dumps(value, separators=(",", ":")).encode())


def _info(source: SourceFile, line: int) -> dict[str, str] | None:
    data = source.data if len(source.data) <= _MAX_SOURCE_BYTES else _around(source.data, line)
    if data is None:
        return None
    return {"filename": source.name, "data": b64encode(data).decode(), "language": source.language}


def _around(data: bytes, line: int) -> bytes | None:
    """Return a file in which only the lines around one are left; the others are empty, so that numbers stay.

    None: the line itself and those before it, empty ones, are too much.
    """
    lines = data.split(b"\n")
    at = line - 1
    last = min(len(lines), line + _MAX_AROUND)
    left = _MAX_SOURCE_BYTES - last  # for the ends of lines
    kept: dict[int, bytes] = {}
    for number in sorted(range(max(0, at - _MAX_AROUND), last), key=lambda number: abs(number - at)):
        left -= len(lines[number])
        if left < 0:
            break
        kept[number] = lines[number]
    return b"\n".join(kept.get(number, b"") for number in range(last)) if at in kept else None


_MAX_AROUND: Final = 40  # lines
