"""What a client and a process say to each other: output by messages, and a lot of it by a descriptor.

A client on the same host as runtimed reads a lot of output where runtimed would, from conmon's socket, which runtimed
hands it at ``<run root>/runtimed.streams.sock`` for a ticket that comes in the call. Nobody who reads the iterator
notices: the call goes on beside, and what ends it ends the reading.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from pathlib import Path
from typing import Final, TypeVar

import grpc

from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.client.calls import as_ended
from sampan.client.convert import streams
from sampan.handing import passing
from sampan.resource.streams import Frame, Output, Stream
from sampan.wire.channel import rpc_errors
from sampan.wire.packets import Packets

_CLAIM_S: Final = 5.0
_MAX_ANSWER_BYTES: Final = 16
_READ: Final = b"read"

R = TypeVar("R")

ALL: Final = frozenset((Stream.STDOUT, Stream.STDERR))


def takes_descriptors(handing: Path | None) -> bool:
    """Whether output may be handed to this process at ``handing``: not from elsewhere, and not to every user."""
    return handing is not None and os.access(handing, os.W_OK)


async def converse(
    call: "grpc.aio.StreamStreamCall[R, pb.StreamOutput]", handing: Path | None, wanted: Collection[Stream] = ALL
) -> AsyncGenerator[Output, None]:
    """Yield what a process says, of the ``wanted`` streams; whoever leaves the iterator ends the call.

    Raises:
        SampanError: of the kind that the other side raised.
    """
    everything = frozenset(wanted) >= ALL
    following: asyncio.Future[pb.StreamOutput | None] | None = None
    try:
        with rpc_errors():
            async with as_ended(call):
                messages = aiter(call)
                while True:
                    message = await (following or _next(messages))
                    following = None
                    if message is None:
                        return
                    if not message.handover:
                        yield streams.output_from_proto(message)
                        continue
                    handed = await _claim(handing, message.handover) if handing is not None else None
                    if handed is None:  # it comes by messages again
                        continue
                    following = asyncio.ensure_future(_next(messages))
                    following.add_done_callback(lambda _, handed=handed: handed.interrupt())  # type: ignore[misc]
                    with contextlib.closing(handed):
                        while frames := await handed.read():
                            if given := frames if everything else [one for one in frames if one.stream in wanted]:
                                yield given
    finally:
        call.cancel()
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _next(messages: AsyncIterator[pb.StreamOutput]) -> pb.StreamOutput | None:
    return await anext(messages, None)


class _Handed:
    """Output that is read here."""

    def __init__(self, control: socket.socket, output: socket.socket, process: int) -> None:
        """``process`` is a pidfd, or -1: then nobody needs to be let go of when it has ended."""
        self._control = control
        self._packets = Packets(output)
        self._process = process
        self._interrupted = False
        if process >= 0:
            asyncio.get_running_loop().add_reader(process, self._ended)

    def _ended(self) -> None:
        """Read on whatever our client does: until the last output is read nobody learns how the process has ended."""
        asyncio.get_running_loop().remove_reader(self._process)
        self._packets.open_floodgate()

    async def read(self) -> list[Frame]:
        """Return what has come; [] at the end, and when it was interrupted."""
        frames = await self._packets.read()
        if self._interrupted:
            return []
        if not frames:
            with contextlib.suppress(OSError):  # runtimed is gone, which ends the call as well
                self._control.send(_READ)
        return frames

    def interrupt(self) -> None:
        """End reading: there is something in the call."""
        self._interrupted = True
        self._packets.close()

    def close(self) -> None:
        """Let go of all of it. Safe to repeat."""
        self._packets.close()
        self._control.close()
        if self._process >= 0:
            asyncio.get_running_loop().remove_reader(self._process)
            os.close(self._process)
            self._process = -1


async def _claim(handing: Path, ticket: str) -> _Handed | None:
    """Return what runtimed hands over for ``ticket``; None if it does not."""
    loop = asyncio.get_running_loop()
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        async with asyncio.timeout(_CLAIM_S):
            await loop.sock_connect(control, str(handing))
            control.send(ticket.encode())
            await passing.readable(control)
        _, fds = passing.receive(control, _MAX_ANSWER_BYTES, 2)
    except (OSError, TimeoutError):
        control.close()
        return None
    except BaseException:
        control.close()
        raise
    if not fds:
        control.close()
        return None
    return _Handed(control, socket.socket(fileno=fds[0]), fds[1] if len(fds) > 1 else -1)
