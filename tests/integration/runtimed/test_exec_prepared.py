"""Execs are prepared when they are made: what becomes of that when the start does not come, or not as expected."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from sampan.api.runtime.v1 import containers_pb2, execs_pb2
from sampan.errors import InvalidArgumentError, StartError
from sampan.wire.channel import rpc_errors
from tests.integration.runtimed.runtimed_process import Output, Runtimed, mounts_below, running

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.asyncio(loop_scope="module"),
]

Start = execs_pb2.StartExecRequest.Start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtimed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtimed]:
    directory = tmp_path_factory.mktemp("r")
    async with running(directory) as (runtimed, _):
        yield runtimed
    assert mounts_below(directory) == []


async def create(runtimed: Runtimed, container_id: str, *args: str, **fields: object) -> str:
    spec = execs_pb2.ExecSpec(
        container=container_id,
        args=args,
        attach_stdout=True,
        attach_stderr=True,
        **fields,  # type: ignore[arg-type]
    )
    with rpc_errors():
        return (await runtimed.execs.Create(execs_pb2.CreateExecRequest(spec=spec))).id


async def start(runtimed: Runtimed, start: Start) -> Output:
    async def requests() -> AsyncIterator[execs_pb2.StartExecRequest]:
        yield execs_pb2.StartExecRequest(start=start)

    output = Output()
    with rpc_errors():
        async for message in runtimed.execs.Start(requests()):
            output.add(message)
    return output


def bundle(runtimed: Runtimed, exec_id: str) -> Path:
    return runtimed.run_root / "runtimed/execs" / exec_id


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def prepared(runtimed: Runtimed, container_id: str, *args: str, **fields: object) -> tuple[str, int]:
    """Create an exec and return it with the pid of its conmon, once the runtime waits for its document."""
    async with asyncio.timeout(60):
        while True:
            exec_id = await create(runtimed, container_id, *args, **fields)
            place, began = bundle(runtimed, exec_id), False
            while place.exists() or not began:  # it is held for a moment, in which a busy machine may not look
                began = began or place.exists()
                conmon = waiting_in(place)
                if conmon:
                    return exec_id, conmon
                await asyncio.sleep(0.02)


def waiting_in(place: Path) -> int:
    """Return the pid of the conmon of a bundle, 0 while it has no runtime that waits."""
    with contextlib.suppress(FileNotFoundError, ValueError):  # it is written, or taken away
        conmon = int((place / "conmon.pid").read_text())
        return conmon if children(conmon) else 0
    return 0


def children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_what_was_prepared_is_used(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    exec_id, conmon = await prepared(runtimed, container_id, "cat", "/proc/self/stat")
    output = await start(runtimed, Start(id=exec_id))
    assert len(output.stdout.split()) > 40
    await until(lambda: not alive(conmon))
    await until(lambda: not bundle(runtimed, exec_id).exists())
    await runtimed.remove(container_id)


async def test_a_start_that_does_not_come_leaves_nothing_and_can_still_come(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    exec_id, conmon = await prepared(runtimed, container_id, "echo", "late")
    await until(lambda: not alive(conmon))
    await until(lambda: not bundle(runtimed, exec_id).exists())
    await until(lambda: not any(runtimed.run_root.joinpath("runtimed/attach").glob(f"{exec_id[:16]}*")))
    with rpc_errors():
        assert not (await runtimed.execs.Get(execs_pb2.GetExecRequest(id=exec_id))).HasField("exit_code")
    assert (await start(runtimed, Start(id=exec_id))).stdout == b"late\n"
    await runtimed.remove(container_id)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_nothing_runs_that_was_not_started(runtimed: Runtimed, number: int) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    exec_id, conmon = await prepared(runtimed, container_id, "touch", "/ran")
    waiting = [conmon, *map(int, children(conmon))]
    await runtimed.restart(number)
    await until(lambda: not any(map(alive, waiting)))
    await until(lambda: not bundle(runtimed, exec_id).exists())
    assert (await runtimed.exec(container_id, "test", "-e", "/ran"))[0] == 1
    await start(runtimed, Start(id=exec_id))
    assert (await runtimed.exec(container_id, "test", "-e", "/ran"))[0] == 0
    await runtimed.remove(container_id)


async def test_a_start_that_asks_for_something_else_gets_it(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    exec_id, conmon = await prepared(runtimed, container_id, "touch", "/detached")
    await start(runtimed, Start(id=exec_id, detach=True))
    await until(lambda: not alive(conmon))

    async def there() -> bool:
        return (await runtimed.exec(container_id, "test", "-e", "/detached"))[0] == 0

    async with asyncio.timeout(60):
        while not await there():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await runtimed.remove(container_id)


async def test_what_was_prepared_for_another_run_of_the_container_is_not_used(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    exec_id, conmon = await prepared(runtimed, container_id, "sh", "-c", "echo $PPID; cat /proc/1/cmdline")
    with rpc_errors():
        await runtimed.containers.Stop(containers_pb2.StopContainerRequest(container=container_id, timeout_s=0))
    await runtimed.start_container(container_id)
    assert b"sleep" in (await start(runtimed, Start(id=exec_id))).stdout
    await until(lambda: not alive(conmon))
    await runtimed.remove(container_id)


async def test_a_document_larger_than_a_pipe_arrives_whole(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    long = [f"V{number}={number:0100000d}" for number in range(5)]
    exec_id = await create(runtimed, container_id, "env", env=long)
    lines = (await start(runtimed, Start(id=exec_id))).stdout.decode().splitlines()
    assert set(long) <= set(lines)
    await runtimed.remove(container_id)


async def test_what_cannot_be_prepared_is_said_by_the_start(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    make = "mkdir -p /etc; echo somebody:x:7:7::/: > /etc/passwd"
    assert (await runtimed.exec(container_id, "sh", "-c", make))[0] == 0
    exec_id, conmon = await prepared(runtimed, container_id, "true", user="somebody")
    await until(lambda: not alive(conmon))
    await until(lambda: not bundle(runtimed, exec_id).exists())
    assert (await runtimed.exec(container_id, "rm", "/etc/passwd"))[0] == 0
    with pytest.raises(StartError, match="somebody"):
        await start(runtimed, Start(id=exec_id))
    with rpc_errors():
        assert (await runtimed.execs.Get(execs_pb2.GetExecRequest(id=exec_id))).exit_code == 126
    await runtimed.remove(container_id)


async def test_a_user_whom_the_container_does_not_know_is_refused_at_once_and_leaves_nothing(
    runtimed: Runtimed,
) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    execs = runtimed.run_root / "runtimed/execs"
    before = {path.name for path in execs.iterdir()}  # of those that were, which are on their way out
    with pytest.raises(InvalidArgumentError, match="unable to find user nobody-here"):
        await create(runtimed, container_id, "true", user="nobody-here")
    assert {path.name for path in execs.iterdir()} <= before
    await runtimed.remove(container_id)


async def test_a_container_that_goes_takes_what_was_prepared_with_it(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    exec_id, conmon = await prepared(runtimed, container_id, "true")
    await runtimed.remove(container_id)
    await until(lambda: not alive(conmon))
    await until(lambda: not bundle(runtimed, exec_id).exists())


async def test_a_detached_start_in_the_middle_of_the_preparation_keeps_its_exit_code(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")

    async def ended(number: int) -> int:
        exec_id = await create(runtimed, container_id, "sh", "-c", f"sleep 0.1; exit {number}")
        await start(runtimed, Start(id=exec_id, detach=True))
        found = execs_pb2.Exec()
        async with asyncio.timeout(60):
            while not found.HasField("exit_code"):
                with rpc_errors():
                    found = await runtimed.execs.Get(execs_pb2.GetExecRequest(id=exec_id))
                await asyncio.sleep(0.02)
        return found.exit_code

    assert [await ended(number) for number in range(1, 61)] == list(range(1, 61))
    await runtimed.remove(container_id)
