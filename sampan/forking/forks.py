"""Workers forked from a fork server: started when there is work, listened to, and killed when nobody waits for them."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from sampan.log import log


class NoWorkerError(Exception):
    """No process can be forked: the fork server that would do it does not live."""


@dataclass(frozen=True, slots=True)
class _Server:
    process: asyncio.subprocess.Process
    jobs: socket.socket  # see ``sampan.forking.fork_server``


class Forks:
    """One fork server, which comes with the first job and goes ``idle_s`` after the last one."""

    def __init__(self, module: str, idle_s: float) -> None:
        """``module`` is what the fork server runs: a call of ``sampan.forking.fork_server.serve``."""
        self._module = module
        self._idle_s = idle_s
        self._server: _Server | None = None
        self._starting = asyncio.Lock()
        self._running = 0
        self._let_go: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[int]] = set()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[None]:
        """Keep the fork server until the block ends, and a while longer."""
        self._running += 1
        if self._let_go is not None:
            self._let_go.cancel()
            self._let_go = None
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._let_go = asyncio.get_running_loop().call_later(self._idle_s, self.end)

    async def send(self, job: bytes, descriptors: list[int]) -> None:
        """Give a job to the fork server, to a new one if there is none or it has died. Raises NoWorkerError."""
        while True:
            async with self._starting:
                fresh = self._server is None
                if self._server is None:
                    self._server = await self._start()
                server = self._server
            try:
                socket.send_fds(server.jobs, [job], descriptors)
            except (BrokenPipeError, ConnectionResetError):
                self.end()
                if fresh:
                    raise NoWorkerError from None
            else:
                return

    def end(self) -> None:
        """Let the fork server end, which it does by itself; its workers end with it."""
        if self._let_go is not None:
            self._let_go.cancel()
            self._let_go = None
        if self._server is not None:
            self._server.jobs.close()
            ending = asyncio.create_task(self._server.process.wait(), name="end of the workers' fork server")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            self._server = None

    async def close(self) -> None:
        """End the fork server; nothing runs any more."""
        self.end()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _start(self) -> _Server:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", self._module, str(theirs.fileno()), str(os.getpid())),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                )
            except BaseException:
                ours.close()
                raise
        return _Server(process, ours)


class Complaints:
    """A file for what a worker writes to stderr, which is logged."""

    def __init__(self, stack: ExitStack, most: int = 2000) -> None:
        """``most`` is how many bytes, from the end, are shown."""
        self._most = most
        self.fd = os.memfd_create("complaints", os.MFD_CLOEXEC)
        stack.callback(os.close, self.fd)

    def show(self) -> None:
        """Log what there is."""
        if text := os.pread(self.fd, self._most, max(0, os.fstat(self.fd).st_size - self._most)):
            log.warning("worker wrote to stderr", text=text.decode(errors="replace"))
