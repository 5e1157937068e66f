"""The run root is removed under running containers."""

import os
import select
import shutil
from pathlib import Path

import pytest

from sampan.sys.mounts import MNT_DETACH, UMOUNT_NOFOLLOW, umount2
from tests.support.docker_client import DockerClient
from tests.support.engine import run_engine
from tests.support.tools import eventually
from tests.support.trees import busybox_tar

pytestmark = [pytest.mark.root, pytest.mark.slow]

NAMES = ("c0", "c1", "c2", "plain")


def _remove(root: Path) -> None:
    """Remove a directory and what is mounted in it, but not what is in those mounts."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in reversed([place for place in mounted if place.startswith(f"{root}/")]):
        umount2(place, MNT_DETACH | UMOUNT_NOFOLLOW)
    shutil.rmtree(root)


def test_processes_that_no_monitor_is_known_of_are_ended_before_others_take_their_place() -> None:
    with run_engine() as engine:
        docker = DockerClient(engine.host, engine.config)
        root = engine.layout.data_root.parent / "root.tar"
        root.write_bytes(busybox_tar())
        docker("import", str(root), "busybox")
        for name in NAMES:
            policy = "no" if name == "plain" else "always"
            docker(
                "run", "--detach", "--network=none", f"--restart={policy}", f"--name={name}", "busybox", "sleep", "9999"
            )
        docker("pause", "c1")
        pids = {name: int(docker("inspect", "--format", "{{.State.Pid}}", name).line) for name in NAMES}
        pidfds = {name: os.pidfd_open(pid) for name, pid in pids.items()}
        engine.stop()
        _remove(engine.layout.run("runtimed"))
        engine.start()
        ended, _, _ = select.select([*pidfds.values()], [], [], 0)  # also of one that nobody has waited for yet
        assert {name for name, pidfd in pidfds.items() if pidfd not in ended} == set()
        for pidfd in pidfds.values():
            os.close(pidfd)

        def started() -> bool:
            states = docker("inspect", "--format", "{{.State.Status}}", *NAMES).lines
            return states == ["running", "running", "running", "exited"]

        eventually(started, f"those with a policy run again\n{engine.tail()}")
