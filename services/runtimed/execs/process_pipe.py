"""Hand a runtime the document of the process that it is to run at the moment when it is to run it.

The runtime is told to read ``/proc/<our pid>/fd/<n>``, the reading end of a pipe, and waits there with everything done
that it does before it knows the process. If we are killed first, it finds the end of the pipe, or no such file, where
its document should be, and runs nothing.
"""

import asyncio
import os
from pathlib import Path


class ProcessPipe:
    """One document for one reader. Close it when the reader has had it."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        # As long as it is open here, a reader that comes late still finds the document.
        self.path = Path(f"/proc/{os.getpid()}/fd/{self._read}")

    async def send(self, document: bytes) -> None:
        """Write the document and its end: at once if the pipe holds all of it, else as the runtime reads it."""
        left = memoryview(document)
        while left:
            try:
                left = left[os.write(self._write, left) :]
            except BlockingIOError:
                await self._writable()
        os.close(self._write)
        self._write = -1

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._write, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._write)

    def close(self) -> None:
        """Let go of both ends; safe to repeat."""
        for fd in (self._read, self._write):
            if fd >= 0:
                os.close(fd)
        self._read = self._write = -1
