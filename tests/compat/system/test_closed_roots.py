"""What another user of the host can see of an engine: its sockets, if they are in the group, and nothing else."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.trees import busybox_tar

_STRANGER = 65534

# Any group that every host has; the stranger is in it where a test says so.
_GROUP = "daemon"

# Reads paths, one per line, and tells of each what worked: "stat", "open", "list", "connect".
_TRY = """
import json, os, socket, sys
def connect(path):
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect(path)
acts = {"stat": os.lstat, "open": lambda path: os.open(path, os.O_RDONLY | os.O_NONBLOCK), "list": os.listdir,
        "connect": connect}
worked = {}
for path in sys.stdin.buffer.read().split(b"\\0"):
    done = []
    for name, act in acts.items():
        try:
            act(path)
            done.append(name)
        except OSError:
            pass
    if done:
        worked[os.fsdecode(path)] = done
print(json.dumps(worked))
"""


@pytest.fixture(scope="module")
def busy() -> Iterator[Engine]:
    """An engine with some of everything: containers, execs, volumes, networks, logs, images."""
    configs = dict.fromkeys(("imaged", "snapshotter", "runtimed", "dockerapi"), f'socket_group = "{_GROUP}"\n')
    with run_engine(configs) as engine:
        docker = DockerClient(engine.host, engine.config)
        tar = engine.layout.data_root.parent / "root.tar"
        tar.write_bytes(busybox_tar())
        docker("import", str(tar), "busybox")
        docker("network", "create", "net")
        docker("volume", "create", "vol")
        run = ("run", "--detach", "--volume", "vol:/v", "--volume", "/anonymous", "--network", "net")
        script = "cp /bin/busybox /v/root; chmod 4755 /v/root; cp /v/root /root-too; chmod 4755 /root-too; echo said"
        docker(*run, "--name", "up", "--env", "SECRET=1", "busybox", "sh", "-c", f"{script}; sleep 3600")
        docker(*run, "--name", "over", "busybox", "sh", "-c", script)
        docker("wait", "over")
        docker("exec", "--detach", "up", "sleep", "3600")
        docker("exec", "up", "true")
        docker("commit", "up", "committed")
        docker("run", "--detach", "--name", "second", "--ipc", "shareable", "committed", "sleep", "3600")
        yield engine


def _everything(root: Path) -> list[str]:
    found = [str(root)]
    for directory, directories, files in os.walk(root):
        found += [os.path.join(directory, name) for name in (*directories, *files)]
    return found


def _reachable(paths: list[str], *, group: bool = False) -> dict[str, list[str]]:
    """Return what a user without rights can do with ``paths``."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _TRY],
        input="\0".join(paths).encode(errors="surrogateescape"),
        capture_output=True,
        user=_STRANGER,
        group=_STRANGER,
        extra_groups=[_GROUP] if group else [],
        check=True,
    )
    worked: dict[str, list[str]] = json.loads(done.stdout)
    return worked


def _check_closed(engine: Engine) -> None:
    layout = engine.layout
    data = _everything(layout.data_root)
    assert any(path.endswith("/_data/root") for path in data)
    assert any(path.endswith("metadata.db-wal") for path in data)
    assert _reachable(data) == {str(layout.data_root): ["stat"]}
    run = _everything(layout.run_root)
    assert any("/attach" in path for path in run)
    directly = {str(path) for path in layout.run_root.iterdir()}
    for path, worked in _reachable(run).items():
        assert path in {*directly, str(layout.run_root)}, f"a stranger sees {path}"
        assert worked == ["stat"], f"a stranger can {worked} {path}"


def test_strangers_reach_nothing_below_the_roots(busy: Engine) -> None:
    _check_closed(busy)
    assert stat.S_IMODE(busy.layout.data_root.stat().st_mode) == 0o710


def test_group_reaches_the_sockets_alone(busy: Engine) -> None:
    layout = busy.layout
    assert _reachable(_everything(layout.data_root), group=True) == {str(layout.data_root): ["stat"]}
    worked = _reachable(_everything(layout.run_root), group=True)
    sockets = {str(layout.docker_socket), *(str(layout.socket(name)) for name in ("imaged", "snapshotter", "runtimed"))}
    assert {path for path, acts in worked.items() if "connect" in acts} == sockets | {str(layout.socket("dockerapi"))}
    opened = {path for path, acts in worked.items() if "open" in acts or "list" in acts}
    assert opened == {
        str(layout.state_file(name)) for name in ("imaged", "snapshotter", "runtimed", "dockerapi")
    }  # for `sampan status`


def test_roots_that_an_earlier_version_left_open_are_closed_at_start(busy: Engine) -> None:
    layout = busy.layout
    busy.stop()
    for root in (layout.data_root, layout.run_root):
        for service in (root, *root.iterdir()):
            if service.is_dir() and not service.is_symlink():
                service.chmod(0o755)
                for inside in service.iterdir():
                    if not inside.is_symlink() and not inside.is_socket():
                        inside.chmod(0o755)
    busy.start()
    _check_closed(busy)
    database = layout.data("runtimed") / "metadata.db"
    assert stat.S_IMODE(database.stat().st_mode) & 0o077 == 0


def test_users_of_containers_see_their_files_as_before(busy: Engine) -> None:
    docker = DockerClient(busy.host, busy.config)
    script = "umask; cat /etc/hosts /etc/resolv.conf /etc/hostname > /dev/null && echo read; ls -ld /bound | cut -c1-10"
    bound = busy.layout.data_root.parent / "made" / "bound"
    result = docker("run", "--rm", "--user", "1000", "--volume", f"{bound}:/bound", "busybox", "sh", "-c", script)
    assert result.lines == ["0022", "read", "drwxr-xr-x"]
    assert docker("exec", "--user", "1000", "up", "sh", "-c", "umask").line == "0022"
