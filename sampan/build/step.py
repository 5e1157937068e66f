"""What a build step's process is: the plain-Python twin of ``steps.proto``."""

import enum
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ConsoleSize, Resources
from sampan.resource.streams import Frame

_ID: Final = re.compile(r"[a-z0-9]{12,64}")
_MAX_SIGNAL: Final = 64

MAX_FILE_BYTES: Final = 1 << 20  # kept in memory, here and by the step; BuildKit's secrets have 500 KB at most

DEFAULT_HOSTNAME: Final = "buildkitsandbox"  # what steps of BuildKit's see

# How what is shown of a process begins that the OCI runtime did not start: of a step's first, of a further one.
NOT_RUN: Final = ("runc run failed:", "crun:")
NOT_EXECUTED: Final = ("exec failed:", "crun:")


class StepNetwork(enum.Enum):
    """What a step can reach."""

    SANDBOX = "sandbox"  # the default network, as a container's
    HOST = "host"
    NONE = "none"


class StepSecurity(enum.Enum):
    """What a step may do to the host."""

    CONFINED = "confined"  # a container's defaults
    INSECURE = "insecure"  # a privileged container's


@dataclass(frozen=True, slots=True)
class StepProcess:
    """What runs."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()  # "NAME=value"
    working_dir: str = ""  # empty: "/"; made if it is missing
    user: str = ""  # "name|uid[:group|gid]", looked up in the root
    tty: bool = False
    open_stdin: bool = False  # else it is empty
    console_size: ConsoleSize | None = None


@dataclass(frozen=True, slots=True)
class SnapshotSource:
    """What is in an active snapshot or a view, which may also be the root's."""

    key: str
    path: str = ""  # links lead where they lead in it; empty: all
    discard: bool = False  # may be written to, and what is written is thrown away


@dataclass(frozen=True, slots=True)
class DirectorySource:
    """A directory of the host, below the builder's own."""

    directory: str
    path: str = ""  # as of a snapshot
    discard: bool = False  # as of a snapshot


@dataclass(frozen=True, slots=True)
class TmpfsSource:
    """An empty directory in memory."""

    size_bytes: int = 0  # 0: the kernel's default, half of the memory


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file that exists for one step alone, in memory: a secret.

    Raises:
        InvalidArgumentError: it is too long, or ``mode`` has more than permission bits.
    """

    content: bytes = field(repr=False)
    mode: int = 0o400
    uid: int = 0
    gid: int = 0

    def __post_init__(self) -> None:
        if len(self.content) > MAX_FILE_BYTES:
            raise InvalidArgumentError(
                f"a file for a step has {len(self.content)} bytes, the most is {MAX_FILE_BYTES}: mount a directory"
            )
        if self.mode & ~0o777:
            raise InvalidArgumentError(f"invalid mode {self.mode:o} of a file for a step: the most is 777")


@dataclass(frozen=True, slots=True)
class SocketSource:
    """A Unix socket below the builder's run directory; its owner and mode are what the step sees."""

    path: str


StepSource = SnapshotSource | DirectorySource | TmpfsSource | FileSource | SocketSource


@dataclass(frozen=True, slots=True)
class StepMount:
    """Something shown at ``target``, which is made if it is missing."""

    target: str  # absolute, links lead where they lead in the root
    source: StepSource
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class StepSpec:
    """The whole of it.

    Raises:
        InvalidArgumentError: the ID is none.
    """

    id: str  # [a-z0-9]{12,64}, unique among those that run
    process: StepProcess
    root: str  # key of an active snapshot
    root_read_only: bool = False
    hostname: str = ""  # empty: DEFAULT_HOSTNAME
    extra_hosts: tuple[str, ...] = ()  # "name:address"
    network: StepNetwork = StepNetwork.SANDBOX
    security: StepSecurity = StepSecurity.CONFINED
    resources: Resources = field(default_factory=Resources)
    cdi_devices: tuple[str, ...] = ()  # refused so far
    inside: str = ""  # ID of a step that runs, whose further process this is: then process and security count alone
    network_mode: str = ""  # instead of ``network``, a container's: a network's name, "container:" and a container's
    mounts: tuple[StepMount, ...] = ()  # made parents before what lies in them

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise InvalidArgumentError(f"invalid ID {self.id!r} of a step: it is 12 to 64 of a-z and 0-9")


@dataclass(frozen=True, slots=True)
class StepSignal:
    """A signal for the step's first process.

    Raises:
        InvalidArgumentError: there is no such signal.
    """

    number: int

    def __post_init__(self) -> None:
        if not 0 < self.number <= _MAX_SIGNAL:
            raise InvalidArgumentError(f"invalid signal {self.number}: the most is {_MAX_SIGNAL}")


@dataclass(frozen=True, slots=True)
class StepStarted:
    """The runtime has set everything up."""


@dataclass(frozen=True, slots=True)
class StepExit:
    """The process has ended, and everything else of the step with it."""

    code: int  # 128 + its number for a process that a signal ended
    oom_killed: bool = False  # the kernel has killed a process of the step for want of memory


# What a step gets: bytes for stdin, sizes of its terminal, signals. The end of the iterator is the end of stdin; so are
# empty bytes, after which more may come that is not for stdin.
StepInput = AsyncIterator[bytes | ConsoleSize | StepSignal]

# What comes of a step: ``StepStarted`` first, output, ``StepExit`` last.
StepOutput = StepStarted | Frame | StepExit


async def no_input() -> StepInput:
    """An input without anything: stdin is empty, and nobody signals."""
    return
    yield
