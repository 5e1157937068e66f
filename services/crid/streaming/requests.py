"""What a client may stream, and what that takes of those who have the containers and the sandboxes.

kubelet asks for a session by gRPC and gets a URL; it, or the user's client behind it, then opens that URL. Reference:
CRI's ``ExecRequest``, ``AttachRequest`` and ``PortForwardRequest``.
"""

import socket
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.streams import Frame


@dataclass(frozen=True, slots=True)
class StandardStreams:
    """Which of a process's streams a client wants."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False

    def __post_init__(self) -> None:
        if self.tty and self.stderr:
            raise InvalidArgumentError("tty and stderr cannot both be true: a terminal has one output")
        if not (self.stdin or self.stdout or self.stderr):
            raise InvalidArgumentError("one of stdin, stdout, or stderr must be set")


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """Run a command in a container that runs."""

    container: str  # its ID
    command: tuple[str, ...]
    streams: StandardStreams


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """Connect with a container's own process."""

    container: str
    streams: StandardStreams


@dataclass(frozen=True, slots=True)
class PortForwardRequest:
    """Connect with ports of a pod, as its own processes would with 127.0.0.1."""

    sandbox: str
    ports: tuple[int, ...] = ()  # only clients with one WebSocket for all of them say so beforehand


Request = ExecRequest | AttachRequest | PortForwardRequest


@dataclass(frozen=True, slots=True)
class Ended:
    """The process has; what an exec's output ends with."""

    exit_code: int


class Session(Protocol):
    """A client's conversation with a process."""

    def run(self, stdin: AsyncIterator[bytes]) -> AsyncGenerator[Sequence[Frame] | Ended, None]:
        """Yield output until there is no more. For an exec, ``Ended`` comes last.

        The end of ``stdin`` is that of the process's input. Who reads slowly slows the process down.

        Raises:
            StartError: it cannot be started, in the runtime's words.
            UnavailableError: the engine stops; the process does not.
        """

    async def resize(self, size: ConsoleSize) -> None:
        """Set the size of its terminal; before it runs, the size that it starts with."""


class Processes(Protocol):
    """Processes of containers."""

    async def exec(self, request: ExecRequest) -> Session:
        """Prepare a further process. NotFoundError; ConflictError: the container does not run."""

    async def attach(self, request: AttachRequest) -> Session:
        """Prepare a connection with the first one. NotFoundError; ConflictError: the container does not run."""


class Ports(Protocol):
    """Ports of pods."""

    async def connect(self, sandbox: str, port: int) -> socket.socket:
        """Return a TCP connection, which does not block, with what listens on the pod's loopback.

        Raises:
            NotFoundError: there is no such sandbox.
            ConflictError: it is not ready.
            UnavailableError: nothing listens there.
        """
