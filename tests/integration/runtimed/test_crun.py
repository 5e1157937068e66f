"""crun and runc: which is taken where control groups are hybrid and where they are not, and that both do the same.

crun before 1.9 refuses hybrid hosts, where it is called in another way. In a mount namespace of its own this host looks
as if it were none: /sys/fs/cgroup shows the version 1 hierarchies alone, or whatever there is if it is not hybrid.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtimed.host.facts import CgroupLayout, read_host
from tests.support.tools import need, need_root, remove_group

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

# systemd has everything beside the hierarchies read-only. This mount alone is meant, not the file system of the host.
_READ_ONLY = """
[ ! -d /sys/fs/cgroup/unified ] || mount -o remount,bind,ro /sys/fs/cgroup || exit
shift
exec "$@"
"""

_LOOK = """
import json, sys
from pathlib import Path
from runtimed.cgroups.naming import CgroupNames
from runtimed.host.facts import read_host
from runtimed.host.runtimes import find_runtimes
scratch = Path(sys.argv[1])
found = find_runtimes(read_host(), scratch=scratch, cache=scratch / "cache", cgroups=CgroupNames(sys.argv[2]))
print(json.dumps([found.default, *([one.name, one.usable, bool(one.creates_by)] for one in found.found)]))
"""

# What every other test does with the runtime that is the default.
_AGAIN = (
    "tests/compat/container/test_exit_codes.py",
    "tests/compat/container/test_exec.py",
    "tests/compat/container/test_trial_refusals.py::test_exec_that_cannot_begin_has_docker_s_code",
    "tests/compat/container/test_shapes.py",
    "tests/integration/runtimed/test_oom.py",
    "tests/integration/runtimed/test_runtimed.py::test_a_command_that_cannot_be_executed_is_126",
)


@pytest.mark.parametrize("view", ["as it is", "as systemd has it", "without version 2"])
def test_crun_is_the_default_and_goes_apart_only_where_it_must(tmp_path: Path, view: str) -> None:
    need_root()
    need("crun", "runc", "unshare")
    groups = tmp_path / "groups"
    groups.mkdir()
    script = _WITHOUT_HYBRID if view == "without version 2" else _READ_ONLY
    alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(groups)]
    parent = f"sampan-{tmp_path.name}"
    look = [sys.executable, "-c", _LOOK, str(tmp_path), parent]
    done = subprocess.run(
        [*(alone if view != "as it is" else ()), *look],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    for group in Path("/sys/fs/cgroup").glob(f"*/{parent}"):
        remove_group(group)
    default, *found = json.loads(done.stdout.splitlines()[-1])
    assert default == "crun", found
    assert ["runc", True, False] in found
    version = subprocess.run(["crun", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    old = tuple(map(int, version.split(".")[:2])) < (1, 9)
    # Whether the version 2 tree has controllers at the moment does not matter: it may get some.
    apart = view != "without version 2" and read_host().layout is CgroupLayout.HYBRID and old
    assert ["crun", True, apart] in found


@pytest.mark.timeout(1800)  # of many tests, each of which has its own
def test_runc_does_what_crun_does() -> None:
    need_root()
    need("crun", "runc")
    again = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_AGAIN],
        cwd=REPOSITORY, env=os.environ | {"SAMPAN_RUNTIMED_RUNTIME": "runc"}, capture_output=True, text=True,
        timeout=1700, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stdout[-4000:]


_MOUNTS = """
import os, select, subprocess
from runtimed.conmon.process import runtime_environ
with open("/proc/self/mountinfo") as mounts:
    mounts.read()
    changes = select.poll()
    changes.register(mounts, select.POLLPRI)
    done = subprocess.run(["crun", "state", "of-nobody"], env=runtime_environ(os.environ), capture_output=True)
    print(done.returncode, len(changes.poll(0)))
"""


def test_a_call_of_crun_mounts_nothing_that_could_stay_if_it_is_killed() -> None:
    need_root()
    need("crun", "unshare")
    setting = Path("/proc/sys/vm/memfd_noexec")
    if setting.exists() and setting.read_text().strip() != "0":
        pytest.skip("memory files cannot be executed here")
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", _MOUNTS],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1", "0"]
