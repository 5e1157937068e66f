"""Running a plugin that hangs, crashes, prints garbage, or never stops."""

import asyncio
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from crid.cni.model import Command, PluginError
from crid.cni.process import Call, Programs, kill_left_behind, run_plugin
from sampan.errors import UnavailableError
from tests.fakes.cni_plugins import CniPlugins
from tests.unit.crid.cni.parts import PATIENCE_S, until


@pytest.fixture
def plugins(tmp_path: Path) -> CniPlugins:
    return CniPlugins(tmp_path / "bin")


async def ask(plugins: CniPlugins, timeout_s: float = PATIENCE_S, command: Command = Command.ADD) -> object:
    call = Call("fake", command, {"name": "pods"}, {"CNI_CONTAINERID": "c1", "CNI_ARGS": "A=1"})
    return await run_plugin(Programs([Path("/nowhere"), plugins.directory]), call, timeout_s)


async def test_a_plugin_is_told_by_variables_and_stdin(plugins: CniPlugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNI_NETNS", "of whoever started us")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("KUBECONFIG", "/etc/kubeconfig")
    plugins.write("fake", 'echo \'{"cniVersion": "1.0.0"}\'')
    assert await ask(plugins) == {"cniVersion": "1.0.0"}
    assert plugins.stdin("fake", "ADD") == {"name": "pods"}
    env = plugins.env("fake", "ADD")
    assert (env["CNI_CONTAINERID"], env["CNI_ARGS"]) == ("c1", "A=1")
    assert env["CNI_PATH"] == f"/nowhere:{plugins.directory}"
    assert "CNI_NETNS" not in env
    assert "NOTIFY_SOCKET" not in env
    assert env["KUBECONFIG"] == "/etc/kubeconfig"


async def test_no_answer_is_none(plugins: CniPlugins) -> None:
    plugins.write("fake", "exit 0")
    assert await ask(plugins, command=Command.DEL) is None


async def test_a_refusal_is_told_in_the_plugins_words(plugins: CniPlugins) -> None:
    plugins.write("fake", """echo '{"code": 7, "msg": "bad config", "details": "no subnet"}'; exit 1""")
    with pytest.raises(PluginError, match=r"CNI plugin fake ADD: bad config: no subnet \(code 7\)") as raised:
        await ask(plugins)
    assert raised.value.code == 7


async def test_one_that_asks_to_be_tried_again_is_unavailable(plugins: CniPlugins) -> None:
    plugins.write("fake", """echo '{"code": 11, "msg": "busy"}'; exit 1""")
    with pytest.raises(UnavailableError, match="busy"):
        await ask(plugins)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("kill -SEGV $$", "killed by SIGSEGV"),
        ("echo no route to host >&2; exit 3", "no route to host: exit status 3"),
        ("echo panic; exit 2", "panic: exit status 2"),
        ("exit 4", "it failed: exit status 4"),
        ("echo '<html>'", "no JSON: <html>"),
        ("head -c 100000 /dev/zero", "no JSON"),
    ],
)
async def test_a_crash_and_garbage_are_told(plugins: CniPlugins, body: str, words: str) -> None:
    plugins.write("fake", body)
    with pytest.raises(PluginError, match=words):
        await ask(plugins)


async def test_output_without_end_is_cut_off_and_the_plugin_killed(plugins: CniPlugins) -> None:
    plugins.write("fake", f"echo $$ > {plugins.directory}/pid; exec cat /dev/zero")
    with pytest.raises(PluginError, match="more than 1 MiB"):
        await ask(plugins)
    assert not Path("/proc", (plugins.directory / "pid").read_text().strip()).exists()


async def test_complaints_without_end_cost_nothing(plugins: CniPlugins) -> None:
    plugins.write("fake", "head -c 5000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1")
    with pytest.raises(PluginError, match="the end: exit status 1") as raised:
        await ask(plugins)
    assert len(str(raised.value)) < 4000


async def test_one_that_hangs_is_killed_with_what_it_has_started(plugins: CniPlugins) -> None:
    plugins.write("fake", f"sleep 1000 & echo $! > {plugins.directory}/child; wait")
    with pytest.raises(UnavailableError, match=r"did not end within 0\.3 seconds"):
        await ask(plugins, 0.3)
    child = int((plugins.directory / "child").read_text())
    await until(lambda: not is_alive(child))  # killed with the other, and nobody's child any more


async def test_one_that_never_reads_its_configuration_makes_nobody_wait(plugins: CniPlugins) -> None:
    path = plugins.directory / "fake"
    path.write_text("#!/bin/sh\nexec 0<&-\necho '{}'\n")
    path.chmod(0o755)
    call = Call("fake", Command.ADD, {"name": "x" * 1_000_000}, {})
    assert await run_plugin(Programs([plugins.directory]), call, PATIENCE_S) == {}


async def test_a_daemon_that_keeps_the_output_open_makes_nobody_wait(plugins: CniPlugins) -> None:
    plugins.write("fake", f"echo '{{}}'; sleep 1000 & echo $! > {plugins.directory}/child")
    begin = time.monotonic()
    try:
        assert await ask(plugins) == {}
        assert time.monotonic() - begin < PATIENCE_S / 2
    finally:
        os.kill(int((plugins.directory / "child").read_text()), 9)


async def test_cancelled_it_is_killed(plugins: CniPlugins) -> None:
    plugins.write("fake", f"echo $$ > {plugins.directory}/pid.new; mv {plugins.directory}/pid.new {plugins.directory}/pid; exec sleep 1000")  # fmt: skip  # noqa: E501
    asking = asyncio.create_task(ask(plugins))
    await until((plugins.directory / "pid").exists)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not is_alive(int((plugins.directory / "pid").read_text()))


async def test_a_program_that_cannot_be_run_is_told(plugins: CniPlugins) -> None:
    with pytest.raises(UnavailableError, match="CNI plugin fake is not in /nowhere:"):
        await ask(plugins)
    (plugins.directory / "fake").write_text("#!/no/such/interpreter\n")
    with pytest.raises(UnavailableError, match="is not in"):  # not executable
        await ask(plugins)
    (plugins.directory / "fake").chmod(0o755)
    with pytest.raises(PluginError, match="No such file"):
        await ask(plugins)


def test_what_an_earlier_process_left_at_work_is_killed() -> None:
    environment = {"CNI_CONTAINERID": "left-behind-of-this-test", "PATH": os.environ["PATH"]}
    script = "sleep 1000 & wait"
    process = subprocess.Popen(["sh", "-c", script], env=environment, start_new_session=True)
    other = subprocess.Popen(["sleep", "1000"], env={**environment, "CNI_CONTAINERID": "another"})
    try:
        assert kill_left_behind(["left-behind-of-this-test"], 0.1) >= 1
        process.wait(timeout=PATIENCE_S)  # killed, or ended for want of its child
        assert other.poll() is None
        assert kill_left_behind(["left-behind-of-this-test"], 0.1) == 0
        assert kill_left_behind([], 0.1) == 0
    finally:
        other.kill()
        other.wait()


def test_what_ends_by_itself_in_time_is_not_killed(tmp_path: Path) -> None:
    environment = {"CNI_CONTAINERID": "ends-by-itself-in-this-test", "PATH": os.environ["PATH"]}
    script = f"sleep 0.2; echo done > {tmp_path}/done"
    process = subprocess.Popen(["sh", "-c", script], env=environment)
    threading.Thread(target=process.wait).start()  # its parent, which init is of one that crid has left
    assert kill_left_behind(["ends-by-itself-in-this-test"], PATIENCE_S) >= 1
    assert (tmp_path / "done").exists()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
