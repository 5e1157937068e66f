import fcntl
import os
import pty
import struct
import termios
from collections.abc import Iterator

import pytest

from sampan.resource.container_spec import ConsoleSize
from sampan_cli.streams.console import Console


@pytest.fixture
def terminal() -> Iterator[int]:
    ours, theirs = pty.openpty()
    yield theirs
    os.close(ours)
    os.close(theirs)


def test_raw_terminal_is_restored_whatever_happens(terminal: int) -> None:
    console = Console(terminal, terminal, terminal)
    before = termios.tcgetattr(terminal)

    def fail_inside() -> None:
        with console.raw():
            assert not termios.tcgetattr(terminal)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert termios.tcgetattr(terminal) == before


def test_size_is_that_of_the_terminal_and_unknown_elsewhere(terminal: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 33, 101, 0, 0))
    assert Console(terminal, terminal, terminal).size() == ConsoleSize(height=33, width=101)
    ours, theirs = os.pipe()
    assert Console(ours, theirs, theirs).size() is None
    assert not Console(ours, theirs, theirs).stdin_is_terminal
    os.close(ours)
    os.close(theirs)
