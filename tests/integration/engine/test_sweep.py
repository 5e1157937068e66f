"""What a failed test leaves of its engine is taken away, whatever state it is in."""

import signal
from pathlib import Path

import pytest

from tests.chaos.run.campaign import IMAGE, load_base
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.footprint import NOTHING, footprint, processes
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
