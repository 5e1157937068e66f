import os
import threading
import time
from pathlib import Path

import pytest

from sampan.sys import processes


@pytest.fixture(autouse=True)
def _stands_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_stands_for", None)


def test_the_age_is_that_of_the_process_or_of_the_one_that_it_stands_for() -> None:
    assert processes.age_s() < float(Path("/proc/uptime").read_text().split()[0])
    time.sleep(0.05)  # the kernel counts in hundredths
    own_s = processes.age_s()
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
    try:
        processes.stand_for(pid)
        assert 0 <= processes.age_s() < own_s
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_the_system_has_room_for_the_lesser_of_its_bounds(tmp_path: Path) -> None:
    (tmp_path / "pid_max").write_text("32768\n")
    (tmp_path / "threads-max").write_text("1000\n")
    assert processes.most_processes(tmp_path) == 1000
    assert processes.most_processes() > 0


def test_a_number_that_a_thread_has_by_now_is_no_process_s() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        with pytest.raises(ProcessLookupError):
            processes.open_process(thread.native_id)
    finally:
        over.set()
        thread.join()
    os.close(processes.open_process(os.getpid()))
