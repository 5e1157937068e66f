"""Commands that kubelet has run in a container and waits for: probes, hooks."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from sampan.cancellation import to_the_end
from sampan.errors import InternalError, InvalidArgumentError, NotFoundError, UnavailableError
from sampan.resource.exec import Exec, ExecSpec
from sampan.resource.streams import Accepted, Attached, Detached, ExecStart, Input, Output, Stream

# CRI has 16 MB for each stream, and kubelet takes a message of that size at most: together they have that.
MOST_BYTES: Final = (16 << 20) - (64 << 10)

# How long the end of an exec that was killed is waited for before its caller is told.
_KILLED_S: Final = 2.0


class ExecTimeoutError(UnavailableError):
    """A command took longer than it was given, and was killed."""


class Execs(Protocol):
    """Execs as far as this needs them; ``resource.protocols.Execs`` says what each promises."""

    async def create(self, container: str, spec: ExecSpec) -> str:
        """Record one."""

    async def get(self, id: str) -> Exec:
        """Return one."""

    def start(self, id: str, options: ExecStart, input: Input) -> AsyncGenerator[Accepted | Output, None]:
        """Run one."""

    async def kill(self, id: str) -> None:
        """Kill it, with all that has come of it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended, and the beginning of what it wrote."""

    exit_code: int
    stdout: bytes
    stderr: bytes


async def exec_sync(execs: Execs, container: str, command: tuple[str, ...], timeout_s: float) -> Outcome:
    """Run a command to its end, at most ``timeout_s`` long; 0: however long.

    What it writes beyond ``MOST_BYTES`` is read and dropped, so that it goes on. Cancelled, it is killed.

    Raises:
        InvalidArgumentError: there is no command.
        NotFoundError, ConflictError, StartError: as the container has it.
        ExecTimeoutError: it took too long, and is killed with its children.
    """
    if not command or not command[0]:
        raise InvalidArgumentError("cmd is empty")
    if timeout_s < 0:
        raise InvalidArgumentError(f"timeout is {timeout_s:.0f} seconds")
    made = await execs.create(container, ExecSpec(args=command, attach_stdout=True, attach_stderr=True))
    kept = {Stream.STDOUT: bytearray(), Stream.STDERR: bytearray()}
    try:
        async with asyncio.timeout(timeout_s or None):
            await _read(execs.start(made, ExecStart(), _nothing()), kept)
    except TimeoutError:
        await to_the_end(_kill(execs, made))
        raise ExecTimeoutError(f"command {command[0]!r} timed out after {timeout_s:g} seconds and was killed") from None
    except asyncio.CancelledError:
        await to_the_end(_kill(execs, made))
        raise
    code = (await execs.get(made)).exit_code
    if code is None:
        raise InternalError(f"exec {made} has ended without an exit code")
    return Outcome(code, bytes(kept[Stream.STDOUT]), bytes(kept[Stream.STDERR]))


async def _read(output: AsyncGenerator[Accepted | Output, None], kept: dict[Stream, bytearray]) -> None:
    async with aclosing(output) as items:
        async for item in items:
            if isinstance(item, Accepted | Attached | Detached):
                continue
            for frame in item:
                room = MOST_BYTES - sum(map(len, kept.values()))
                kept[frame.stream] += frame.data[:room]


async def _kill(execs: Execs, id: str) -> None:
    with suppress(NotFoundError, TimeoutError):
        async with asyncio.timeout(_KILLED_S):
            await execs.kill(id)


async def _nothing() -> AsyncIterator[bytes]:
    for _ in ():
        yield b""
