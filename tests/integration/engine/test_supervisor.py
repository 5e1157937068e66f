"""``sampan up``, ``down`` and ``status`` with services that do nothing: real processes, real signals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from sampan.layout import Layout
from sampan.service.notify import EXTEND_TIMEOUT
from sampan.services import STARTED, WHEN_ASKED
from sampan_cli.supervisor.roots import claim
from sampan_cli.supervisor.supervisor import STOP_TIMEOUT_S
from tests.support.fake_services import REPOSITORY, SAMPAN, Roots
from tests.support.tools import eventually, open_files

RUNNING = tuple(name for name in STARTED if name not in WHEN_ASKED)


def test_up_keeps_what_else_it_is_asked_to_and_stops_that_first(roots: Roots) -> None:
    process = roots.up("--cri")
    assert set(roots.history()) == {f"{name} started" for name in (*RUNNING, "crid")}
    before = roots.pid("crid")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: roots.runs("crid") and roots.pid("crid") not in (0, before), "crid is started again")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    again = roots.up("--cri")  # takes over what the killed one has left
    again.terminate()
    again.wait(60)
    stopped = [line.removesuffix(" stopped") for line in roots.history() if line.endswith(" stopped")]
    assert stopped[-len(RUNNING) - 1 :] == ["crid", *reversed(RUNNING)]


def test_a_service_that_somebody_runs_beside_the_engine_is_left_alone_when_that_starts(roots: Roots) -> None:
    roots.layout.run_root.mkdir()
    command = [sys.executable, "-m", "crid", "--data-root", str(roots.layout.data_root)]
    command += ["--run-root", str(roots.layout.run_root)]
    with subprocess.Popen(command, env=roots.environment(), start_new_session=True) as own:
        eventually(lambda: roots.runs("crid"), "crid runs")
        engine = roots.up()
        assert own.poll() is None
        assert "crid" in roots.sampan("status", "--format", "{{.Service}}").stdout
        engine.terminate()
        engine.wait(60)
        assert own.poll() is None
        own.terminate()


def test_up_starts_every_service_and_stops_them_in_reverse_order(roots: Roots) -> None:
    process = roots.up()
    assert set(roots.history()) == {f"{name} started" for name in RUNNING}
    process.terminate()
    assert process.wait(60) == 0
    assert roots.history()[len(RUNNING) :] == [f"{name} stopped" for name in reversed(RUNNING)]
    assert "imaged      | imaged started" in roots.terminal()


def test_a_service_that_asks_for_more_time_to_stop_gets_it_and_systemd_is_told(roots: Roots) -> None:
    """runtimed does, which may have containers to stop."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(roots.layout.data_root / "systemd"))
        systemd.settimeout(60)
        os.environ["NOTIFY_SOCKET"] = str(roots.layout.data_root / "systemd")
        try:
            process = roots.up()
        finally:
            del os.environ["NOTIFY_SOCKET"]
        roots.behave("slow-runtimed", str(STOP_TIMEOUT_S + 1))
        process.terminate()
        said = ""
        while not said.startswith(EXTEND_TIMEOUT):
            said = systemd.recv(4096).decode()
        assert int(said.partition("=")[2]) > (STOP_TIMEOUT_S + 31) * 1e6  # others have to stop, too
        assert process.wait(60) == 0
    assert "runtimed stopped" in roots.history()
    assert "does not stop" not in roots.terminal()


def test_services_get_the_environment_they_are_meant_for(roots: Roots) -> None:
    process = roots.up("--config-dir", "/")
    environment = Path(f"/proc/{roots.pid('imaged')}/environ").read_bytes().split(b"\0")
    for entry in (b"MALLOC_ARENA_MAX=2", b"GRPC_ENABLE_FORK_SUPPORT=0", b"PYTHONNOUSERSITE=1", b"SAMPAN_CONFIG_DIR=/"):
        assert entry in environment
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def test_service_that_dies_is_restarted_at_once_and_the_others_do_not_notice(roots: Roots) -> None:
    process = roots.up()
    before = {name: roots.pid(name) for name in RUNNING}
    os.kill(before["runtimed"], signal.SIGKILL)
    eventually(lambda: roots.pid("runtimed") != before["runtimed"] and roots.runs("runtimed"), "runtimed is back")
    assert {name for name in RUNNING if roots.pid(name) != before[name]} == {"runtimed"}
    assert "was killed by SIGKILL; starting it again now" in roots.terminal()
    process.terminate()
    assert process.wait(60) == 0


def test_services_are_forked_from_the_supervisor_and_are_called_what_they_are(roots: Roots) -> None:
    process = roots.up()
    assert {name: roots.how(name) for name in RUNNING} == dict.fromkeys(RUNNING, "forked")
    for name in RUNNING:
        command = Path(f"/proc/{roots.pid(name)}/cmdline").read_bytes().decode().split("\0")
        assert command[1:] == [
            *("-m", name, "--data-root", str(roots.layout.data_root), "--run-root", str(roots.layout.run_root), "")
        ]
        assert os.getsid(roots.pid(name)) == roots.pid(name)  # Ctrl-C does not reach it
        assert not [path for path in open_files(roots.pid(name)) if path.endswith("engine.lock")]
    process.terminate()
    assert process.wait(60) == 0


def test_a_supervisor_that_is_killed_leaves_its_roots_to_the_next_one(roots: Roots) -> None:
    """What was forked holds none of its locks."""
    process = roots.up()
    process.kill()
    process.wait(60)
    before = {name: roots.pid(name) for name in RUNNING}
    process = roots.up()
    assert not set(before.values()) & {roots.pid(name) for name in RUNNING}
    process.terminate()
    assert process.wait(60) == 0


def test_a_service_comes_back_with_the_code_that_is_on_disk(roots: Roots) -> None:
    process = roots.up()
    before = roots.pid("imaged")
    os.utime(roots.modules / "sitecustomize.py", (1, 1))  # which the supervisor has loaded
    os.kill(before, signal.SIGKILL)
    eventually(lambda: roots.pid("imaged") != before and roots.how("imaged") == "by exec", "imaged is a new program")
    process.terminate()
    assert process.wait(60) == 0


def test_service_that_keeps_dying_is_restarted_more_and_more_slowly(roots: Roots) -> None:
    process = roots.up()
    roots.behave("fail-imaged", "3")
    os.kill(roots.pid("imaged"), signal.SIGKILL)
    eventually(lambda: "starting it again in 2 s" in roots.terminal(), "the third death waits for two seconds")
    pauses = re.findall(r"starting it again (now|in \d+ s)", roots.terminal())
    assert pauses[:3] == ["now", "in 1 s", "in 2 s"]
    assert roots.history().count("imaged started") >= 3  # the first, the immediate one, and that after one second
    process.terminate()
    assert process.wait(60) == 0, "stopping does not wait for a restart that is due"


def test_detach_returns_when_all_are_ready_and_down_when_all_are_gone(roots: Roots) -> None:
    up = roots.sampan("up", "--detach")
    assert (up.returncode, up.stderr) == (0, "")
    assert all(roots.runs(name) for name in RUNNING)
    down = roots.sampan("down")
    assert (down.returncode, down.stderr) == (0, "")
    assert not any(roots.runs(name) for name in RUNNING)


def test_engine_keeps_nothing_of_whoever_started_it(roots: Roots) -> None:
    ours, theirs = os.pipe()
    command = [*SAMPAN, "up", "--detach"]
    subprocess.run(command, env=roots.environment(), pass_fds=(theirs,), umask=0o002, check=True)
    os.close(theirs)
    assert os.read(ours, 1) == b"", "somebody in the engine holds the other end"
    os.close(ours)
    assert Path(f"/proc/{roots.supervisor_pid()}/cwd").readlink() == Path("/")
    assert "Umask:\t0077" in Path(f"/proc/{roots.pid('imaged')}/status").read_text()


def test_supervisor_is_small(roots: Roots) -> None:
    roots.sampan("up", "--detach")
    rollup = Path(f"/proc/{roots.supervisor_pid()}/smaps_rollup").read_text()
    share_kb = int(rollup.partition("\nPss:")[2].split()[0])  # most of its memory is the services' as well
    assert share_kb <= 16 << 10


def test_detach_says_which_service_failed_shows_its_log_and_stops_the_rest(roots: Roots) -> None:
    roots.behave("fail-snapshotter", "3")
    up = roots.sampan("up", "--detach")
    assert up.returncode == 1
    assert up.stderr.splitlines() == [
        "sampan: snapshotter did not start: it exited with status 3",
        f"last lines of {roots.layout.run_root}/logs/snapshotter.log:",
        "    snapshotter started",
        "    the reason why",
    ]
    assert not any(roots.runs(name) for name in RUNNING)


def test_configuration_error_is_not_tried_twice(roots: Roots) -> None:
    roots.behave("fail-imaged", "2")
    up = roots.sampan("up", "--detach")
    assert up.returncode == 1
    assert "imaged did not start: it exited with status 2" in up.stderr
    assert roots.history().count("imaged started") == 1


def test_service_that_is_never_ready_is_named(roots: Roots) -> None:
    roots.behave("mute-runtimed")
    for timeout_s in (8, 16, 32):  # what the others may need on a busy machine
        up = roots.sampan("up", "--detach", "--timeout", str(timeout_s))
        assert up.returncode == 1
        if "runtimed did not start" in up.stderr:
            break
    assert f"sampan: runtimed did not start: it is not ready after {timeout_s} s" in up.stderr
    assert not any(roots.runs(name) for name in RUNNING)


def test_foreground_start_that_fails_leaves_with_an_error(roots: Roots) -> None:
    roots.behave("fail-imaged", "2")
    up = roots.sampan("up")
    assert up.returncode == 1
    assert "sampan: imaged did not start: it exited with status 2" in up.stderr


def test_second_engine_on_the_same_roots_is_refused_and_names_the_first(roots: Roots) -> None:
    roots.sampan("up", "--detach")
    pid = roots.supervisor_pid()
    for arguments in (("up",), ("up", "--detach")):
        second = roots.sampan(*arguments)
        assert second.returncode == 1
        assert second.stderr == f"sampan: engine already running on {roots.layout.run_root} (pid {pid})\n"
    assert all(roots.runs(name) for name in RUNNING)


def test_second_engine_on_the_same_data_alone_is_refused_too(roots: Roots) -> None:
    roots.sampan("up", "--detach")
    second = roots.sampan("up", "--detach", "--run-root", f"{roots.layout.run_root}2")
    assert second.returncode == 1
    assert f"data root {roots.layout.data_root} is in use by another engine" in second.stderr
    assert not Path(f"{roots.layout.run_root}2").exists()
    assert all(roots.runs(name) for name in RUNNING)


def test_data_root_that_is_a_file_is_refused_and_nothing_is_made(roots: Roots, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    up = roots.sampan("up", "--detach", "--data-root", str(tmp_path / "file"))
    assert (up.returncode, up.stderr) == (1, f"sampan: {tmp_path}/file is not a directory\n")
    assert not roots.layout.run_root.exists()


def test_services_outlive_a_killed_supervisor_and_the_next_one_takes_over(roots: Roots) -> None:
    roots.sampan("up", "--detach")
    supervisor = roots.supervisor_pid()
    before = {name: roots.pid(name) for name in RUNNING}
    os.kill(supervisor, signal.SIGKILL)
    assert all(roots.runs(name) for name in RUNNING)
    up = roots.sampan("up", "--detach")
    assert (up.returncode, up.stderr) == (0, "")
    assert not {roots.pid(name) for name in RUNNING} & set(before.values())
    assert "left by an engine that was killed" in (roots.layout.run_root / "logs" / "sampan.log").read_text()


def test_root_of_a_supervisor_that_was_killed_this_moment_is_free(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data", tmp_path / "run")
    hold = (
        "import sys, time; from pathlib import Path; from sampan.layout import Layout; "
        "from sampan_cli.supervisor import roots; memory = bytearray(50_000_000); "  # takes the kernel a while to undo
        "claimed = roots.claim(Layout(Path(sys.argv[1]), Path(sys.argv[2]))); "
        "claimed.__enter__(); print(flush=True); time.sleep(60)"
    )
    for _ in range(3):
        command = [sys.executable, "-c", hold, str(layout.data_root), str(layout.run_root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            holder.kill()
            with claim(layout):  # raises if it is taken
                pass


def test_down_stops_what_a_killed_supervisor_left(roots: Roots) -> None:
    roots.sampan("up", "--detach")
    os.kill(roots.supervisor_pid(), signal.SIGKILL)
    eventually(lambda: roots.sampan("down").returncode == 0, "down succeeds")
    assert not any(roots.runs(name) for name in RUNNING)


def test_service_that_does_not_stop_is_killed_on_a_second_interrupt(roots: Roots) -> None:
    roots.behave("slow-runtimed", "600")  # it asks for so long, and would get it without the second one
    process = roots.up()
    process.send_signal(signal.SIGINT)
    eventually(lambda: "dockerapi stopped" in roots.history(), "stopping has begun")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert "runtimed (pid" in roots.terminal()
    assert "does not stop: killing it" in roots.terminal()
    assert not roots.runs("runtimed")


def test_status_lists_every_service_as_json(roots: Roots) -> None:
    roots.sampan("up", "--detach")
    status = roots.sampan("status", "--format", "json")
    listed = json.loads(status.stdout)
    assert [each["service"] for each in listed] == list(STARTED)
    assert [each["pid"] for each in listed] == [roots.pid(name) if name in RUNNING else None for name in STARTED]
    assert [each["socket"] for each in listed] == [str(roots.layout.socket(name)) for name in STARTED]
    assert [each["service"] for each in listed if each["healthy"]] == list(WHEN_ASKED), "nobody answers elsewhere"
    assert [each["service"] for each in listed if each["waits"]] == list(WHEN_ASKED)
    assert status.returncode == 1


def test_service_manager_is_told_when_all_are_ready_and_when_stopping_begins(roots: Roots, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        process = subprocess.Popen(
            [*SAMPAN, "up"],
            env={**roots.environment(), "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stderr=subprocess.DEVNULL,
        )
        assert manager.recv(100) == b"READY=1"
        assert all(roots.runs(name) for name in RUNNING)
        roots.behave("deaf-runtimed")  # so that stopping takes until the second interrupt
        process.send_signal(signal.SIGINT)
        assert manager.recv(100) == b"STOPPING=1"
        assert roots.runs("runtimed")
        eventually(lambda: "dockerapi stopped" in roots.history(), "stopping has begun")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
