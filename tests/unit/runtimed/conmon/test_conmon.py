"""What conmon is started with, seen by a stand-in for it."""

import sys
from pathlib import Path

from runtimed.conmon.conmon import Conmon, RuntimeCommand, Stdio
from runtimed.containers.paths import Paths
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
