"""crun, which cannot be used where control groups are hybrid: here the host is made to look as if they were not.

In a mount namespace of its own /sys/fs/cgroup shows the version 1 hierarchies alone, or whatever there is if crun
works with it. There the tests of exit codes and execs are run once more, by an engine whose runtime is crun.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.tools import need, need_root

REPOSITORY = Path(__file__).parents[3]

_WITHOUT_HYBRID = r"""
set -e
if [ -d /sys/fs/cgroup/unified ]; then
    mount -t tmpfs -o mode=755 cgroups "$1"
    for tree in /sys/fs/cgroup/*; do
        [ "$(stat -f -c %T "$tree")" = cgroupfs ] || continue
        mkdir "$1/${tree##*/}"
        mount --bind "$tree" "$1/${tree##*/}"
    done
    mount --move "$1" /sys/fs/cgroup
fi
shift
exec "$@"
"""

_AGAIN = (
    "tests/compat/container/test_exit_codes.py",
    "tests/compat/container/test_exec.py",
    "tests/compat/container/test_trial_refusals.py::test_exec_that_cannot_begin_has_docker_s_code",
    "tests/integration/runtimed/test_runtimed.py::test_a_command_that_cannot_be_executed_is_126",
)


def test_crun_is_the_default_where_it_works_and_does_what_runc_does(tmp_path: Path) -> None:
    need_root()
    need("crun", "unshare")
    groups = tmp_path / "groups"
    groups.mkdir()

    def inside(*command: str) -> subprocess.CompletedProcess[str]:
        alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _WITHOUT_HYBRID, "sh", str(groups)]
        return subprocess.run(
            [*alone, *command], cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=300, check=False
        )

    look = (
        "import sys; from pathlib import Path; from runtimed.host.facts import read_host; "
        "from runtimed.host.runtimes import find_runtimes; scratch = Path(sys.argv[1]); "
        "found = find_runtimes(read_host(), scratch=scratch, cache=scratch / 'cache', cgroup_parent=sys.argv[2]); "
        "print(found.default)"
    )
    parent = f"sampan-{tmp_path.name}"
    found = inside(sys.executable, "-c", look, str(tmp_path), parent)
    for group in Path("/sys/fs/cgroup").glob(f"*/{parent}"):
        group.rmdir()
    assert (found.returncode, found.stdout.splitlines()[-1:]) == (0, ["crun"]), found.stdout + found.stderr
    again = inside(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_AGAIN)
    assert again.returncode == 0, again.stdout[-4000:]
