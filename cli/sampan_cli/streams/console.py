"""The process's own three streams, and the terminal that they may be."""

import contextlib
import os
import termios
import tty
from collections.abc import Iterator
from dataclasses import dataclass

from sampan.resource.container_spec import ConsoleSize


@dataclass(frozen=True, slots=True)
class Console:
    """Three descriptors. They are the process's, who never closes them."""

    stdin: int = 0
    stdout: int = 1
    stderr: int = 2

    @property
    def stdin_is_terminal(self) -> bool:
        """Whether someone types."""
        return os.isatty(self.stdin)

    def size(self) -> ConsoleSize | None:
        """Return the terminal's size, or None if the output is not a terminal."""
        try:
            size = os.get_terminal_size(self.stdout)
        except OSError:
            return None
        return ConsoleSize(size.lines, size.columns)

    @contextlib.contextmanager
    def raw(self) -> Iterator[None]:
        """Have every key sent as it is typed, until the end of the block; restored whatever happens inside."""
        before = termios.tcgetattr(self.stdin)
        try:
            tty.setraw(self.stdin, termios.TCSADRAIN)
            yield
        finally:
            termios.tcsetattr(self.stdin, termios.TCSADRAIN, before)
