"""The command line that a process shows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.sys.command_line import show_command_line


@pytest.mark.parametrize("words", [("one",), ("/usr/bin/python3", "-m", "imaged", "--data-root", "/a b/ü" * 400)])
def test_another_command_line_is_shown_and_the_environment_stays(words: tuple[str, ...]) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            environ = Path("/proc/self/environ").read_bytes()
            show_command_line(words)
            shown = Path("/proc/self/cmdline").read_bytes()
            same = Path("/proc/self/environ").read_bytes() == environ
            code = 0 if same and shown == b"".join(os.fsencode(word) + b"\0" for word in words) else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_variables_are_gone_from_memory_too() -> None:
    program = (
        "import os; from pathlib import Path; from sampan.sys.command_line import forget_environment\n"
        "forget_environment()\n"
        "assert not os.environ, os.environ\n"
        "assert not Path('/proc/self/environ').read_bytes().strip(b'\\0')\n"
        "os.environ['LATER'] = 'there'\n"
        "assert os.popen('echo $LATER').read() == 'there\\n'\n"
    )
    environment = {**os.environ, "SECRET": "only in the beginning"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
