"""A process that workers are forked from.

It has imported all that a worker needs and does nothing else, so that a worker costs a fork instead of the start of an
interpreter, and begins with memory in which no work has been done.

Each message on its socket (SOCK_SEQPACKET) is one job, as text, with four descriptors: the worker's stdin, stdout and
stderr, and a socket that is the job's line. When the worker has ended, its exit code is written to the line (in
decimal, negative for a signal), and the line closed. When the other side ends the line, the worker is killed. When the
socket ends, so does the fork server, and every worker with it. ``sampan.forking.forks`` is the other side.
"""

import gc
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

from sampan.handing import passing
from sampan.sys.processes import die_with_parent

MAX_JOB_BYTES: Final = 64 << 10  # of a job as text
DESCRIPTORS: Final = 4

_HIGHEST_DESCRIPTOR: Final = 1 << 20

# Does a job and returns the worker's exit code; it is told the process that it was forked from.
Work = Callable[[str, int], int]
# Answers, to the worker's stdout, that no process can be started.
Refuse = Callable[[OSError, int], None]


@dataclass(frozen=True, slots=True)
class _Worker:
    pid: int
    pidfd: int
    line: socket.socket


def serve(argv: Sequence[str], work: Work, refuse: Refuse) -> int:
    """Serve until the other side has gone; ``argv`` is the command line that ``forks`` starts a fork server with."""
    die_with_parent(int(argv[2]))
    jobs = socket.socket(fileno=int(argv[1]))
    gc.collect()
    gc.freeze()  # what workers never touch stays the same memory in all of them
    ForkServer(jobs, work, refuse).run()
    return 0


class ForkServer:
    """Forks a worker for each job. Single-threaded: a fork takes along no lock that somebody holds."""

    def __init__(self, jobs: socket.socket, work: Work, refuse: Refuse) -> None:
        self._jobs = jobs
        self._work = work
        self._refuse = refuse
        self._poll = select.poll()
        self._poll.register(jobs, select.POLLIN)
        self._by_pidfd: dict[int, _Worker] = {}
        self._by_line: dict[int, _Worker] = {}

    def run(self) -> None:
        """Return when the other side has gone."""
        while True:
            ready = {fd for fd, _ in self._poll.poll()}
            # In this order: a worker that is buried is not killed, and descriptors are reused by new jobs alone.
            for fd in ready & self._by_pidfd.keys():
                self._bury(self._by_pidfd[fd])
            for fd in ready & self._by_line.keys():
                self._kill(self._by_line[fd])
            if self._jobs.fileno() in ready and not self._take():
                return

    def _take(self) -> bool:
        """Begin a job; return whether there may be more."""
        job, fds = passing.receive(self._jobs, MAX_JOB_BYTES, DESCRIPTORS)
        if not job:
            return False
        *standard, line_fd = fds
        line = socket.socket(fileno=line_fd)
        try:
            parent = os.getpid()
            try:
                pid = os.fork()
            except OSError as error:
                self._refuse(error, standard[1])
                line.close()
                return True
            if pid == 0:
                self._become_worker(job.decode(), standard, parent)
        finally:
            for fd in standard:
                os.close(fd)
        started = _Worker(pid, os.pidfd_open(pid), line)
        self._by_pidfd[started.pidfd] = self._by_line[line.fileno()] = started
        self._poll.register(started.pidfd, select.POLLIN)
        self._poll.register(line, select.POLLIN)
        return True

    def _kill(self, running: _Worker) -> None:
        self._poll.unregister(running.line)
        del self._by_line[running.line.fileno()]
        os.kill(running.pid, signal.SIGKILL)  # not waited for yet, so the number is still its own

    def _bury(self, ended: _Worker) -> None:
        if self._by_line.pop(ended.line.fileno(), None) is not None:
            self._poll.unregister(ended.line)
        self._poll.unregister(ended.pidfd)
        del self._by_pidfd[ended.pidfd]
        os.close(ended.pidfd)
        _, status = os.waitpid(ended.pid, 0)
        with suppress(BrokenPipeError, ConnectionResetError), ended.line:
            ended.line.send(b"%d" % os.waitstatus_to_exitcode(status))

    def _become_worker(self, job: str, standard: Sequence[int], parent: int) -> NoReturn:
        code = 1
        try:
            for number, fd in enumerate(standard):
                os.dup2(fd, number)
            os.closerange(len(standard), _HIGHEST_DESCRIPTOR)  # other jobs' lines among them
            code = self._work(job, parent)
        except BaseException:  # noqa: BLE001  # nothing of the fork server's may run on in here
            traceback.print_exc()
        finally:
            os._exit(code)
