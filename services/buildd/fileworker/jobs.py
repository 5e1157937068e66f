"""What a file worker is told, and what it answers.

Both travel as pickles on a socket that only this program's own processes have: values of any depth, without a second
description of each. A message is its length, in 4 bytes, and a pickle; before the answer there may be pieces of data,
each with its length, and a length of 0 after the last.
"""

import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from buildd.llb.ops import FileAction
from buildd.protocol import Form, Selection
from sampan import errors
from sampan.errors import SampanError
from sampan.resource.snapshot import Mount

LENGTH: Final = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an output's files are. With neither there are none: the empty tree."""

    path: str = ""  # a directory
    mounts: tuple[Mount, ...] = ()  # of a snapshot

    @property
    def empty(self) -> bool:
        """Whether it is the empty tree."""
        return not self.path and not self.mounts


@dataclass(frozen=True, slots=True)
class Checksum:
    """Digest a selection."""

    place: Place
    selection: Selection


@dataclass(frozen=True, slots=True)
class FileDigests:
    """Digest each file."""

    place: Place


@dataclass(frozen=True, slots=True)
class Convert:
    """Write a layer's blob in another form."""

    source: Path
    target: Path
    form: Form


@dataclass(frozen=True, slots=True)
class Change:
    """Carry out actions, one after another, on a snapshot."""

    base: Place
    inputs: Mapping[int, Place]  # by the index that actions have for them
    actions: tuple[FileAction, ...]


@dataclass(frozen=True, slots=True)
class ReadFile:
    """Read a part of a file."""

    place: Place
    path: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ReadDirectory:
    """List a directory."""

    place: Place
    path: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Stat:
    """Look at a path."""

    place: Place
    path: str


@dataclass(frozen=True, slots=True)
class Tar:
    """Send a tar of outputs."""

    outputs: tuple[tuple[str, Place], ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep outputs mounted, below their names, until the conversation ends; the answer is where."""

    outputs: tuple[tuple[str, Place], ...]


Look: TypeAlias = ReadFile | ReadDirectory | Stat
Placed: TypeAlias = Checksum | FileDigests | Change | Look | Tar | Hold
Job: TypeAlias = Placed | Convert


@dataclass(frozen=True, slots=True)
class Done:
    """It is done."""

    value: object
    notes: tuple[str, ...] = ()  # for the step's log


@dataclass(frozen=True, slots=True)
class Failed:
    """It is not."""

    kind: str  # a class in sampan.errors
    message: str

    def error(self) -> SampanError:
        """Return what to raise."""
        kind: type[SampanError] = getattr(errors, self.kind, SampanError)
        return kind(self.message)


def pack(message: Job | Done | Failed) -> bytes:
    """Return a message as bytes, with its length."""
    data = pickle.dumps(message)
    return LENGTH.pack(len(data)) + data


def unpack_job(data: bytes) -> Job:
    """Undo ``pack``, without the length."""
    job: Job = pickle.loads(data)  # noqa: S301  # from the process that started this one
    return job


def unpack_answer(data: bytes) -> Done | Failed:
    """Likewise."""
    answer: Done | Failed = pickle.loads(data)  # noqa: S301  # from this program's own process
    return answer
