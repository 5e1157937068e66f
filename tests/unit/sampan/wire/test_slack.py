import os
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from sampan.sys.processes import set_name
from sampan.wire.channel import open_channel
from sampan.wire.slack import TimerSlack
from tests.support.tools import eventually

USUAL_NS, WIDE_NS = 50_000, 10_000_000_000


NAMES = {"grpc_global_tim", "event_engine", "lifeguard"}


def slacks() -> dict[int, tuple[str, int]]:
    """Return the names and the timer slacks of this process's threads."""
    found: dict[int, tuple[str, int]] = {}
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has just ended
            slack_ns = int(Path(f"/proc/{task.name}/timerslack_ns").read_text())
            found[int(task.name)] = (task / "comm").read_text().strip(), slack_ns
    return found


@pytest.fixture
async def nobody() -> AsyncIterator[grpc.aio.Channel]:
    """Yield a channel to where nobody listens, in a process that has gRPC's threads."""
    if os.geteuid():
        pytest.skip("another thread's timer slack is root's to set")
    with tempfile.TemporaryDirectory() as directory:
        async with open_channel(Path(directory) / "s") as channel:
            channel.get_state(try_to_connect=True)
            await channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE)
            yield channel


async def test_only_grpc_threads_are_late_and_only_at_rest(nobody: grpc.aio.Channel) -> None:
    slack, narrowed = TimerSlack(), list[bool]()
    slack.prepare(lambda: narrowed.append(True))
    before = slacks()
    slack.widen()
    after = slacks()
    stayed = before.keys() & after.keys()  # gRPC makes threads, and ends them, as it likes
    named = {one for one in stayed if before[one][0] in NAMES and after[one][0] in NAMES}
    assert "event_engine" in {after[one][0] for one in named}
    assert {after[one][1] for one in named} == {WIDE_NS}
    assert {after[one][0] for one in stayed if after[one][1] == WIDE_NS} <= NAMES
    assert after[threading.get_native_id()][1] == USUAL_NS
    slack.narrow()
    now = slacks()
    assert {now[one][1] for one in stayed & now.keys()} == {USUAL_NS}
    assert narrowed == [True]
    slack.narrow()
    assert narrowed == [True]


def test_who_waits_begins_to_do_so_anew_when_timers_are_to_be_punctual() -> None:
    slack, ended, known = TimerSlack(), threading.Event(), threading.Event()
    slack.prepare(bool)

    def wait() -> None:
        set_name("lifeguard")
        known.set()
        ended.wait(3600)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        known.wait()
        status = Path(f"/proc/{thread.native_id}/status")
        eventually(lambda: "S (sleeping)" in status.read_text(), "it waits")
        slack.widen()
        before = waits(status)
        slack.narrow()
        eventually(lambda: waits(status) > before, "it waits again")
    finally:
        ended.set()
        thread.join()


def waits(status: Path) -> int:
    """Return how often a thread has gone to sleep so far."""
    return int(status.read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
