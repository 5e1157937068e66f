"""A process sees the size of its terminal from its first instruction, whichever runtime starts it."""

import asyncio
import os
import pty
import select
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from runtimed.conmon import terminals
from sampan.api.runtime.v1 import containers_pb2, execs_pb2, spec_pb2
from sampan.resource.container_spec import ConsoleSize
from sampan.wire.channel import rpc_errors
from tests.integration.runtimed.runtimed_process import Output, Runtimed, mounts_below, running
from tests.support.tools import need

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.asyncio(loop_scope="module"),
]

TRIES = 12


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtimed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtimed]:
    directory = tmp_path_factory.mktemp("r")
    async with running(directory) as (runtimed, _):
        yield runtimed
    assert mounts_below(directory) == []


@pytest.mark.parametrize(("named", "seen"), [(True, b"41 123\n"), (False, b"0 0\n")])
async def test_a_process_is_held_until_its_terminal_has_a_size(tmp_path: Path, named: bool, seen: bytes) -> None:
    need("unshare", "stty")
    ours, theirs = pty.openpty()
    # Nobody but the hold gives this terminal a size. Mounts of its own, so that nothing else here is held.
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "sh", "-c", "echo ready; read go; exec stty size", "exec"),
        *((str(tmp_path),) if named else ()),
        stdin=theirs,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        async with terminals.sized_before_it_runs(process.pid, tmp_path, ConsoleSize(41, 123)):
            os.write(ours, b"\n")
            assert await asyncio.wait_for(process.stdout.read(), 120) == seen
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
        os.close(theirs)


async def test_a_process_that_is_killed_while_it_is_held_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("unshare")
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "sh", "-c", "echo ready; read go; exec true", "exec", str(tmp_path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    faults: list[dict[str, object]] = []
    killed = asyncio.Event()

    def kill(pid: int, _: ConsoleSize) -> None:
        pidfd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        select.select([pidfd], [], [])  # until it has ended, whoever waits for it
        os.close(pidfd)
        killed.set()

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, fault: faults.append(fault))
    monkeypatch.setattr(terminals, "set_terminal_size", kill)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        async with terminals.sized_before_it_runs(process.pid, tmp_path, ConsoleSize(41, 123)):
            process.stdin.write(b"\n")
            await asyncio.wait_for(killed.wait(), 120)
        assert await process.wait() == -signal.SIGKILL
        assert faults == []
    finally:
        loop.set_exception_handler(None)
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("at", ["create", "start"])
async def test_an_exec_sees_its_size_at_once(runtimed: Runtimed, at: str) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    seen = [await stty(runtimed, container_id, at) for _ in range(TRIES)]
    await runtimed.remove(container_id)
    assert seen == [b"33 99\r\n"] * TRIES


async def stty(runtimed: Runtimed, container_id: str, at: str) -> bytes:
    size = spec_pb2.ConsoleSize(height=33, width=99)
    spec = execs_pb2.ExecSpec(container=container_id, args=["stty", "size"], tty=True, attach_stdout=True)
    begin = execs_pb2.StartExecRequest.Start()
    (spec if at == "create" else begin).console_size.CopyFrom(size)
    if at == "start":  # which has the last word
        spec.console_size.CopyFrom(spec_pb2.ConsoleSize(height=1, width=2))

    async def requests() -> AsyncIterator[execs_pb2.StartExecRequest]:
        yield execs_pb2.StartExecRequest(start=begin)

    output = Output()
    with rpc_errors():
        begin.id = (await runtimed.execs.Create(execs_pb2.CreateExecRequest(spec=spec))).id
        async for message in runtimed.execs.Start(requests()):
            output.add(message)
    return output.stdout


@pytest.mark.parametrize("by", ["spec", "resize"])
async def test_a_container_sees_its_size_at_once(runtimed: Runtimed, by: str) -> None:
    size = spec_pb2.ConsoleSize(height=33, width=99)
    for _ in range(TRIES // 2):
        first = size if by == "spec" else spec_pb2.ConsoleSize(height=1, width=2)
        container_id = await runtimed.create("stty", "size", process_tty=True, process_console_size=first)
        if by == "resize":
            with rpc_errors():
                await runtimed.containers.Resize(
                    containers_pb2.ResizeContainerRequest(container=container_id, size=size)
                )
        stream = runtimed.attach(container_id, [])
        assert (await anext(stream)).attached
        await runtimed.start_container(container_id)
        output = Output()
        async for message in stream:
            output.add(message)
        assert output.stdout == b"33 99\r\n"
        await runtimed.remove(container_id)
