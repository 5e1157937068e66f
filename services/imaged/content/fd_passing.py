"""Bytes of blobs from and to another process on this host, as descriptors: ``<run root>/imaged.blobs.sock``.

A layer that goes through gRPC passes through two event loops, a megabyte at a time, on its way between a process that
could read the file itself, or writes into a pipe anyway, and the disk. Here that process's service sends one
SOCK_SEQPACKET message.

A digest is answered with a descriptor that is open for reading, or with an empty message where there is none to give.
Where a blob's file is, and how long it has a name, stays a matter of imaged's alone. What cannot be had this way can
be asked for with ``Content.Read``, which says why.

``write <ref>`` comes with the reading end of a pipe. All that is in it until its other end is closed goes to the
ingest of that name, hashed on the way as any write. ``pass <ref>`` says as well that nobody is about to read it: it is
not kept in memory, which takes the kernel longer to find than the bytes to write. Then the answer is ``taken``, or
``full`` and what the disk said. To make a blob of it is for ``Content.Write``. Whoever sent the pipe keeps the
connection until that is done: with its end, the process's death included, what has not become a blob is forgotten.
"""

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from imaged.content.blobs import ContentStore
from imaged.content.disk_full import storing
from imaged.content.ingest import Ingest, Ingests, in_thread
from sampan.errors import ResourceExhaustedError, SampanError
from sampan.handing.listener import Listener
from sampan.handing.passing import readable, receive
from sampan.oci.digest import Digest

_MAX_QUESTION_BYTES: Final = 256
_ASKING_S: Final = 5.0  # for a question to come
_WRITE: Final = b"write "
_PASS: Final = b"pass "
_MAX_ANSWER_BYTES: Final = 1024
_PIECE_BYTES: Final = 1 << 20
_PIECES: Final = 16  # between two moments at which a write can be cancelled


class FdServer:
    """Listens until it is closed."""

    def __init__(self, path: Path, content: ContentStore, ingests: Ingests) -> None:
        """Bind ``path``, for this user alone; what an earlier process left there goes."""
        self._content = content
        self._ingests = ingests
        self._listener = Listener(path, "hand out a blob", self._answer)

    async def close(self) -> None:
        """Listen no more."""
        await self._listener.close()

    async def _answer(self, asker: socket.socket) -> None:
        with asker, suppress(OSError, TimeoutError, SampanError):
            async with asyncio.timeout(_ASKING_S):
                await readable(asker)
            question, fds = receive(asker, _MAX_QUESTION_BYTES, 1)
            try:
                if question.startswith((_WRITE, _PASS)) and fds:
                    kind, _, ref = question.partition(b" ")
                    await self._take(asker, ref.decode(errors="replace"), fds[0], passing=kind + b" " == _PASS)
                else:
                    await self._give(asker, question)
            finally:
                for fd in fds:
                    os.close(fd)

    async def _give(self, asker: socket.socket, question: bytes) -> None:
        digest = Digest.parse(question.decode(errors="replace"))
        await self._content.info(digest)  # a file without a record is no blob
        fd = await asyncio.to_thread(os.open, self._content.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        try:
            socket.send_fds(asker, [b"here"], [fd])
        finally:
            os.close(fd)

    async def _take(self, asker: socket.socket, ref: str, pipe: int, *, passing: bool) -> None:
        async with self._ingests.open(ref) as ingest:
            ingest.passing = passing
            answer = b"taken"
            try:
                with storing(f"content {ref}"):
                    await _pour(pipe, ingest)
            except ResourceExhaustedError as error:
                answer = f"full {error}".encode()[:_MAX_ANSWER_BYTES]
        try:
            asker.send(answer)
            await readable(asker)  # it says nothing more: this is its end, or its death
        finally:
            self._ingests.abandon(ingest)


async def _pour(pipe: int, ingest: Ingest) -> None:
    """Append what comes out of a pipe until its other end is closed. Raises OSError."""
    os.set_blocking(pipe, False)
    buffer = memoryview(bytearray(_PIECE_BYTES))
    more = True
    while more:
        await readable(pipe)
        more = await in_thread(_pour_now, pipe, buffer, ingest)


def _pour_now(pipe: int, buffer: memoryview, ingest: Ingest) -> bool:
    """Append what is in the pipe, by way of ``buffer``; return whether more may come. Blocks for the disk alone."""
    for _ in range(_PIECES):
        try:
            size = os.readv(pipe, (buffer,))
        except BlockingIOError:
            return True
        if not size:
            return False
        ingest.write_now(buffer[:size])
    return True
