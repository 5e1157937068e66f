"""A program at a terminal, as a person has it: for what only happens with a tty."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence

from tests.support.tools import PATIENCE_S


class Terminal:
    """The person's side of the terminal that a program runs at."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process = process
        self.seen = ""
        self._fd = fd
        self._looked = 0  # how much of it ``expect`` has returned, or was there when something was typed

    def type(self, text: str) -> None:
        """Press keys. What was shown before is no answer to them."""
        self._looked = len(self.seen)
        os.write(self._fd, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size; the program gets SIGWINCH."""
        self._looked = len(self.seen)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def expect(self, text: str, deadline_s: float = PATIENCE_S) -> str:
        """Read until ``text`` was shown since the last key was pressed, and after what was expected before it.

        Return what was shown since either.
        """
        end = time.monotonic() + deadline_s
        begin = self._looked
        while (found := self.seen.find(text, begin)) < 0:
            if not self._read(end - time.monotonic()):
                raise AssertionError(f"the terminal never showed {text!r}, but {self.seen[begin:]!r}")
        self._looked = found + len(text)
        return self.seen[begin:]

    def expect_size(self, rows: int, columns: int) -> None:
        """Have the shell that is at work tell the size of its terminal, once that is what it is to be.

        Clients send the size after they have started the program, and when it changes, and nobody waits for that.
        """
        self.type(f"until stty size | grep -qx '{rows}'' {columns}'; do sleep 0.1; done; stty size\n")
        self.expect(f"{rows} {columns}")

    def wait(self, deadline_s: float = PATIENCE_S) -> int:
        """Read until the program ends and return its exit code."""
        end = time.monotonic() + deadline_s
        while self._read(end - time.monotonic()):
            pass
        return self.process.wait(max(0.1, end - time.monotonic()))

    def _read(self, timeout_s: float) -> bool:
        if timeout_s <= 0 or not select.select([self._fd], [], [], timeout_s)[0]:
            return False
        try:
            piece = os.read(self._fd, 65536)
        except OSError:  # EIO: nobody has the other side open any more
            return False
        self.seen += piece.decode(errors="replace")
        return bool(piece)


@contextlib.contextmanager
def at_terminal(
    command: Sequence[str], env: Mapping[str, str], rows: int = 24, columns: int = 80
) -> Iterator[Terminal]:
    """Run ``command`` at a terminal of this size; it is killed if it still runs when the block ends."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**env, "TERM": "xterm"},
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
    finally:
        os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)


def _take_terminal() -> None:
    """In the child: make its standard input the terminal that signals such as SIGWINCH come from."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
