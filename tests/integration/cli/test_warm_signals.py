"""Signals, terminals and job control reach a command that a warm process runs as they reach any other."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.cli.warm import command, commands, lasting, workers
from tests.support.engine import SAMPAN, Engine
from tests.support.terminal import at_terminal
from tests.support.tools import catches, eventually, need, status

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[3]


def _ends_by(engine: Engine, number: signal.Signals, direct: bool) -> int:
    env = engine.env() | ({"SAMPAN_DIRECT": "1"} if direct else {})
    if not direct:
        with lasting(engine, env=env) as (client, _):
            client.send_signal(number)
            client.communicate(timeout=60)
            return client.returncode
    client = subprocess.Popen([SAMPAN, "events"], env=env, stderr=subprocess.DEVNULL)
    eventually(lambda: catches(client.pid, signal.SIGTERM), "it runs")
    client.send_signal(number)
    return client.wait(60)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM]
)
def test_a_signal_ends_it_as_it_would_end_any_command(engine: Engine, number: signal.Signals) -> None:
    assert _ends_by(engine, number, direct=False) == _ends_by(engine, number, direct=True)


def test_a_client_that_is_killed_takes_its_command_along(engine: Engine) -> None:
    with lasting(engine) as (client, worker):
        client.kill()
        eventually(lambda: not status(worker, "State"), "the worker is gone")


@pytest.mark.parametrize("delay_ms", [0, 5, 10, 20, 30, 40, 60, 100])
def test_a_client_that_is_killed_in_any_phase_leaves_no_worker(engine: Engine, delay_ms: int) -> None:
    client = subprocess.Popen([SAMPAN, "events"], env=engine.env(), stderr=subprocess.PIPE)
    try:
        client.wait(delay_ms / 1000)
    except subprocess.TimeoutExpired:
        client.kill()
    client.communicate()
    eventually(lambda: not workers(engine), "no worker is left")


def test_a_worker_that_is_killed_ends_its_client_likewise(engine: Engine) -> None:
    with lasting(engine) as (client, worker):
        os.kill(worker, signal.SIGKILL)
        client.communicate(timeout=60)
        assert client.returncode == -signal.SIGKILL


def test_nohup(engine: Engine, tmp_path: Path) -> None:
    need("nohup")
    with lasting(engine, "nohup", stdout=(tmp_path / "out").open("wb")) as (client, worker):
        client.send_signal(signal.SIGHUP)
        client.send_signal(signal.SIGCONT)
        client.send_signal(signal.SIGTERM)
        client.communicate(timeout=60)
        assert client.returncode == 128 + signal.SIGTERM
        eventually(lambda: not status(worker, "State"), "the worker is gone")


def test_timeout(engine: Engine) -> None:
    with lasting(engine, "timeout", "--foreground", "1000") as (client, worker):
        client.send_signal(signal.SIGALRM)  # by which it hears that the time is over
        client.communicate(timeout=60)
        assert client.returncode == 124
        eventually(lambda: not status(worker, "State"), "the worker is gone")


def _others_have_the_terminal_of(shell: int) -> bool:
    """Say whether the foreground of a shell's terminal is another process group than the shell's."""
    fields = Path(f"/proc/{shell}/stat").read_text().rpartition(")")[2].split()
    group, foreground = fields[2], fields[5]
    return group != foreground


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    """An image with a shell in it."""
    root = subprocess.run([ROOT / "tools/busybox-root"], check=True, capture_output=True).stdout
    words = (SAMPAN, "import", "--change", "ENV PATH=/bin:/usr/bin", "-", "busybox:warm")
    subprocess.run(words, input=root, env=engine.env(), check=True, capture_output=True)
    return "busybox:warm"


def test_job_control(engine: Engine) -> None:
    with at_terminal(["bash", "--norc", "--noprofile", "-i"], {**engine.env(), "PS1": "ready> "}) as shell:
        shell.expect("ready> ")
        shell.type(f"{SAMPAN} events\n")
        worker = command(engine)
        shell.type("\x1a")
        shell.expect("Stopped")
        eventually(lambda: status(worker, "State")[:1] == "T", "it is stopped")
        shell.type("bg\n")
        eventually(lambda: status(worker, "State")[:1] == "S", "it goes on in the background")
        shell.type("fg\n")
        eventually(lambda: _others_have_the_terminal_of(shell.process.pid), "it is in the foreground")
        shell.type("\x03")
        shell.expect("ready> ")
        shell.type("echo =$?=\n")
        shell.expect("=130=")
        eventually(lambda: not status(worker, "State"), "the worker is gone")
        shell.type("exit\n")
        assert shell.wait() == 0


def test_a_container_at_a_terminal(engine: Engine, image: str) -> None:
    words = [SAMPAN, "run", "--rm", "-it", "--network", "none", image, "sh"]
    with at_terminal(list(map(str, words)), engine.env(), rows=30, columns=100) as terminal:
        terminal.expect("# ")
        assert commands(engine), "a worker runs it"
        terminal.expect_size(30, 100)
        terminal.resize(41, 111)
        terminal.expect_size(41, 111)
        terminal.type("exit 5\n")
        assert terminal.wait() == 5


def test_a_reader_in_the_background_stays_stopped(engine: Engine, image: str) -> None:
    run = f"{SAMPAN} run --rm -i --network none {image} cat"
    with at_terminal(["bash", "--norc", "--noprofile", "-i"], {**engine.env(), "PS1": "ready> "}) as shell:
        shell.expect("ready> ")
        shell.type(f"{run}\n")
        worker = command(engine)
        shell.type("one\n")
        shell.expect("one\r\none")
        shell.type("\x1a")
        shell.expect("Stopped")
        shell.type("bg\n")
        shell.expect("ready> ")
        shell.type("echo still $((20+1)) mine\n")
        shell.expect("still 21 mine")
        eventually(lambda: status(worker, "State")[:1] == "T", "what is told to stop has come to it")
        shell.type("echo still $((21+1)) mine\n")
        shell.expect("still 22 mine")
        assert status(worker, "State")[:1] == "T"
        shell.type("fg\n")
        eventually(lambda: _others_have_the_terminal_of(shell.process.pid), "it is in the foreground")
        shell.type("two\n")
        shell.expect("two\r\ntwo")
        shell.type("\x04")
        shell.expect("ready> ")
        shell.type("exit\n")
        assert shell.wait() == 0
