"""What can go wrong, in one vocabulary.

    SampanError
    ├── InvalidArgumentError      the request itself is wrong
    ├── NotFoundError             what it names is not there
    ├── AlreadyExistsError        what it would make is there
    ├── ConflictError             the state of things forbids it
    │   └── NotModifiedError      things are that way already
    ├── PermissionDeniedError     whoever asks may not
    │   └── UnauthenticatedError  credentials are missing or wrong
    ├── ResourceExhaustedError    a range, a limit is used up
    │   └── NoSpaceError          a disk, or a quota on it
    ├── UnavailableError          somebody else does not answer; worth another try
    │   └── ServiceGoneError      a call to a service of the engine found no connection, or lost it
    ├── RemoteError               a party outside the engine, such as a registry, fails or answers nonsense
    ├── UnimplementedError        this engine or this host cannot do it
    ├── DataLossError             bytes are not what their digest says
    │   └── DatabaseDamagedError  a service's own rows cannot be read
    ├── StartError                a process could not be started
    │   ├── CommandNotFoundError
    │   ├── CommandNotExecutableError
    │   ├── NotStartedError
    │   └── ImageMountError
    └── InternalError             another service of the engine failed by a bug of its own

The core raises these for what it expects and lets bugs escape; ``sampan.wire.status`` says how each travels. Only
``sampan.wire`` raises ``ServiceGoneError`` and ``InternalError``: they are what a call between services ends with.
A message is one sentence that names the thing and, where there is one, the way out.
"""

from pathlib import Path
from typing import TypeVar


class SampanError(Exception):
    """Something expected went wrong."""


_Error = TypeVar("_Error", bound=SampanError)


class InvalidArgumentError(SampanError):
    """The request itself is wrong, whatever the state of things."""


class NotFoundError(SampanError):
    """What the request names does not exist."""


class AlreadyExistsError(SampanError):
    """What the request would make exists, and is not the same."""


class ConflictError(SampanError):
    """The state of things forbids it; it may be possible later."""


class NotModifiedError(ConflictError):
    """Things are already the way the request wants them."""


class PermissionDeniedError(SampanError):
    """Whoever asks may not do this."""


class UnauthenticatedError(PermissionDeniedError):
    """Credentials are missing or wrong."""


class ResourceExhaustedError(SampanError):
    """A disk, an address range or a limit is used up."""


class NoSpaceError(ResourceExhaustedError):
    """No space, or no quota, is left on a disk; the message says what was being written."""


class UnavailableError(SampanError):
    """Another party does not answer; the same request may succeed later."""


class ServiceGoneError(UnavailableError):
    """A call to a service of the engine found no connection, or lost it before the answer: it may have been done."""


class RemoteError(SampanError):
    """A party outside the engine, such as a registry, cannot be reached, fails, or answers with nonsense."""


class UnimplementedError(SampanError):
    """This engine, or this host, cannot do it."""


class DataLossError(SampanError):
    """Bytes are not what their digest or size says."""


class DatabaseDamagedError(DataLossError):
    """A service's database cannot be read; ``path`` says which."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"database {path} is damaged: {problem}; repair it with: sampan system check --repair")
        self.path = path
        self.problem = problem


class BuildFailedError(SampanError):
    """What a build's step ran has failed: nobody but the build's author is to blame."""


class StartError(SampanError):
    """The runtime could not start a process; Docker's exit code 125."""


class NotStartedError(StartError):
    """The OCI runtime did not start a step's process, for which everything else was ready; its own words."""


class CommandNotFoundError(StartError):
    """The command is not in the root file system; Docker's exit code 127."""


class CommandNotExecutableError(StartError):
    """The command is there and cannot be executed; Docker's exit code 126."""


class ImageMountError(StartError):
    """An image, or the part of it that is asked for, cannot be mounted in a container."""


class InternalError(SampanError):
    """Another service of the engine failed by a bug of its own; its log has the details, under the request's id."""


def reworded(error: _Error, words: str) -> _Error:
    """Return an error like ``error``, of its kind and with all that it carries, that says ``words``.

    Kinds are not called for this: some are made of other things than words.
    """
    made = type(error).__new__(type(error), words)
    made.__dict__.update(error.__dict__)
    return made
