"""A warm parent by itself: what it does when its code is another by now, and when nobody comes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import SAMPAN
from tests.support.tools import eventually, status

PYTHON = SAMPAN.parent / "python3"

# A parent whose code is current until a file appears, and whose commands tell who has run them.
PROGRAM = """
import os, socket, sys
from pathlib import Path
from sampan_cli.warm.caller import Standing
from sampan_cli.warm.parent import WarmParent
from sampan_cli.warm.worker import Warm

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1] + "/new.sock")
listener.listen()
listener.setblocking(False)
os.rename(sys.argv[1] + "/new.sock", sys.argv[1] + "/cli.sock")
upgraded = Path(sys.argv[1], "upgraded")
run = lambda arguments: print("warm", arguments[-1])
WarmParent(listener, Warm(Standing.own(), lambda: not upgraded.exists(), run), float(sys.argv[2])).serve()
"""


@contextlib.contextmanager
def warm(root: Path, idle_s: float) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a warm parent below ``root`` that goes when nobody has come for so long."""
    process = subprocess.Popen([PYTHON, "-P", "-c", PROGRAM, root, str(idle_s)], stderr=sys.stderr)
    try:
        eventually((root / "cli.sock").exists, "it listens")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The run root of a warm parent that stays."""
    with warm(tmp_path, 600):
        yield tmp_path


def ps(root: Path) -> subprocess.CompletedProcess[str]:
    command = map(str, (SAMPAN, "--run-root", root, "--data-root", root, "ps"))
    return subprocess.run([*command], capture_output=True, text=True, timeout=60, check=False)


def test_it_runs_commands_and_ends_when_nobody_comes(tmp_path: Path) -> None:
    with warm(tmp_path, 3) as process:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(tmp_path / "cli.sock"))  # somebody is here until the command has come
            assert ps(tmp_path).stdout == "warm ps\n"
        assert process.wait(60) == 0


def test_where_the_code_on_disk_is_another_the_client_s_own_runs(root: Path) -> None:
    (root / "upgraded").touch()
    by_itself = ps(root)
    assert (by_itself.returncode, by_itself.stdout) == (1, "")
    assert "Cannot connect to the Sampan engine" in by_itself.stderr
    (root / "upgraded").unlink()
    assert ps(root).stdout == "warm ps\n"


def test_a_client_of_another_checkout_is_not_served(root: Path, tmp_path: Path) -> None:
    checkout = SAMPAN.parents[2]
    other = tmp_path / "other"
    other.mkdir()
    (other / "sampan_cli").symlink_to(checkout / "cli/sampan_cli")
    launcher = tmp_path / "sampan"
    subprocess.run([checkout / "tools/launcher", launcher, PYTHON, checkout, checkout / "services", other], check=True)
    command = map(str, (launcher, "--run-root", root, "--data-root", root, "ps"))
    done = subprocess.run([*command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def children(process: "subprocess.Popen[bytes]") -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in listed.read_text().split()]


def spare_of(process: "subprocess.Popen[bytes]", *before: int) -> int:
    """Return the one child that waits for a client, as soon as there is no other, and none of ``before``."""
    found: list[int] = []

    def waits() -> bool:
        found[:] = children(process)  # looked at once: a worker that is gone and the next spare are no moment apart
        return len(found) == 1 and found[0] not in before and b"sampan_cli.warm.worker" in command_line(found[0])

    eventually(waits, "one waits")
    return found[0]


def command_line(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError):  # it has ended
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def test_a_process_that_is_forked_ahead_of_need_runs_the_next_command(tmp_path: Path) -> None:
    with warm(tmp_path, 600) as process:
        first = spare_of(process)
        assert ps(tmp_path).stdout == "warm ps\n"
        spare = spare_of(process, first)
        os.kill(spare, signal.SIGKILL)
        # One that is dying still takes a connection, whose client then does without.
        eventually(lambda: status(spare, "State")[:1] in ("Z", ""), "it has let go of what it had open")
        assert ps(tmp_path).stdout == "warm ps\n"
        spare = spare_of(process, first, spare)
        process.kill()
        process.wait()
        eventually(lambda: not Path(f"/proc/{spare}").exists(), "it ends with its parent")


def test_a_descriptor_of_the_client_s_takes_no_place_of_the_line_s(root: Path) -> None:
    """Whatever number the connection has in the worker, a client may have passed a descriptor of that number."""
    script = f'exec {" ".join(f"{number}</dev/null" for number in range(3, 10))}; exec "$@"'
    command = map(str, ("sh", "-c", script, "sh", SAMPAN, "--run-root", root, "--data-root", root, "ps"))
    done = subprocess.run([*command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "warm ps\n"
