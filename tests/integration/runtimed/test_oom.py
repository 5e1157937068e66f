"""Kills for want of memory, by the real kernel: told while the container runs, once each, over restarts of runtimed."""

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from runtimed.cgroups.oom import OomNotices
from runtimed.host.facts import cgroup_trees
from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.api.runtime.v1 import events_pb2, spec_pb2
from sampan.sys.inotify import FileWatches
from tests.integration.runtimed.runtimed_process import Runtimed, mounts_below, running
from tests.support.tools import eventually, open_files, settled

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.asyncio(loop_scope="module"),
]

SCARCE = spec_pb2.Resources(memory_bytes=16 << 20, memory_swap_bytes=16 << 20)
HUNGRY = "tail -c 100000000 /dev/zero"
# Eats for each line in its FIFO and says how that ended. Between lines it must not ask for memory: on a busy machine
# what was killed gives back its own late, and who asks meanwhile has the kernel kill the next, which is this process.
ON_DEMAND = f"mkfifo /orders; exec 3<>/orders; while read -r order <&3; do {HUNGRY}; echo $? >> /eaten; done"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtimed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtimed]:
    directory = tmp_path_factory.mktemp("r")
    async with running(directory) as (process, _):
        yield process
    assert mounts_below(directory) == []


def request(container_id: str) -> events_pb2.SubscribeRequest:
    chosen = {"container": pb.FilterValues(values=[container_id]), "event": pb.FilterValues(values=["oom", "die"])}
    asked = events_pb2.SubscribeRequest(filters=chosen)
    asked.since.FromNanoseconds(1)
    return asked


async def told(runtimed: Runtimed, container_id: str) -> list[str]:
    """Return what was told of it until now."""
    asked = request(container_id)
    asked.until.GetCurrentTime()
    return [event.action async for event in runtimed.events.Subscribe(asked) if event.type]


async def told_at_last(runtimed: Runtimed, container_id: str, count: int) -> list[str]:
    """Return the first ``count`` events, as they come."""
    actions: list[str] = []
    async with asyncio.timeout(60):
        stream = runtimed.events.Subscribe(request(container_id))
        async for event in stream:
            actions += [event.action] if event.type else []
            if len(actions) == count:
                stream.cancel()
                break
    return actions


def ordered(orders: Path) -> bool:
    """Write a line to the FIFO; false if nobody reads from it yet."""
    try:
        fifo = os.open(orders, os.O_WRONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    try:
        return os.write(fifo, b"eat\n") > 0
    finally:
        os.close(fifo)


async def eat(runtimed: Runtimed, container_id: str, times: int) -> None:
    """Have a child of the container's first process killed; return when that has seen it."""
    root = Path(runtimed.run_root, "runtimed/bundles", container_id, "rootfs")
    await asyncio.to_thread(eventually, lambda: ordered(root / "orders"), "it reads its orders")
    async with asyncio.timeout(60):
        while not ((root / "eaten").exists() and (root / "eaten").read_text().split() == ["137"] * times):  # noqa: ASYNC110 - no event of ours
            await asyncio.sleep(0.05)


def eventfds(runtimed: Runtimed) -> int:
    assert runtimed.process is not None
    held = open_files(runtimed.process.pid)
    return held.count("anon_inode:[eventfd]") + held.count("anon_inode:inotify")


async def kills(runtimed: Runtimed, container_id: str) -> list[str]:
    """Return what is to be told: what the kernel has counted, which may be more than the greedy processes."""
    notices = OomNotices(cgroup_trees(), FileWatches())
    return ["oom"] * notices.kills((await runtimed.get(container_id)).cgroup_path)


async def test_a_child_and_an_exec_that_are_killed_are_told_while_the_container_runs(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sh", "-c", ON_DEMAND, resources=SCARCE)
    await eat(runtimed, container_id, 1)
    first = await kills(runtimed, container_id)
    assert first
    assert await told_at_last(runtimed, container_id, len(first)) == first
    code, _ = await runtimed.exec(container_id, "sh", "-c", f"{HUNGRY}; exit $?")
    assert code == 137
    second = await kills(runtimed, container_id)
    assert len(second) > len(first)
    assert await told_at_last(runtimed, container_id, len(second)) == second
    assert not (await runtimed.get(container_id)).state.oom_killed
    await runtimed.containers.Kill(pb.KillContainerRequest(container=container_id))
    assert (await runtimed.get(container_id)).state.oom_killed
    assert await told(runtimed, container_id) == [*second, "die"]
    await runtimed.containers.Update(
        pb.UpdateContainerRequest(
            container=container_id, resources=spec_pb2.Resources(memory_bytes=1 << 30, memory_swap_bytes=1 << 30)
        )
    )
    await runtimed.start_container(container_id)
    await runtimed.containers.Kill(pb.KillContainerRequest(container=container_id))
    assert not (await runtimed.get(container_id)).state.oom_killed
    await runtimed.remove(container_id)


async def test_a_first_process_that_is_killed_is_told_before_its_end(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sh", "-c", f"exec {HUNGRY}", resources=SCARCE)
    assert await runtimed.wait(container_id) == 137
    *before, last = await told(runtimed, container_id)
    assert (set(before), last) == ({"oom"}, "die")
    await runtimed.remove(container_id)


async def test_what_was_killed_while_no_runtimed_ran_is_told_once(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sh", "-c", ON_DEMAND, resources=SCARCE)
    await eat(runtimed, container_id, 1)
    first = await kills(runtimed, container_id)
    assert await told_at_last(runtimed, container_id, len(first)) == first
    await runtimed.stop()  # not by SIGKILL, which may come before the first is in the journal
    await eat(runtimed, container_id, 2)
    await eat(runtimed, container_id, 3)
    await runtimed.start()
    second = await kills(runtimed, container_id)
    assert len(second) >= len(first) + 2
    assert await told(runtimed, container_id) == second
    await runtimed.restart(signal.SIGTERM)
    assert await told(runtimed, container_id) == second
    await eat(runtimed, container_id, 4)
    third = await kills(runtimed, container_id)
    assert len(third) > len(second)
    assert await told_at_last(runtimed, container_id, len(third)) == third
    await runtimed.remove(container_id)


async def test_a_container_at_rest_costs_one_descriptor_until_it_ends(runtimed: Runtimed) -> None:
    await asyncio.to_thread(settled, lambda: eventfds(runtimed))  # those of the tests before are closed
    before = eventfds(runtimed)
    ids = [await runtimed.begin("sleep", "1000") for _ in range(3)]
    assert eventfds(runtimed) <= before + 3
    for container_id in ids:
        await runtimed.remove(container_id)
    await asyncio.to_thread(eventually, lambda: eventfds(runtimed) == before, "all of them are closed")
    assert await told(runtimed, ids[0]) == ["die"]  # the end of its cgroup is no kill
