"""Open files of blobs for another process on this host: ``<run root>/imaged.blobs.sock``.

A layer that is read through gRPC passes through two event loops, a megabyte at a time, on its way to a process that
could read the file itself. Here that process's service gets the file: it sends a digest (one SOCK_SEQPACKET message),
and the answer is a descriptor that is open for reading, or an empty message where there is none to give. Where a
blob's file is, and how long it has a name, stays a matter of imaged's alone. What cannot be had this way can be asked
for with ``Content.Read``, which says why.
"""

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from imaged.content import ContentStore
from sampan.errors import SampanError
from sampan.log import log
from sampan.oci.digest import Digest

_MAX_QUESTION_BYTES: Final = 256
_BACKLOG: Final = 64
_ASKING_S: Final = 5.0  # for a question to come


class Handout:
    """Listens until it is closed."""

    def __init__(self, path: Path, content: ContentStore) -> None:
        """Bind ``path``, for this user alone; what an earlier process left there goes."""
        self._path = path
        self._content = content
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        before = os.umask(0o077)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(before)
        self._socket.listen(_BACKLOG)
        self._socket.setblocking(False)
        self._asking: set[asyncio.Task[None]] = set()
        self._listening = asyncio.create_task(self._listen(), name="hand out blobs")

    async def close(self) -> None:
        """Listen no more."""
        for task in (tasks := [self._listening, *self._asking]):
            task.cancel()
        await asyncio.wait(tasks)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                asker, _ = await loop.sock_accept(self._socket)
            except OSError as error:  # no descriptor is free, as a rule
                log.warning("blobs cannot be handed out", error=error.strerror)
                await asyncio.sleep(1)
                continue
            task = asyncio.create_task(self._answer(asker), name="hand out a blob")
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _answer(self, asker: socket.socket) -> None:
        with asker, suppress(OSError, TimeoutError, SampanError):
            async with asyncio.timeout(_ASKING_S):
                question = await asyncio.get_running_loop().sock_recv(asker, _MAX_QUESTION_BYTES)
            digest = Digest.parse(question.decode(errors="replace"))
            await self._content.info(digest)  # a file without a record is no blob
            fd = await asyncio.to_thread(os.open, self._content.path(digest), os.O_RDONLY | os.O_CLOEXEC)
            try:
                socket.send_fds(asker, [b"here"], [fd])
            finally:
                os.close(fd)
