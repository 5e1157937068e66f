"""Readings, the counters of interfaces, and ps."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtimed.cgroups.reader import CgroupReader
from runtimed.host.facts import CgroupTree
from runtimed.stats import sampling as stats_module
from runtimed.stats.observation import parse_ps, top
from runtimed.stats.sampling import Interface, Sample, Stats, parse_interfaces, stats_of, system_ns
from sampan.client.convert.stats import STATS
from sampan.errors import InvalidArgumentError
from sampan.resource.container import Container, ContainerState, Status
from sampan.resource.container_spec import ContainerSpec
from tests.unit.runtimed.bundle_values import HOST

NET_DEV = """\
Inter-|   Receive                                           |  Transmit
 face |bytes  packets errs drop fifo frame compressed multi |bytes  packets errs drop fifo colls carrier compressed
    lo:   100       1    0    0    0     0          0     0    100        1    0    0    0     0       0          0
  eth0:  1000      10    1    2    0     0          0     0   2000       20    3    4    0     0       0          0
"""

PS = """\
UID          PID    PPID  C STIME TTY          TIME CMD
root          10       1  0 03:42 ?        00:00:00 sleep 100  200
root         110       1  0 03:42 ?        00:00:00 sh -c a b
"""


def running(directory: Path) -> Container:
    (directory / "sampan/x").mkdir(parents=True)
    (directory / "sampan/x/memory.current").write_text("500\n")
    state = ContainerState(Status.RUNNING, pid=os.getpid())
    return Container("a" * 64, ContainerSpec(name="web"), datetime.now(UTC), state, cgroup_path="/sampan/x")


def reader(directory: Path) -> Stats:
    return Stats(CgroupReader((CgroupTree(directory, 2, frozenset()),)), HOST)


async def take(
    stats: Stats, container: Container | None, *, stream: bool, one_shot: bool, most: int = 2
) -> list[Sample]:
    samples: list[Sample] = []
    async for sample in stats.follow(lambda: container, asyncio.Event(), stream=stream, one_shot=one_shot):
        samples.append(sample)
        if len(samples) == most:
            break
    return samples


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats_module, "_INTERVAL_S", 0.01)


async def test_one_shot_is_one_sample_without_a_previous_one(tmp_path: Path) -> None:
    (sample,) = await take(reader(tmp_path), running(tmp_path), stream=False, one_shot=True)
    assert sample.previous is None
    assert sample.reading.usage.memory.usage_bytes == 500
    assert sample.reading.memory_limit_bytes == HOST.memory_bytes


async def test_without_a_stream_the_one_sample_has_a_previous_one(tmp_path: Path) -> None:
    (sample,) = await take(reader(tmp_path), running(tmp_path), stream=False, one_shot=False)
    assert sample.previous is not None
    assert sample.previous.time < sample.reading.time


async def test_a_stream_goes_on_until_the_container_is_gone(tmp_path: Path) -> None:
    first, second = await take(reader(tmp_path), running(tmp_path), stream=True, one_shot=False)
    assert first.previous is None
    assert second.previous == first.reading
    assert await take(reader(tmp_path), None, stream=True, one_shot=False) == []


async def test_a_container_that_does_not_run_is_all_zero_at_once(tmp_path: Path) -> None:
    stopped = Container("b" * 64, ContainerSpec(), datetime.now(UTC), cgroup_path="/sampan/y")
    (sample,) = await take(reader(tmp_path), stopped, stream=False, one_shot=False)
    assert sample.reading.usage.memory.usage_bytes == 0
    message = STATS.encode(stats_of(stopped, sample))
    assert message.memory.limit_bytes == 0


def test_system_time_counts_everything_but_guests_twice() -> None:
    assert system_ns("cpu  1 2 3 4 5 6 7 8 100 100\ncpu0 …") == 36 * 10_000_000


def test_interfaces_are_read_without_the_loopback() -> None:
    assert parse_interfaces(NET_DEV) == (Interface("eth0", 1000, 10, 1, 2, 2000, 20, 3, 4),)
    assert parse_interfaces("") == ()


def test_a_name_that_has_a_line_s_end_elsewhere_is_one_name() -> None:
    (interface,) = parse_interfaces(NET_DEV.replace("eth0", "e\u2028h0"))
    assert interface.name == "e\u2028h0"


def test_ps_keeps_the_containers_rows_and_the_last_column_whole() -> None:
    table = parse_ps(PS, (10,))
    assert table.titles[-1] == "CMD"
    assert table.rows == (("root", "10", "1", "0", "03:42", "?", "00:00:00", "sleep 100  200"),)


def test_ps_has_one_line_for_a_process_whatever_its_arguments_are() -> None:
    output = "PID CMD\n10 sleep \u2028 11 forged\r11 forged\x8511 forged\n11 own\n"
    assert parse_ps(output, (10, 11)).rows == (("10", "sleep \u2028 11 forged\r11 forged\x8511 forged"), ("11", "own"))


def test_ps_without_a_pid_column_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="Couldn't find PID field in ps output"):
        parse_ps("USER CMD\nroot x\n", (1,))


async def test_top_shows_a_real_process_and_refuses_renamed_columns() -> None:
    table = await top((os.getpid(),), "-o pid,comm", os.environ)
    assert table.rows == () or table.rows[0][0] == str(os.getpid())
    table = await top((os.getpid(),), "", os.environ)
    assert [row[1] for row in table.rows] == [str(os.getpid())]
    with pytest.raises(InvalidArgumentError, match='specifying "ppid=PID" is not allowed'):
        await top((1,), "-o ppid=PID", os.environ)
    with pytest.raises(InvalidArgumentError, match="ps: "):
        await top((1,), "--nosuch", os.environ)
