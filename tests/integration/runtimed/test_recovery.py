"""runtimed is killed at any moment and started again: containers go on, and nothing is lost or left over."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.api.runtime.v1 import execs_pb2, spec_pb2
from sampan.errors import NotFoundError
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import whole
from tests.fakes.snapshotter import FakeSnapshotter
from tests.integration.runtimed.runtimed_process import Runtimed, mounts_below, processes_of, running
from tests.support.tools import eventually, long_time, sleeping, unmount

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.asyncio(loop_scope="module"),
]

STATE = pb.ContainerState


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Runtimed, FakeSnapshotter]]:
    directory = tmp_path_factory.mktemp("r")
    async with running(directory) as pair:
        yield pair
    assert mounts_below(directory) == []
    assert pair[1].active == {}


@pytest.fixture
def runtimed(engine: tuple[Runtimed, FakeSnapshotter]) -> Runtimed:
    return engine[0]


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    await asyncio.to_thread(eventually, holds, "what was waited for")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_running_container_is_taken_over_with_everything(runtimed: Runtimed, number: int) -> None:
    container_id = await runtimed.begin("sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done")
    pid = (await runtimed.get(container_id)).state.pid
    await runtimed.restart(number)
    container = await runtimed.get(container_id)
    assert (container.state.status, container.state.pid) == (STATE.RUNNING, pid)
    stream = runtimed.attach(container_id)
    assert (await anext(stream)).attached
    assert (await anext(stream)).frames[0].data.startswith(b"line")
    await stream.aclose()  # type: ignore[attr-defined]
    assert (await runtimed.exec(container_id, "echo", "inside"))[1].stdout == b"inside\n"
    lines = [line for _, line in await runtimed.logs(container_id)]
    assert lines == [b"line %d\n" % (n + 1) for n in range(len(lines))]  # none lost while nobody listened
    waiting = asyncio.create_task(runtimed.wait(container_id))
    await asyncio.sleep(0.1)
    with rpc_errors():
        await runtimed.containers.Stop(pb.StopContainerRequest(container=container_id, timeout_s=0))
    assert await waiting == 137
    await runtimed.remove(container_id)


async def test_an_exit_that_nobody_saw_is_found_with_its_code_and_time(runtimed: Runtimed) -> None:
    seconds = long_time()
    script = f"sleep {seconds}; exit 7"
    container_id = await runtimed.begin("sh", "-c", script)
    gone = await runtimed.begin("sh", "-c", script, auto_remove=True)
    await until(lambda: len(sleeping(seconds)) == 2)
    await runtimed.stop(signal.SIGKILL)
    for pid in sleeping(seconds):
        os.kill(pid, signal.SIGTERM)
    exits = runtimed.run_root / "runtimed/exits"
    await until(lambda: all((exits / each).exists() for each in (container_id, gone)))
    started_ns = time.time_ns()
    await runtimed.start()
    assert await runtimed.wait(container_id) == 7
    state = (await runtimed.get(container_id)).state
    assert (state.status, state.exit_code) == (STATE.EXITED, 7)
    assert state.finished_at.ToNanoseconds() < started_ns
    with contextlib.suppress(NotFoundError):
        await runtimed.until(gone, lambda _: False)
    await runtimed.remove(container_id)


async def test_a_container_whose_conmon_was_killed_too_has_ended_with_255(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    conmon = int((runtimed.run_root / "runtimed/bundles" / container_id / "conmon.pid").read_text())
    await runtimed.stop(signal.SIGKILL)
    os.kill(conmon, signal.SIGKILL)
    await runtimed.start()
    assert await runtimed.wait(container_id) == 255
    await until(lambda: processes_of(container_id) == [])
    await runtimed.start_container(container_id)  # and it can run again
    await runtimed.remove(container_id)


async def test_a_restart_policy_holds_for_what_died_meanwhile(runtimed: Runtimed) -> None:
    policy = spec_pb2.RestartPolicy(name="unless-stopped")
    container_id = await runtimed.begin("sh", "-c", "sleep 0.3; exit 1", restart_policy=policy)
    stopped = await runtimed.begin("sleep", "1000", restart_policy=policy)
    with rpc_errors():
        await runtimed.containers.Stop(pb.StopContainerRequest(container=stopped, timeout_s=0))
    await runtimed.stop(signal.SIGKILL)
    await asyncio.sleep(1)
    await runtimed.start()
    assert (await runtimed.until(container_id, lambda c: c.restart_count > 0)).restart_count > 0
    assert (await runtimed.get(stopped)).state.status == STATE.EXITED
    for container in (container_id, stopped):
        await runtimed.remove(container)


async def test_an_exec_goes_on_and_its_exit_code_is_known_afterwards(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    codes = {}
    seconds = {3: long_time(), 4: long_time()}  # ends while runtimed is away; ends afterwards
    for code in seconds:
        spec = execs_pb2.ExecSpec(
            container=container_id, args=["sh", "-c", f"sleep {seconds[code]}; touch /done{code}; exit {code}"]
        )
        with rpc_errors():
            made = await runtimed.execs.Create(execs_pb2.CreateExecRequest(spec=spec))
            start = execs_pb2.StartExecRequest(start=execs_pb2.StartExecRequest.Start(id=made.id, detach=True))

            async def once(message: execs_pb2.StartExecRequest = start) -> AsyncIterator[execs_pb2.StartExecRequest]:
                yield message

            async for _ in runtimed.execs.Start(once()):
                pass
        codes[made.id] = code
    await until(lambda: all(sleeping(each) for each in seconds.values()))
    await runtimed.stop(signal.SIGKILL)
    os.kill(sleeping(seconds[3])[0], signal.SIGTERM)
    await until(lambda: not sleeping(seconds[3]))
    await runtimed.start()
    os.kill(sleeping(seconds[4])[0], signal.SIGTERM)
    for exec_id, code in codes.items():
        found = execs_pb2.Exec()
        async with asyncio.timeout(60):
            while not found.HasField("exit_code"):
                with rpc_errors():
                    found = await runtimed.execs.Get(execs_pb2.GetExecRequest(id=exec_id))
                await asyncio.sleep(0.05)
        assert found.exit_code == code
        assert (await runtimed.exec(container_id, "ls", f"/done{code}"))[0] == 0
    await runtimed.remove(container_id)


async def test_an_exec_that_goes_on_keeps_its_pid(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    spec = execs_pb2.ExecSpec(container=container_id, args=["sleep", "1000"])
    with rpc_errors():
        made = await runtimed.execs.Create(execs_pb2.CreateExecRequest(spec=spec))

        async def requests() -> AsyncIterator[execs_pb2.StartExecRequest]:
            yield execs_pb2.StartExecRequest(start=execs_pb2.StartExecRequest.Start(id=made.id, detach=True))

        async for _ in runtimed.execs.Start(requests()):
            pass
        before = await runtimed.execs.Get(execs_pb2.GetExecRequest(id=made.id))
        await runtimed.restart(signal.SIGKILL)
        after = await runtimed.execs.Get(execs_pb2.GetExecRequest(id=made.id))
    assert (after.running, after.pid) == (True, before.pid)
    assert after.pid > 0
    await runtimed.remove(container_id)


async def test_an_attached_client_learns_that_the_service_is_gone_and_can_come_back(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sh", "-c", "while :; do echo x; sleep 0.05; done")
    stream = runtimed.attach(container_id)
    await anext(stream)
    await anext(stream)
    assert runtimed.process is not None
    runtimed.process.kill()
    with pytest.raises(Exception, match=r"."):  # whichever message notices
        async for _ in stream:
            pass
    await runtimed.restart()
    again = runtimed.attach(container_id)
    assert (await anext(again)).attached
    assert (await anext(again)).frames
    await again.aclose()  # type: ignore[attr-defined]
    await runtimed.remove(container_id)


@pytest.mark.parametrize("delay_s", [0.0, 0.004, 0.01, 0.02, 0.035, 0.05, 0.08])
async def test_killed_in_the_middle_of_create_and_start_nothing_is_half_done(
    engine: tuple[Runtimed, FakeSnapshotter], delay_s: float
) -> None:
    runtimed, snapshotter = engine

    async def work() -> None:
        await runtimed.begin("sleep", "1000", name="halfway")

    task = asyncio.create_task(work())
    await asyncio.sleep(delay_s)
    assert runtimed.process is not None
    runtimed.process.kill()
    await asyncio.gather(task, return_exceptions=True)
    await runtimed.restart()
    listed = (await whole(runtimed.containers.List(pb.ListContainersRequest(all=True)))).containers
    assert {c.id for c in listed} == set(snapshotter.active) or len(listed) <= 1
    for container in listed:
        assert container.state.status in (STATE.CREATED, STATE.RUNNING)
        if container.state.status == STATE.CREATED:
            await until(lambda: processes_of(container.id) == [])  # noqa: B023  # before the next one
            await runtimed.start_container(container.id)
        assert (await runtimed.exec(container.id, "true"))[0] == 0
        await runtimed.remove(container.id)
    async with asyncio.timeout(60):
        while snapshotter.active:  # noqa: ASYNC110  # the fake tells nobody
            await asyncio.sleep(0.05)
    await until(lambda: mounts_below(runtimed.roots) == [])
    await until(lambda: list((runtimed.run_root / "runtimed/bundles").iterdir()) == [])


@pytest.mark.parametrize("delay_s", [0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15])
async def test_killed_in_the_middle_of_a_short_life_a_container_that_removes_itself_goes(
    engine: tuple[Runtimed, FakeSnapshotter], delay_s: float
) -> None:
    runtimed, _ = engine
    task = asyncio.create_task(runtimed.begin("true", auto_remove=True))
    await asyncio.sleep(delay_s)
    assert runtimed.process is not None
    runtimed.process.kill()
    await asyncio.gather(task, return_exceptions=True)
    await runtimed.restart()
    async with asyncio.timeout(60):
        while listed := (await whole(runtimed.containers.List(pb.ListContainersRequest(all=True)))).containers:
            (container,) = listed
            if container.state.status == STATE.CREATED and not container.state.error:  # nobody has started it yet
                await runtimed.remove(container.id)
            await asyncio.sleep(0.05)


async def test_killed_in_the_middle_of_a_removal_it_is_finished(
    engine: tuple[Runtimed, FakeSnapshotter],
) -> None:
    runtimed, snapshotter = engine
    container_id = await runtimed.begin("sleep", "1000")
    async with asyncio.timeout(60):
        with snapshotter.holding_removals():
            task = asyncio.create_task(runtimed.remove(container_id))
            await snapshotter.removing.wait()
            assert runtimed.process is not None
            runtimed.process.kill()
            await asyncio.gather(task, return_exceptions=True)
        await runtimed.restart()
        while left := (await whole(runtimed.containers.List(pb.ListContainersRequest(all=True)))).containers:
            assert [each.id for each in left] == [container_id]
            await asyncio.sleep(0.05)
    assert snapshotter.active == {}


async def test_strays_without_a_record_are_removed(engine: tuple[Runtimed, FakeSnapshotter]) -> None:
    runtimed, _ = engine
    await runtimed.stop(signal.SIGKILL)
    stray = "f" * 64
    bundle = runtimed.run_root / "runtimed/bundles" / stray
    (bundle / "rootfs").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "stray", bundle / "rootfs"], check=True)
    (runtimed.roots / "data/runtimed/containers" / stray).mkdir()
    await runtimed.start()
    assert not bundle.exists()
    assert not (runtimed.roots / "data/runtimed/containers" / stray).exists()


async def test_after_a_reboot_containers_have_ended_and_can_be_started(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sh", "-c", "echo before; sleep 1000")
    pid = (await runtimed.get(container_id)).state.pid
    conmon = int((runtimed.run_root / "runtimed/bundles" / container_id / "conmon.pid").read_text())
    await runtimed.stop(signal.SIGKILL)
    for process in (conmon, pid):  # a reboot ends every process, every mount, and the run root
        os.kill(process, signal.SIGKILL)
    await until(lambda: not Path(f"/proc/{pid}").exists() and not Path(f"/proc/{conmon}").exists())
    for point in mounts_below(runtimed.run_root):
        await asyncio.to_thread(unmount, point)
    shutil.rmtree(runtimed.run_root / "runtimed")
    await runtimed.start()
    state = (await runtimed.get(container_id)).state
    assert (state.status, state.exit_code) == (STATE.EXITED, 255)
    await runtimed.start_container(container_id)
    assert (await runtimed.get(container_id)).state.status == STATE.RUNNING
    await runtimed.remove(container_id)


async def test_a_second_runtimed_on_the_same_root_is_refused(runtimed: Runtimed) -> None:
    arguments = ["--data-root", str(runtimed.roots / "data"), "--run-root", str(runtimed.roots / "run")]
    second = subprocess.run([sys.executable, "-m", "runtimed", *arguments], capture_output=True, timeout=60)
    assert second.returncode != 0
