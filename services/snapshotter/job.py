"""What the service tells a worker process, and what it is told. Both travel as JSON."""

import json
from dataclasses import asdict, dataclass
from typing import Final, Self

from sampan import errors
from sampan.errors import SampanError, UnavailableError
from sampan.tar.entry import Limits

_KINDS: Final = {
    kind.__name__: kind for kind in (errors.InvalidArgumentError, errors.DataLossError, errors.ResourceExhaustedError)
}


@dataclass(frozen=True, slots=True)
class ApplyJob:
    """Unpack a layer."""

    digest: str  # of the blob on stdin
    size_bytes: int  # likewise
    diff_id: str  # to verify; empty if it is not known
    target: str  # directory to unpack into
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
class Answer:
    """The layer is unpacked, and is what it should be."""

    diff_id: str
    tar_bytes: int
    size_bytes: int
    inodes: int
    skipped_xattrs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """It is not; what has been written is to be thrown away."""

    error: str  # name of a class in sampan.errors
    message: str


def parse_answer(line: bytes, died: str) -> Answer:
    """Return a worker's answer.

    Raises:
        SampanError: the failure that the worker answered.
        UnavailableError: it gave no answer; ``died`` says how it ended.
    """
    try:
        fields = json.loads(line)
    except ValueError:
        raise UnavailableError(f"the process unpacking it {died}") from None
    if "error" in fields:
        kind: type[SampanError] = _KINDS.get(fields["error"], SampanError)
        raise kind(fields["message"])
    return Answer(**fields)
