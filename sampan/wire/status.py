"""How an error travels: core exception, gRPC status, HTTP status, exit code. The only place that knows."""

import os
from dataclasses import dataclass, replace
from typing import Any, Final

import grpc

from sampan import errors as e
from sampan.sys.files import is_full
from sampan.sys.processes import is_exhausted

REASON_KEY: Final = "sampan-reason"

# The words of a refusal, for whoever is in the middle of sending; with the reason in the *initial* metadata.
REFUSAL_KEY: Final = "sampan-refusal-bin"


@dataclass(frozen=True, slots=True)
class Wire:
    """One row of the table."""

    reason: str  # sent as trailing metadata; renaming one breaks old clients
    code: grpc.StatusCode
    http: int
    exit_code: int = 1  # of the CLI, where the command is not `run`, `exec` or `start`


TABLE: Final[dict[type[e.SampanError], Wire]] = {
    e.InvalidArgumentError: Wire("invalid_argument", grpc.StatusCode.INVALID_ARGUMENT, 400),
    e.NotFoundError: Wire("not_found", grpc.StatusCode.NOT_FOUND, 404),
    e.AlreadyExistsError: Wire("already_exists", grpc.StatusCode.ALREADY_EXISTS, 409),
    e.ConflictError: Wire("conflict", grpc.StatusCode.FAILED_PRECONDITION, 409),
    e.NotModifiedError: Wire("not_modified", grpc.StatusCode.FAILED_PRECONDITION, 304),
    e.PermissionDeniedError: Wire("permission_denied", grpc.StatusCode.PERMISSION_DENIED, 403),
    e.UnauthenticatedError: Wire("unauthenticated", grpc.StatusCode.UNAUTHENTICATED, 401),
    e.ResourceExhaustedError: Wire("exhausted", grpc.StatusCode.RESOURCE_EXHAUSTED, 500),
    e.NoSpaceError: Wire("no_space", grpc.StatusCode.RESOURCE_EXHAUSTED, 500),
    e.UnavailableError: Wire("unavailable", grpc.StatusCode.UNAVAILABLE, 503),
    # Not UNAVAILABLE, which means this engine to whoever retries; Docker's daemon answers 500 too.
    e.RemoteError: Wire("remote", grpc.StatusCode.UNKNOWN, 500),
    e.BuildFailedError: Wire("build_failed", grpc.StatusCode.UNKNOWN, 500),
    e.UnimplementedError: Wire("unimplemented", grpc.StatusCode.UNIMPLEMENTED, 501),
    e.DataLossError: Wire("data_loss", grpc.StatusCode.DATA_LOSS, 500),
    # Docker answers 400 when the command cannot be run and 500 for every other failed start; its client
    # turns these into the exit codes 127, 126 and 125.
    e.StartError: Wire("start", grpc.StatusCode.ABORTED, 500, 125),
    e.NotStartedError: Wire("not_started", grpc.StatusCode.ABORTED, 500, 125),
    e.CommandNotFoundError: Wire("command_not_found", grpc.StatusCode.ABORTED, 400, 127),
    e.CommandNotExecutableError: Wire("not_executable", grpc.StatusCode.ABORTED, 400, 126),
    e.ImageMountError: Wire("image_mount", grpc.StatusCode.ABORTED, 500, 125),
    e.InternalError: Wire("internal", grpc.StatusCode.INTERNAL, 500),
}

# What gRPC's own core says of a stream whose other end went away, or refused it, between two messages of ours: what
# the other end said in its last words is lost then.
_BROKEN_OFF: Final = "Internal error from Core"

# Details of an error, as google.rpc.Status: for clients of interfaces that are not ours.
DETAILS_KEY: Final = "grpc-status-details-bin"

_BY_REASON: Final = {wire.reason: kind for kind, wire in TABLE.items()}

# For answers from a party that is not ours (a foreign containerd) or from gRPC itself.
_BY_CODE: Final[dict[grpc.StatusCode, type[e.SampanError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: e.InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: e.InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: e.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: e.AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: e.ConflictError,
    grpc.StatusCode.PERMISSION_DENIED: e.PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: e.UnauthenticatedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: e.ResourceExhaustedError,
    grpc.StatusCode.UNAVAILABLE: e.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: e.UnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: e.UnimplementedError,
    grpc.StatusCode.DATA_LOSS: e.DataLossError,
}

_BY_NUMBER: Final[dict[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


class ForeignError(e.SampanError):
    """An error as the clients of somebody else's interface expect it: raised by servicers of such an interface alone.

    It says what ``cause`` says, unless ``words`` say it shorter. The reason of ``cause`` travels too: clients of ours
    see no difference.
    """

    def __init__(self, cause: e.SampanError, code: grpc.StatusCode, details: bytes = b"", words: str = "") -> None:
        super().__init__(words or str(cause))
        self.cause = cause
        self.code = code
        self.details = details  # google.rpc.Status


def explained(error: Exception) -> Exception:
    """Return what a system's error that nobody has translated is to whoever asked; any other is returned as it is.

    A disk may be full wherever something is written, and the system out of processes or memory wherever something is
    begun: that is nobody's bug.
    """
    if is_full(error):
        return e.NoSpaceError(f"write {getattr(error, 'filename', None) or 'a file'}: no space left on device")
    if is_exhausted(error):
        words = "cannot allocate memory" if isinstance(error, MemoryError) else "resource temporarily unavailable"
        if isinstance(error, OSError) and error.errno is not None:
            words = os.strerror(error.errno).lower()
        return e.ResourceExhaustedError(f"the machine has no process, thread or memory to spare: {words}")
    return error


def wire_for(error: BaseException) -> Wire:
    """Return the entry of the nearest class in ``error``'s MRO; a stranger is a bug: ``InternalError``'s."""
    if isinstance(error, ForeignError):
        return replace(wire_for(error.cause), code=error.code)
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), TABLE[e.InternalError])


def is_broken_off(error: grpc.aio.AioRpcError) -> bool:
    """Say whether this is gRPC's own error for a message of ours that came too late, not the other side's end."""
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == _BROKEN_OFF


def from_rpc_error(error: grpc.aio.AioRpcError) -> e.SampanError:
    """Return the error that the other side raised: ``InternalError`` for a bug there.

    ``ServiceGoneError`` is for what gRPC itself says of a connection, never for what somebody said over one.
    """
    reason, code, said = _value(error.trailing_metadata(), REASON_KEY), error.code(), error.details()
    if reason is None and code is grpc.StatusCode.UNAVAILABLE:
        # gRPC itself says this, in words about sockets.
        return e.ServiceGoneError(f"a service of the engine went away: see `sampan status` ({said})")
    if reason is None and is_broken_off(error):
        refusal = _value(error.initial_metadata(), REFUSAL_KEY)
        kind = _BY_REASON.get(str(_value(error.initial_metadata(), REASON_KEY)))
        if kind is not None and isinstance(refusal, bytes):
            return kind(refusal.decode(errors="replace"))
        return e.ServiceGoneError("a service of the engine went away in the middle of a call: see `sampan status`")
    if reason is None and code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return e.UnavailableError("a service of the engine did not answer in time: see `sampan status`")
    kind = _BY_REASON.get(str(reason)) or _BY_CODE.get(code, e.InternalError)
    return kind(said or code.name.lower())


def from_code(code: int, message: str) -> e.SampanError:
    """Return what the status of a party outside the engine means; bugs there are its own: RemoteError."""
    status = _BY_NUMBER.get(code, grpc.StatusCode.UNKNOWN)
    return _BY_CODE.get(status, e.RemoteError)(message or status.name.lower().replace("_", " "))


def _value(metadata: Any, key: str) -> str | bytes | None:
    return next((value for name, value in metadata or () if name == key), None)
