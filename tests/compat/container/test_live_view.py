"""``sampan top`` without a container, and how long a start takes by ``run --timing``."""

import re
import signal

import pytest

from tests.compat.conftest import TARGET, Spawn
from tests.support.engine import SAMPAN, Engine
from tests.support.terminal import at_terminal

pytestmark = pytest.mark.skipif(TARGET is not None, reason="about this engine's own client")


def test_the_screen_shows_services_and_containers_anew_each_second(engine: Engine, image: str, spawn: Spawn) -> None:
    busy = spawn("--network", "none", image, "sh", "-c", "while :; do :; done")
    with at_terminal([str(SAMPAN), "top"], engine.env(), columns=160) as terminal:
        shown = terminal.expect(busy)
        assert all(name in shown for name in ("imaged", "runtimed", "dockerapi", "HEALTHY"))
        later = terminal.expect("%")
        while not re.search(rf"{busy}\s.*?[1-9]\d*\.\d\d%", later):
            later += terminal.expect("%")
        second = spawn("--network", "none", image, "sleep", "1000")
        terminal.expect(second)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 130
    assert "\x1b[?1049l" in terminal.seen  # the old screen is back


def test_without_a_terminal_it_is_shown_once(engine: Engine, sleeper: str) -> None:
    lines = engine.sampan("top").lines
    assert any(re.match(r"runtimed\s+\d+\s+yes\s", line) for line in lines)
    (line,) = (line for line in lines if line.startswith(sleeper))
    assert "Up" in line
    assert "iB / " in line


def test_timing_says_how_long_each_phase_took(engine: Engine, image: str) -> None:
    result = engine.sampan("run", "--rm", "--network", "none", "--timing", image, "sh", "-c", "sleep 0.3; echo done")
    assert result.line == "done"
    found = {name: int(ms) for name, ms in re.findall(r"([a-z ]+?) (\d+) ms", result.stderr.removeprefix("timing: "))}
    phases = [name.strip() for name in found]
    assert phases == ["client", "create", "start", "run", "in all"]
    assert found[" run"] >= 250
    assert sum(ms for name, ms in found.items() if name.strip() != "in all") == pytest.approx(found[" in all"], abs=5)
