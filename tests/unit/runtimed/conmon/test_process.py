import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtimed.conmon.conmon import Report, ReportPipe
from runtimed.conmon.process import finish_kills, kill_at_work_on, kill_with_offspring, run, until_none_works_on
from sampan.errors import StartError, UnavailableError

ENV = {"PATH": os.environ["PATH"]}


async def test_a_programs_code_and_output_of_any_size_come_back() -> None:
    done = await run(("sh", "-c", "head -c 300000 /dev/zero; echo err >&2; exit 3"), ENV, 60)
    assert (done.code, len(done.stdout), done.stderr) == (3, 300_000, b"err\n")


async def test_a_program_that_takes_too_long_is_killed() -> None:
    with pytest.raises(UnavailableError, match="did not end within"):
        await run(("sleep", "100"), ENV, 0.05)


async def test_a_cancelled_call_leaves_no_process() -> None:
    task = asyncio.create_task(run(("sh", "-c", "echo $$ > /proc/self/fd/1; sleep 100"), ENV, 10))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222  # it does not wait


async def test_a_program_that_is_not_there_raises() -> None:
    with pytest.raises(FileNotFoundError):
        await run(("/nonexistent",), ENV, 1)


async def test_reports_come_one_by_one_however_they_are_cut() -> None:
    with ReportPipe() as pipe:
        text = json.dumps({"data": 7}) + "\n" + json.dumps({"data": -1, "message": "no"}) + "\n"
        for byte in text[:-1]:
            os.write(pipe.write_end, byte.encode())
        assert await pipe.next() == Report(7)
        os.write(pipe.write_end, b"\n")
        assert await pipe.next() == Report(-1, "no")
        pipe.close_write_end()
        assert await pipe.next() is None


async def test_what_is_no_report_is_refused() -> None:
    with ReportPipe() as pipe:
        os.write(pipe.write_end, b"hello\n")
        with pytest.raises(StartError, match="no report"):
            await pipe.next()


async def test_all_that_works_on_a_directory_is_killed_and_nothing_else(tmp_path: Path) -> None:
    ours, other = tmp_path / "ours", tmp_path / "ours-too"
    at_work = [
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", each]) for each in (ours, ours, other)
    ]
    try:
        await kill_at_work_on(ours)
        assert [process.poll() is None for process in at_work] == [False, False, True]
    finally:
        for process in at_work:
            process.kill()
            process.wait()


async def test_a_child_that_goes_on_with_its_parents_arguments_is_waited_for(tmp_path: Path) -> None:
    script = "import os; os.write(1, b'r'); os.read(0, 1); os._exit(0) if os.fork() else os.read(0, 1)"
    stdin, word = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdin=stdin, stdout=subprocess.PIPE)
    os.close(stdin)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read(1) == b"r"  # until then its arguments may not be there
    waiting = asyncio.create_task(until_none_works_on(tmp_path))
    os.write(word, b"1")
    await asyncio.to_thread(process.wait)
    await asyncio.sleep(0)
    assert not waiting.done()
    os.close(word)
    async with asyncio.timeout(60):
        await waiting


async def test_a_child_of_one_that_ends_while_processes_are_listed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(1000)", str(tmp_path)]
    parent, pidfd_open = subprocess.Popen(command), os.pidfd_open
    children: list[subprocess.Popen[bytes]] = []

    def just_ended(pid: int) -> int:
        if pid == parent.pid and not children:
            children.append(subprocess.Popen(command))
            parent.kill()
            parent.wait()
        return pidfd_open(pid)

    monkeypatch.setattr(os, "pidfd_open", just_ended)
    await kill_at_work_on(tmp_path)
    (child,) = children
    try:
        assert child.poll() == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()


_WITHOUT_ARGUMENTS = """
import sys
from sampan.sys.command_line import show_command_line
show_command_line(())
print(flush=True)
sys.stdin.readline()
show_command_line(sys.argv[1:])
print(flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("appear", [True, False])
async def test_one_without_arguments_for_the_moment_of_its_exec_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, appear: bool
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WITHOUT_ARGUMENTS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        tell, told = process.stdin, process.stdout
        assert tell is not None
        assert told is not None
        told.readline()
        looks = 0

        def look_again() -> None:
            nonlocal looks
            looks += 1
            if appear and looks == 2:
                tell.write(b"\n")
                tell.flush()
                told.readline()

        monkeypatch.setattr(os, "sched_yield", look_again)
        try:
            async with asyncio.timeout(60):
                await kill_at_work_on(tmp_path)
            assert looks >= 2
            if appear:
                assert process.wait(60) == -signal.SIGKILL
            else:  # nobody waits for ever for one that has taken them from itself
                assert process.poll() is None
        finally:
            process.kill()


async def test_nobody_waits_where_nobody_works(tmp_path: Path) -> None:
    await until_none_works_on(tmp_path)


async def test_kills_that_somebody_has_begun_are_finished_and_no_others(tmp_path: Path) -> None:
    for name in ("begun", "untouched"):
        (tmp_path / name).mkdir()
    sleep = "import time; time.sleep(1000)"
    begun, fellow, untouched, elsewhere = (
        subprocess.Popen([sys.executable, "-c", sleep, path])
        for path in (tmp_path / "begun", tmp_path / "begun", tmp_path / "untouched", Path(f"{tmp_path}-too/begun"))
    )
    try:
        for stopped in (begun, elsewhere):
            stopped.send_signal(signal.SIGSTOP)
            await asyncio.to_thread(os.waitid, os.P_PID, stopped.pid, os.WSTOPPED)
        await finish_kills(tmp_path)
        assert [each.wait() for each in (begun, fellow)] == [-signal.SIGKILL] * 2
        assert [each.poll() for each in (untouched, elsewhere)] == [None, None]
    finally:
        for process in (begun, fellow, untouched, elsewhere):
            process.kill()
            process.wait()


async def test_a_kill_that_is_broken_off_leaves_nothing_stopped(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", tmp_path]) as process:
        killing = asyncio.create_task(kill_at_work_on(tmp_path))
        await asyncio.sleep(0)
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL


async def test_a_process_is_killed_with_what_it_left_behind_and_nobody_else(tmp_path: Path) -> None:
    script = "sleep 1001 & (sleep 1002 &); echo; wait"
    cgroup = Path("/proc/self/cgroup").read_text().splitlines()[0]
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    other = subprocess.Popen(["sleep", "1003"])
    try:
        assert process.stdout is not None
        process.stdout.readline()
        await kill_with_offspring(process.pid, process.pid, "/of-another-container")
        assert process.poll() is None
        await kill_with_offspring(process.pid, process.pid, cgroup)
        assert process.wait(60) == -signal.SIGKILL
        assert process.stdout.read() == b""  # those that had it open are gone
        assert other.poll() is None
    finally:
        for each in (process, other):
            each.kill()
            each.wait()
        assert process.stdout is not None
        process.stdout.close()
