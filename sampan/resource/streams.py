"""What goes in and out of containers: standard streams, what is kept of them in logs, and paths of archives."""

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sampan.resource.container_spec import ConsoleSize


@dataclass(frozen=True, slots=True)
class PathStat:
    """What a path is; a link is not followed."""

    name: str
    size_bytes: int
    mode: int  # st_mode
    modified_ns: int  # since 1970
    link_target: str = ""  # absolute, within the container


@dataclass(frozen=True, slots=True)
class OpenBody:
    """An archive on its way here in HTTP/1.1's chunks: the request's body, on the client's own socket."""

    fd: int  # does not block; stays whose it is
    begun: bytes = b""  # what has been received of it already


# Where an archive is to go, in HTTP/1.1's chunks but for the last one: returns a client's own socket, once what is to
# precede the archive has been sent. It does not block, and stays whose it is.
Outlet = Callable[[], Awaitable[int]]


class Stream(enum.Enum):
    """One of a process's three standard streams; the value is Docker's stream number."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """Output of a process: one write, as far as it is known."""

    stream: Stream
    data: bytes


# In the place of detach keys: every key is the process's.
NO_DETACH_KEYS: Final = "none"


# Gives descriptors to who reads output instead: of conmon's socket, and of the process, which can be read when that has
# ended. Returns True when all output was read, False if nobody takes them. Raises UnavailableError: who took them is
# gone.
HandOver = Callable[[Sequence[int]], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class AttachOptions:
    """What a client attaches to."""

    stdin: bool = False
    streams: frozenset[Stream] = frozenset((Stream.STDOUT, Stream.STDERR))
    live: bool = True
    logs: bool = False  # output so far, first
    detach_keys: str = ""
    hand_over: HandOver | None = None  # set by who serves a client that can read a lot of output itself


@dataclass(frozen=True, slots=True)
class ExecStart:
    """How an exec is started."""

    detach: bool = False
    console_size: ConsoleSize | None = None
    hand_over: HandOver | None = None  # as of an attachment


@dataclass(frozen=True, slots=True)
class Accepted:
    """The start of an exec is accepted; it does not run yet."""

    attaches_stdin: bool


@dataclass(frozen=True, slots=True)
class Attached:
    """The client is connected: input is taken from here on, and no output is missed."""

    tty: bool = False  # output is raw terminal output


@dataclass(frozen=True, slots=True)
class Detached:
    """The user typed the detach keys; the process goes on."""


# What a client sends: bytes for stdin, sizes of its terminal; the end of the iterator is the end of stdin.
Input = AsyncIterator[bytes | ConsoleSize]

# What a client gets: ``Attached`` first, output in batches, and ``Detached`` last if that is how it ended.
Output = Attached | Sequence[Frame] | Detached


class LogEntry(NamedTuple):  # there may be millions: a frozen dataclass takes three times as long to make
    """A line, or the piece of one that was written at once; several lines if that was asked for."""

    stream: Stream
    time_ns: int  # since 1970
    line: bytes  # with its newline, if it had one

    @property
    def line_count(self) -> int:
        """How many lines it has."""
        return self.line.count(b"\n") or 1

    def after(self, lines: int) -> "LogEntry":
        """Return it without its first ``lines``, which are fewer than it has."""
        return self._replace(line=self.line.split(b"\n", lines)[lines])


class LogBatch(NamedTuple):
    """Some entries; the first batch, which may be empty, says whether the container has a terminal."""

    entries: Sequence[LogEntry]
    tty: bool = False


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which entries are wanted."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    tail: int | None = None  # lines; None: all
    since_ns: int = 0
    until_ns: int = 0  # 0: no end
    joined: bool = False  # lines that follow each other may be one entry where they have stream and time in common

    @property
    def all(self) -> bool:
        """Whether every entry is wanted, so that nobody needs to look at each."""
        return self.stdout and self.stderr and not self.since_ns and not self.until_ns

    def wants(self, entry: LogEntry) -> bool:
        """Whether ``entry`` is among them."""
        return (
            (self.stdout if entry.stream is Stream.STDOUT else self.stderr)
            and entry.time_ns >= self.since_ns
            and (not self.until_ns or entry.time_ns <= self.until_ns)
        )
