import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine
from functools import partial

import pytest

from crid.streaming import remotecommand
from crid.streaming.remotecommand import OpenSession, over_spdy, over_websocket, parse_sizes
from crid.streaming.requests import ExecRequest, StandardStreams
from crid.streaming.websocket import WebSocket
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ConsoleSize
from tests.fakes.streaming import FakeProcesses, MemoryPipe, SpdyClient, WebSocketClient
from tests.unit.crid.streaming.test_spdy_frames import RECORDED

ALL = StandardStreams(stdin=True, stdout=True, stderr=True)
OUTPUT = StandardStreams(stdout=True, stderr=True)
TERMINAL = StandardStreams(stdin=True, stdout=True, tty=True)

SUCCESS = {"metadata": {}, "status": "Success"}


def failed_with(code: int) -> object:
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


@contextlib.asynccontextmanager
async def serving(work: Coroutine[None, None, None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(work)
    try:
        yield task
        async with asyncio.timeout(60):
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def session(processes: FakeProcesses, *command: str) -> OpenSession:
    return partial(processes.exec, ExecRequest("c", command, ALL))


def spdy(
    protocol: str, wanted: StandardStreams, processes: FakeProcesses, *command: str
) -> tuple[SpdyClient, Coroutine[None, None, None]]:
    server, client = MemoryPipe.pair()
    return SpdyClient(client), over_spdy(server, protocol, wanted, session(processes, *command))


async def test_output_status_and_exit_code_reach_a_client_of_spdy() -> None:
    client, work = spdy("v4.channel.k8s.io", OUTPUT, FakeProcesses(), "echo", "3")
    async with serving(work):
        error, out, err = (client.open(streamtype=name) for name in ("error", "stdout", "stderr"))
        await client.until(error, out, err)
        assert client.received[out] == b"output"
        assert client.received[err] == b"err"
        assert json.loads(client.received[error]) == failed_with(3)
        await client.until_gone_away()
        client.pipe.leave()


async def test_input_ends_where_the_client_ends_it() -> None:
    client, work = spdy("v4.channel.k8s.io", ALL, FakeProcesses(), "echo", "0")
    async with serving(work):
        error, inp, out, _ = (client.open(streamtype=name) for name in ("error", "stdin", "stdout", "stderr"))
        client.send(inp, b"abc")
        client.send(inp, b"", fin=True)
        await client.until(error, out)
        assert client.received[out] == b"output<abc>"
        assert json.loads(client.received[error]) == SUCCESS
        client.pipe.leave()


async def test_recorded_session_of_a_real_client_is_served() -> None:
    processes = FakeProcesses()
    server, pipe = MemoryPipe.pair()
    client = SpdyClient(pipe)
    client.received = {stream: bytearray() for stream in (1, 3, 5, 7)}
    pipe.write(RECORDED[:-48])  # without the ends of the streams, which follow the status
    async with serving(over_spdy(server, "v5.channel.k8s.io", TERMINAL, session(processes, "echo", "5"))):
        await client.until(1, 5)
        assert client.received[5] == b"output<exit\n>"
        assert json.loads(client.received[1]) == failed_with(5)
        assert processes.sizes == [ConsoleSize(24, 80), ConsoleSize(30, 100)]
        pipe.write(RECORDED[-48:])
        pipe.leave()


async def test_older_protocols_tell_errors_as_text_and_success_by_silence() -> None:
    for command, expected in (
        (("echo", "0"), b""),
        (("echo", "2"), b"command terminated with non-zero exit code: exit status 2"),
        (("fail",), b"Internal error occurred: error executing command in container: no such file or directory"),
    ):
        client, work = spdy("v2.channel.k8s.io", OUTPUT, FakeProcesses(), *command)
        async with serving(work):
            error, out, err = (client.open(streamtype=name) for name in ("error", "stdout", "stderr"))
            await client.until(error, out, err)
            assert client.received[error] == expected
            client.pipe.leave()


async def test_process_that_cannot_be_started_is_an_internal_error_with_its_reason() -> None:
    client, work = spdy("v4.channel.k8s.io", OUTPUT, FakeProcesses(), "fail")
    async with serving(work):
        error, *_ = (client.open(streamtype=name) for name in ("error", "stdout", "stderr"))
        await client.until(error)
        status = json.loads(client.received[error])
        assert (status["reason"], status["code"]) == ("InternalError", 500)
        assert status["message"].endswith("error executing command in container: no such file or directory")
        client.pipe.leave()


async def test_streams_that_were_not_asked_for_are_refused() -> None:
    client, work = spdy("v4.channel.k8s.io", OUTPUT, FakeProcesses(), "echo", "0")
    async with serving(work):
        stdin, twice, junk = (client.open(streamtype=name) for name in ("stdin", "stdout", "junk"))
        again = client.open(streamtype="stdout")
        error, err = client.open(streamtype="error"), client.open(streamtype="stderr")
        await client.until(error, err, twice)
        assert client.reset == {stdin: 3, junk: 3, again: 3}
        client.pipe.leave()


async def test_client_that_opens_too_few_streams_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotecommand, "_OPENING_S", 0.05)
    client, work = spdy("v4.channel.k8s.io", OUTPUT, FakeProcesses(), "echo", "0")
    client.open(streamtype="error")
    with pytest.raises(InvalidArgumentError, match="did not open its streams"):
        await work


async def test_session_is_left_when_the_client_leaves() -> None:
    processes = FakeProcesses()
    client, work = spdy("v4.channel.k8s.io", OUTPUT, processes, "hang")
    async with serving(work):
        for name in ("error", "stdout", "stderr"):
            client.open(streamtype=name)
        await asyncio.sleep(0)
        while len(client.replied) < 3:
            await client.read()
        client.pipe.leave()
    assert processes.left.is_set()


async def test_pings_are_answered_while_a_process_runs() -> None:
    client, work = spdy("v4.channel.k8s.io", OUTPUT, FakeProcesses(), "hang")
    async with serving(work):
        client.pipe.write(bytes.fromhex("80030006 00000004 00000009 80030006 00000004 00000002".replace(" ", "")))
        async with asyncio.timeout(60):
            while not client.pings:
                await client.read()
        assert client.pings == [9]  # the even one would be an answer, to nothing
        client.pipe.leave()


def websocket(
    protocol: str, wanted: StandardStreams, processes: FakeProcesses, *command: str
) -> tuple[WebSocketClient, Coroutine[None, None, None]]:
    server, client = MemoryPipe.pair()
    work = over_websocket(WebSocket(server), protocol, wanted, session(processes, *command))
    return WebSocketClient(client), work


async def test_output_status_and_exit_code_reach_a_client_of_websocket() -> None:
    client, work = websocket("v5.channel.k8s.io", OUTPUT, FakeProcesses(), "echo", "4")
    async with serving(work):
        assert await client.read() == (2, b"\x01")  # the sign that it is connected
        received, code = await client.channels()
        assert (received[1], received[2], code) == (b"output", b"err", 1000)
        assert json.loads(received[3]) == failed_with(4)
        client.pipe.leave()


async def test_client_of_websocket_ends_its_input_and_sets_sizes() -> None:
    processes = FakeProcesses()
    client, work = websocket("v5.channel.k8s.io", TERMINAL, processes, "echo", "0")
    async with serving(work):
        client.send(b'\x04{"Width":80,"Height":24}')
        client.send(b"\x00abc")
        client.send(b"\xff\x00")
        client.send(b"\x00dropped: that channel has ended")
        received, _ = await client.channels()
        assert received[1] == b"output<abc>"
        assert processes.sizes == [ConsoleSize(24, 80)]
        client.pipe.leave()


async def test_base64_channels_carry_text() -> None:
    client, work = websocket("v4.base64.channel.k8s.io", OUTPUT, FakeProcesses(), "echo", "0")
    async with serving(work):
        assert await client.read() == (1, b"1")
        received, _ = await client.channels()
        assert (
            b"".join(base64.b64decode(part) for part in (received[ord("1")][:4], received[ord("1")][4:])) == b"output"
        )
        assert json.loads(base64.b64decode(received[ord("3")])) == SUCCESS
        client.pipe.leave()


async def test_flood_is_held_back_by_nobody_but_the_connection() -> None:
    client, work = websocket("v4.channel.k8s.io", OUTPUT, FakeProcesses(), "flood", "40")
    async with serving(work):
        received, _ = await client.channels()
        assert len(received[1]) == 40 << 16
        client.pipe.leave()


@pytest.mark.parametrize("message", [b"\xff\x09", b"\xff", b"\xff\x00\x00"])
async def test_end_of_a_channel_that_there_is_not_breaks_the_connection(message: bytes) -> None:
    client, work = websocket("v5.channel.k8s.io", ALL, FakeProcesses(), "hang")
    client.send(message)
    with pytest.raises(InvalidArgumentError, match="end of a channel"):
        await work


async def chunks(*texts: bytes) -> AsyncIterator[bytes]:
    for text in texts:
        yield text


async def test_sizes_are_read_however_they_are_cut() -> None:
    cut = chunks(b'{"Width":8', b'0,"Height":24}\n{"Width":1,', b'"Height":2}{"Height":3,"Width":4}\n')
    assert [size async for size in parse_sizes(cut)] == [ConsoleSize(24, 80), ConsoleSize(2, 1), ConsoleSize(3, 4)]


@pytest.mark.parametrize(
    "text", [b"[1]", b'{"Width":1}', b'{"Width":70000,"Height":1}', b'{"Width":"1","Height":1}', b"x" * 5000]
)
async def test_what_is_no_size_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="size of a terminal"):
        _ = [size async for size in parse_sizes(chunks(text))]
