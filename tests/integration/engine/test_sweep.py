"""What a failed test leaves of its engine is taken away, whatever state it is in."""

import json
import multiprocessing
import os
import signal
import subprocess
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from runtimed.network.core.names import KernelNames
from sampan.layout import Layout
from tests.chaos.run.campaign import IMAGE, load_base
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.footprint import NOTHING, control_groups, footprint, processes
from tests.support.owned import owned, sweep_abandoned
from tests.support.tools import need_root

pytestmark = pytest.mark.root


class FailedError(Exception):
    """Stands for an assertion."""


def _fail_with_a_paused_container(left: list[Engine]) -> None:
    with run_engine() as engine:
        left.append(engine)
        load_base(engine)
        docker = DockerClient(engine.host, engine.config)
        docker("run", "--detach", "--name", "paused", "--volume", "/v", IMAGE, "sleep", "1000000")
        docker("pause", "paused")
        assert engine.process is not None
        engine.process.send_signal(signal.SIGKILL)  # its services go on
        engine.process.wait()
        engine.process = None
        raise FailedError


def test_an_engine_without_a_supervisor_and_with_a_paused_container_is_swept_away() -> None:
    need_root()
    left: list[Engine] = []
    with pytest.raises(FailedError):
        _fail_with_a_paused_container(left)
    (engine,) = left
    assert footprint(engine.layout) == NOTHING
    assert processes(engine.layout) == []
    assert not Path(engine.layout.run_root).exists()


def _run_until_killed(say: Connection, records: Path) -> None:
    with run_engine(records=records) as engine:
        load_base(engine)
        docker = DockerClient(engine.host, engine.config)
        docker("network", "create", "further")
        docker("run", "--detach", "--network", "further", IMAGE, "sleep", "1000000")
        say.send((engine.layout.data_root, engine.layout.run_root))
        signal.pause()


def test_what_a_killed_test_leaves_is_swept_away_by_the_next(tmp_path: Path) -> None:
    need_root()
    records = tmp_path / "records"  # other tests that run now leave this one alone
    hear, say = multiprocessing.Pipe(duplex=False)
    test = multiprocessing.get_context("spawn").Process(target=_run_until_killed, args=(say, records))
    test.start()
    say.close()
    try:
        layout = Layout(*hear.recv())
        sweep_abandoned(records)
        assert processes(layout)  # it has an owner
    finally:
        test.kill()
        test.join()
    names = KernelNames.of(layout)
    assert names.default_bridge in os.listdir("/sys/class/net")
    sweep_abandoned(records)
    assert footprint(layout) == NOTHING
    assert (processes(layout), control_groups(layout)) == ([], [])
    links = os.listdir("/sys/class/net")
    assert [link for link in links if link.startswith((names.default_bridge, names.prefix))] == []
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert names.table not in tables
    assert not layout.run_root.parent.exists()


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with owned(Layout(root / "d", root / "r"), root, tmp_path / "records"):
        sweep_abandoned(tmp_path / "records")
        assert root.exists()
        (record,) = (tmp_path / "records").iterdir()
        facts = json.loads(record.read_text())
    assert not root.exists()
    assert not list((tmp_path / "records").iterdir())
    root.mkdir()
    record.write_text(json.dumps(facts))  # as one whose process was killed before it could remove it
    sweep_abandoned(tmp_path / "records")
    assert not root.exists()
    assert not record.exists()
