"""What the service tells a worker process, and what it is told. Both travel as JSON."""

import enum
import json
import signal
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from sampan import errors
from sampan.errors import SampanError, UnavailableError
from sampan.tar.entry import MAX_NAME_BYTES, Limits

_KINDS: Final = {
    kind.__name__: kind for kind in (errors.InvalidArgumentError, errors.DataLossError, errors.ResourceExhaustedError)
}

# Lines of a worker's before its answer: how many bytes of the blob it has taken, in decimal.
PROGRESS: Final = b"read "


class WorkerDiedError(UnavailableError):
    """A worker ended without an answer."""


class Work(enum.Enum):
    """What a worker is forked for."""

    APPLY = "apply"  # an ApplyJob: the blob is on stdin
    PACK = "pack"  # a DiffJob: what it packs goes to descriptor 0, unless it has a target


class Compression(enum.Enum):
    """How a new layer is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    DISCARD = "discard"  # nothing is written: what it would be is digested


@dataclass(frozen=True, slots=True)
class ApplyJob:
    """Unpack a layer."""

    digest: str  # of the blob on stdin
    size_bytes: int  # likewise
    diff_id: str  # to verify; empty if it is not known
    format: str  # a model.LayerFormat
    target: str  # for a tree, the existing directory to unpack into; for an EROFS image, the file to make
    trash: str  # directory of the same file system, for what the layer itself replaces
    limits: Limits

    def to_json(self) -> str:
        """Return the job as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo ``to_json``."""
        fields = json.loads(text)
        return cls(**fields | {"limits": Limits(**fields["limits"])})


@dataclass(frozen=True, slots=True)
class DiffJob:
    """Make a layer."""

    left: tuple[str, ...]  # directories, nearest first
    right: tuple[str, ...]
    compression: str  # a Compression
    target: str  # file to write; empty: the pipe that the worker was given
    exclude: tuple[str, ...] = ()  # paths without the leading slash that are left out, with what is in them
    settle: str = ""  # the first of ``right``, if it is to be left with what the layer says and nothing else
    newest_ns: int | None = None  # no file's time is later than that, since the epoch
    stored: bool = False  # ``right`` is a stored layer, of which all that it says is told; there is no ``left``
    max_path_bytes: int = MAX_NAME_BYTES

    def to_json(self) -> str:
        """Return the job as text; a snapshot's parents, which may be hundreds, are in it once."""
        start = len(self.right) - len(self.left)
        shared = start >= 0 and self.right[start:] == self.left
        return json.dumps(asdict(self) | ({"left": start} if shared else {}))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo ``to_json``."""
        fields = json.loads(text)
        left, right = fields["left"], tuple(fields["right"])
        left = right[left:] if isinstance(left, int) else tuple(left)
        return cls(**fields | {"left": left, "right": right, "exclude": tuple(fields["exclude"])})


@dataclass(frozen=True, slots=True)
class Answer:
    """The layer is unpacked, and is what it should be."""

    diff_id: str
    tar_bytes: int
    size_bytes: int
    inodes: int
    skipped_xattrs: int
    complete: bool  # the layer hides all that is below it
    erofs_digest: str  # of the EROFS image, if one was made
    seconds: float


@dataclass(frozen=True, slots=True)
class Packed:
    """The layer is written."""

    digest: str  # empty for a stream: its reader knows
    size_bytes: int
    diff_id: str  # empty for a stream that is not compressed: likewise
    tar_bytes: int
    stored_bytes: int = 0  # of the directory that was settled, on disk
    inodes: int = 0  # in it
    synced: bool = False  # and all of it is on disk


@dataclass(frozen=True, slots=True)
class Failure:
    """It is not done; what has been written is to be thrown away."""

    error: str  # name of a class in sampan.errors
    message: str


def parse_answer(line: bytes, died: str) -> dict[str, Any]:
    """Return the fields of a worker's answer.

    Raises:
        SampanError: the failure that the worker answered.
        WorkerDiedError: it gave no answer; ``died`` says how it ended.
    """
    try:
        fields: dict[str, Any] = json.loads(line)
    except ValueError:
        raise WorkerDiedError(f"the process working on it {died}") from None
    if "error" in fields:
        kind: type[SampanError] = _KINDS.get(fields["error"], SampanError)
        raise kind(fields["message"])
    return fields


def how_it_ended(code: int) -> str:
    """Say how a process ended that gave no answer; ``code`` is negative for a signal."""
    if code >= 0:
        return f"ended with exit code {code} and no answer"
    return f"was killed by {signal.Signals(-code).name}"
