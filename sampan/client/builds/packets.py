"""Trees of files over a call: packets of fsutil, in and out.

What touches the disk runs in threads; what came meanwhile waits in the stream's window, and is then taken together.

Reference: tonistiigi/fsutil, ``send.go``, ``receive.go``.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

from google.protobuf.message import DecodeError

from sampan.api.buildkit.session.v1 import fsutil_pb2 as pb
from sampan.client.builds.receiving import DATA, ERR, FIN, FINISHED, REQ, STAT, Receiving
from sampan.errors import InvalidArgumentError, RemoteError, SampanError
from sampan.fsutil.entry import Entry, mode_to_go
from sampan.fsutil.receiver import SyncReport
from sampan.fsutil.selection import Selection
from sampan.fsutil.sender import TreeSender
from sampan.wire.status import explained

T = TypeVar("T")

# Takes the bytes that have come or gone so far, now and then; called in the event loop.
Progress = Callable[[int], None]


class PacketCall(Protocol):
    """A call in whose messages packets travel, whichever side of it this is."""

    async def receive(self) -> list[bytes]:
        """Return the messages that have come, one at least; none when the call has ended well. Raises how else."""

    async def send(self, message: bytes, *, end: bool = False) -> None:
        """Send a message; ``end``: the last one. Raises how the call ended, if it has."""

    async def send_all(self, messages: Iterable[bytes]) -> None:
        """Send messages together."""


_LAST_STAT: Final = pb.Packet(type=STAT).SerializeToString()

_BATCH: Final = 512
_BUDGET_BYTES: Final = 1 << 20

_TRANSFERS: Final = ThreadPoolExecutor(4, thread_name_prefix="session files")


async def _in_thread(work: Callable[[], T], stop: threading.Event) -> T:
    """Run ``work`` in a thread. Cancelled, tell it to stop and return when it has: nothing of it goes on."""
    future = asyncio.get_running_loop().run_in_executor(_TRANSFERS, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop.set()
        while not future.done():
            with suppress(asyncio.CancelledError):  # once is enough
                await asyncio.wait((future,))
        if not future.cancelled():
            future.exception()  # nobody asks for it
        raise
    except OSError as error:
        raise _explained(error) from error


def _explained(error: OSError) -> Exception:
    known = explained(error)
    if known is not error:
        return known
    name = error.filename if isinstance(error.filename, str | bytes) else "the files"
    return InvalidArgumentError(f"{os.fsdecode(name)}: {error.strerror}")


class _Outbox:
    """Packets that go out while others come in: neither side may wait for the other before it reads."""

    def __init__(self, call: PacketCall) -> None:
        self._call = call
        self._waiting: list[bytes] = []
        self._some = asyncio.Event()

    def put(self, packets: Sequence[bytes]) -> None:
        """Have packets sent."""
        if packets:
            self._waiting += packets
            self._some.set()

    async def send(self) -> None:
        """Send what is put, until cancelled or the call is over, which whoever reads from it learns too."""
        with suppress(SampanError):
            while True:
                await self._some.wait()
                self._some.clear()
                packets, self._waiting = self._waiting, []
                await self._call.send_all(packets)


def _encoded(entry: Entry) -> bytes:
    found = pb.Stat(
        path=entry.path,
        mode=mode_to_go(entry.mode),
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size,
        modTime=entry.mtime_ns,
        linkname=entry.link,
        devmajor=entry.major,
        devminor=entry.minor,
        xattrs=entry.xattrs,
    )
    return pb.Packet(type=STAT, stat=found).SerializeToString()


async def receive_tree(
    call: PacketCall,
    into: Path,
    *,
    compare: bool = True,
    merge: bool = False,
    record: Path | None = None,
    progress: Progress | None = None,
) -> SyncReport:
    """Make ``into`` what the other side tells. Raises what ``TreeReceiver`` does, and RemoteError.

    ``record`` is a file beside it by which the next transfer knows what is the same: nobody else changes ``into``.
    """
    stop = threading.Event()
    outbox = _Outbox(call)
    sending = asyncio.create_task(outbox.send(), name="session files requests")
    opened: list[Receiving] = []

    def begin() -> None:
        opened.append(Receiving(into, stop.is_set, compare=compare, merge=merge, record=record))

    received = 0
    try:
        await _in_thread(begin, stop)
        (receiving,) = opened
        while not receiving.over:
            messages = await call.receive()
            if not messages:
                raise RemoteError("the other side ended the transfer of files before it was complete")
            outbox.put(await _in_thread(partial(receiving.feed, messages), stop))
            received += sum(map(len, messages))
            if progress is not None:
                progress(received)
        while await call.receive():
            pass  # nothing follows; the status does
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        for each in opened:
            await _in_thread(each.close, stop)
    assert receiving.report is not None
    return receiving.report


class _Sending:
    """The sender's end of the packets. Works in threads."""

    def __init__(self, directory: Path, selection: Selection | None, stop: threading.Event) -> None:
        self._directory = directory
        self._selection = selection
        self._stop = stop
        self._tree: TreeSender | None = None
        self.sent = 0  # bytes of content

    def open(self) -> None:
        self._tree = TreeSender(self._directory, self._selection, self._stop.is_set)

    def close(self) -> None:
        if self._tree is not None:
            self._tree.close()

    def entries(self) -> list[bytes]:
        """Return packets of the next entries; none at the end of the walk."""
        assert self._tree is not None
        return list(map(_encoded, self._tree.entries(_BATCH)))

    def content(self, wanted: Sequence[int]) -> list[bytes]:
        """Return packets of what is wanted now and was before, as much as may go together; none: nothing is wanted."""
        assert self._tree is not None
        for number in wanted:
            self._tree.want(number)
        pieces = self._tree.pieces(_BUDGET_BYTES)
        self.sent += sum(len(data) for _, data in pieces)
        return [pb.Packet(type=DATA, ID=number, data=data).SerializeToString() for number, data in pieces]


class _Requests:
    """What a receiver asks for."""

    def __init__(self, call: PacketCall) -> None:
        self._call = call
        self._wanted: list[int] = []
        self.some = asyncio.Event()
        self.finished = False

    def take(self) -> list[int]:
        """Return the numbers that were asked for since the last time."""
        wanted, self._wanted = self._wanted, []
        return wanted

    async def read(self) -> None:
        """Read requests to the end of the call. Raises how it ended."""
        try:
            while messages := await self._call.receive():
                for message in messages:
                    self._take(message)
                self.some.set()
        finally:
            self.some.set()

    def _take(self, message: bytes) -> None:
        try:
            packet = pb.Packet.FromString(message)
        except DecodeError as error:
            raise RemoteError("files are asked for in packets that are none") from error
        if packet.type == REQ:
            self._wanted.append(packet.ID)
        elif packet.type == FIN:
            self.finished = True
        elif packet.type == ERR:
            raise RemoteError(f"error from receiver: {packet.data.decode(errors='replace')}")


async def send_tree(
    call: PacketCall, directory: Path, *, selection: Selection | None = None, progress: Progress | None = None
) -> int:
    """Have the other side make a directory what ``directory`` is; return the bytes of content sent.

    ``selection`` says which of its files are told, and which owner; None is all, as they are.

    Raises:
        RemoteError: the other side says why not.
    """
    stop = threading.Event()
    sending = _Sending(directory, selection, stop)
    requests = _Requests(call)
    reading = asyncio.create_task(requests.read(), name="session files requests")
    try:
        await _in_thread(sending.open, stop)
        while packets := await _in_thread(sending.entries, stop):
            await call.send_all(packets)
        await call.send(_LAST_STAT)
        while not (requests.finished or reading.done()):
            requests.some.clear()
            while packets := await _in_thread(partial(sending.content, requests.take()), stop):
                await call.send_all(packets)
                if progress is not None:
                    progress(sending.sent)
            if not (requests.some.is_set() or reading.done()):
                await requests.some.wait()
        if requests.finished and not reading.done():
            await call.send(FINISHED, end=True)
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await _in_thread(sending.close, stop)
    if not requests.finished:
        raise RemoteError("the other side ended the transfer of files before it was complete")
    return sending.sent
