"""What conmon is started with, seen by a stand-in for it."""

import contextlib
import os
import shutil
import sys
from pathlib import Path

import pytest

from runtimed.conmon import conmon
from runtimed.conmon.conmon import Conmon, RuntimeCommand, Stdio
from runtimed.containers.paths import Paths
from sampan.errors import UnavailableError
from tests.support.tools import eventually

# Reports when a file tells it to, as conmon does when the runtime has come back, and leaves word of how that went.
_CONMON = """#!{python}
import os, time
os.write(int(os.environ["_OCI_ATTACHPIPE"]), b'{{"data": 0}}\\n')
if os.fork():
    raise SystemExit
while not os.path.exists("go"):
    time.sleep(0.01)
try:
    os.write(int(os.environ["_OCI_SYNCPIPE"]), b'{{"data": 5}}\\n')
    said = "reported"
except BrokenPipeError:
    said = "nobody reads"
open("said.new", "w").write(said)
os.rename("said.new", "said")
"""


async def test_an_exec_is_not_given_up_by_conmon_when_nobody_reads_its_reports_any_more(tmp_path: Path) -> None:
    program = tmp_path / "conmon"
    program.write_text(_CONMON.format(python=sys.executable))
    program.chmod(0o755)
    paths = Paths(tmp_path / "data", tmp_path / "run")
    paths.make()
    one = paths.exec("e" * 64)
    one.bundle.mkdir(parents=True)
    runtime = RuntimeCommand(Path("/bin/false"), tmp_path)
    pending = await Conmon(program, {}).exec_attached("c" * 64, one, runtime, Stdio(tty=False, stdin=False), tmp_path)
    await pending.settled()
    pending.close()  # as the end of runtimed would
    (one.bundle / "go").touch()
    said = one.bundle / "said"
    eventually(said.exists, "the stand-in has reported")
    assert said.read_text() == "reported"


# Hangs as a runtime may, with a helper of its own that does not name the bundle.
_HANGING_RUNTIME = """#!/bin/sh
case "$*" in *create*|*exec*) ;; *) exit 1;; esac
sleep 1000 &
echo $! > {helper}.new
mv {helper}.new {helper}
wait
"""


@pytest.mark.skipif(shutil.which("conmon") is None, reason="conmon is not installed")
@pytest.mark.parametrize("work", ["create", "exec"])
async def test_a_runtime_that_hangs_is_ended_with_its_conmon_and_its_helpers(
    tmp_path: Path, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, helper = tmp_path / "runtime", tmp_path / "helper"
    program.write_text(_HANGING_RUNTIME.format(helper=helper))
    program.chmod(0o755)
    paths = Paths(tmp_path / "data", tmp_path / "run")
    paths.make()
    container, one = paths.container("c" * 64), paths.exec("e" * 64)
    container.bundle.mkdir(parents=True)
    container.home.mkdir(parents=True)
    one.bundle.mkdir(parents=True)
    runtime, stdio = RuntimeCommand(program, tmp_path), Stdio(tty=False, stdin=False)
    monkeypatch.setattr(conmon, "_START_TIMEOUT_S", 1)
    real = Conmon(Path(shutil.which("conmon") or ""), os.environ)
    document = container.bundle / "process.json"
    document.write_text("{}")
    calls = {
        "create": lambda: real.create(container, runtime, stdio, None),
        "exec": lambda: real.exec_detached("c" * 64, one, runtime, stdio, document),
    }
    with pytest.raises(UnavailableError, match="did not answer"):
        await calls[work]()
    assert _is_gone(int(helper.read_text()))
    assert [line for line in _command_lines() if str(tmp_path) in line] == []


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return True
    return state == "Z"  # whoever is its parent by now may reap it or not


def _command_lines() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


# Calls the runtime as conmon would, with what a process has that nobody gave any input: the host's /dev/null.
_CALLING = """#!{python}
import os, subprocess, sys
arguments = sys.argv[1:]
given = [value for name, value in zip(arguments, arguments[1:]) if name == "--runtime-arg"]
call = [arguments[arguments.index("-r") + 1], *given, "create"]
output = None if "-t" not in arguments else subprocess.DEVNULL
done = subprocess.run(call, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE)
os.write(int(os.environ["_OCI_SYNCPIPE"]), b'{{"data": %d}}\\n' % done.returncode)
"""
_SEEING_RUNTIME = """#!/bin/sh
for n in 0 1; do stat -L -c %F /proc/self/fd/$n; done > {seen}
exit 7
"""


@pytest.mark.parametrize("tty", [False, True])
async def test_a_runtime_that_is_to_see_no_null_device_sees_none_and_its_code_comes_back(
    tmp_path: Path, tty: bool
) -> None:
    program, runtime, seen = tmp_path / "conmon", tmp_path / "runtime", tmp_path / "seen"
    program.write_text(_CALLING.format(python=sys.executable))
    runtime.write_text(_SEEING_RUNTIME.format(seen=seen))
    for each in (program, runtime):
        each.chmod(0o755)
    paths = Paths(tmp_path / "data", tmp_path / "run")
    paths.make()
    one = paths.container("c" * 64)
    one.bundle.mkdir(parents=True)
    for hidden in (False, True):
        command = RuntimeCommand(runtime, tmp_path, hides_null=hidden)
        assert (
            await Conmon(program, {"PATH": os.environ["PATH"]}).create(one, command, Stdio(tty, stdin=False), None) == 7
        )
        assert ("character special file" in seen.read_text().splitlines()) is not hidden
