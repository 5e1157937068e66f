"""Hijacked connections, byte by byte."""

import asyncio
import json
import socket
from pathlib import Path

import pytest

from dockerapi.http import hijack
from tests.unit.dockerapi.support import Api, head_of, read_head, unframe


def attach_path(container: str, version: str = "/v1.50", *, stdin: bool = True) -> str:
    return f"{version}/containers/{container}/attach?stream=1&stdout=1&stderr=1" + ("&stdin=1" if stdin else "")


async def start(api: Api, container: str) -> None:
    assert (await api.post(f"/containers/{container}/start")).status == 204


async def test_upgrade_is_answered_with_101_and_docker_s_headers(api: Api) -> None:
    container = api.fake.runtime.create("cat")
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path(container)))
        status, headers = await read_head(reader)
    assert status == 101
    assert headers["connection"] == "Upgrade"
    assert headers["upgrade"] == "tcp"
    assert headers["content-type"] == "application/vnd.docker.multiplexed-stream"


async def test_without_upgrade_the_answer_is_200(api: Api) -> None:
    container = api.fake.runtime.create("echo", "hello")
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path(container), upgrade=False))
        status, headers = await read_head(reader)
        await start(api, container)
        assert (status, "upgrade" in headers) == (200, False)
        assert unframe(await reader.read()) == [(1, b"hello\n")]


@pytest.mark.parametrize(
    ("version", "tty", "expected"),
    [
        ("/v1.41", False, "raw-stream"),
        ("/v1.42", False, "multiplexed-stream"),
        ("", False, "multiplexed-stream"),
        ("/v1.50", True, "raw-stream"),
    ],
)
async def test_content_type_follows_version_and_terminal(api: Api, version: str, *, tty: bool, expected: str) -> None:
    container = api.fake.runtime.create("cat", tty=tty)
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path(container, version)))
        _, headers = await read_head(reader)
    assert headers["content-type"] == f"application/vnd.docker.{expected}"


async def test_input_that_comes_in_one_piece_with_the_request_is_not_lost(api: Api) -> None:
    container = api.fake.runtime.create("cat")
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path(container)) + b"early")
        await read_head(reader)
        await start(api, container)
        writer.write_eof()
        assert b"".join(data for _, data in unframe(await reader.read())) == b"early"


async def test_a_half_closed_client_still_gets_all_output(api: Api) -> None:
    container = api.fake.runtime.create("cat")
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path(container)))
        await read_head(reader)
        await start(api, container)
        writer.write(b"hi\n")
        writer.write_eof()
        assert unframe(await reader.read()) == [(1, b"hi\n")]


async def test_a_client_that_half_closes_together_with_its_request_still_gets_all_output(api: Api) -> None:
    container = api.fake.runtime.create("cat")
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path(container)) + b"all at once")
        writer.write_eof()
        status, _ = await read_head(reader)
        await start(api, container)
        assert status == 101
        assert b"".join(data for _, data in unframe(await reader.read())) == b"all at once"


async def test_standard_error_has_its_own_frames(api: Api) -> None:
    container = api.fake.runtime.create("err", "oops")
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path(container, stdin=False)))
        await read_head(reader)
        await start(api, container)
        assert unframe(await reader.read()) == [(2, b"oops\n")]


async def test_a_terminal_s_output_is_not_framed(api: Api) -> None:
    container = api.fake.runtime.create("echo", "raw", tty=True)
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path(container)))
        await read_head(reader)
        await start(api, container)
        assert await reader.read() == b"raw\n"


async def test_attach_to_nothing_is_a_plain_404_and_the_connection_goes_on(api: Api) -> None:
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path("nope")))
        status, headers = await read_head(reader)
        body = await reader.readexactly(int(headers["content-length"]))
        assert status == 404
        assert json.loads(body) == {"message": "No such container: nope"}
        writer.write(head_of("GET", "/_ping", upgrade=False))
        assert (await read_head(reader))[0] == 200


async def test_a_client_that_leaves_ends_the_attach_behind_it(api: Api) -> None:
    container = api.fake.runtime.create("sleep")
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path(container, stdin=False)))
        await read_head(reader)
        await start(api, container)
    await asyncio.wait_for(api.fake.runtime.containers.attach_cancelled.wait(), 60)


async def test_a_client_that_leaves_after_half_closing_ends_the_attach_behind_it(api: Api) -> None:
    container = api.fake.runtime.create("sleep")
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path(container, stdin=False)))
        await read_head(reader)
        await start(api, container)
        writer.write_eof()
        await asyncio.sleep(0.05)
        assert not api.fake.runtime.containers.attach_cancelled.is_set()
    await asyncio.wait_for(api.fake.runtime.containers.attach_cancelled.wait(), 60)


async def test_input_of_a_client_that_sends_and_leaves_is_delivered(api: Api) -> None:
    container = api.fake.runtime.create("sink")
    await start(api, container)
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path(container)))
        await read_head(reader)
        writer.write(b"last words")
        await writer.drain()
    process = api.fake.runtime.containers.held[container].process
    assert process is not None
    await asyncio.wait_for(process.ended.wait(), 60)
    assert process.received == b"last words"


async def test_a_slow_client_holds_the_producer_up_and_loses_nothing(api: Api) -> None:
    size = 32 << 20
    container = api.fake.runtime.create("flood", str(size), tty=True)
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path(container, stdin=False)))
        await read_head(reader)
        await start(api, container)
        await asyncio.sleep(0.3)
        process = api.fake.runtime.containers.held[container].process
        assert process is not None
        assert not process.ended.is_set()  # somebody waits
        received = 0
        while chunk := await reader.read(1 << 20):
            received += len(chunk)
    assert received == size


async def test_websocket_attach_is_not_framed(api: Api) -> None:
    container = api.fake.runtime.create("cat")
    await start(api, container)
    url = f"http://docker/v1.50/containers/{container}/attach/ws?stream=1&stdin=1&stdout=1"
    async with api.session.ws_connect(url) as websocket:
        await websocket.send_bytes(b"over a socket")
        message = await asyncio.wait_for(websocket.receive(), 60)
        assert message.data == b"over a socket"


async def create_exec(api: Api, container: str, *args: str, **more: object) -> str:
    body = {"Cmd": list(args), "AttachStdout": True, "AttachStderr": True} | more
    answer = await api.post(f"/containers/{container}/exec", json=body)
    assert answer.status == 201
    return str(answer.json["Id"])


async def test_exec_streams_and_records_its_exit_code(api: Api) -> None:
    container = api.fake.runtime.create("sleep")
    await start(api, container)
    exec_id = await create_exec(api, container, "cat", AttachStdin=True)
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", f"/v1.50/exec/{exec_id}/start", body=b'{"Detach":false,"Tty":false}'))
        status, _ = await read_head(reader)
        writer.write(b"through")
        writer.write_eof()
        assert status == 101
        assert unframe(await reader.read()) == [(1, b"through")]
    inspected = (await api.get(f"/exec/{exec_id}/json")).json
    assert (inspected["Running"], inspected["ExitCode"], inspected["ContainerID"]) == (False, 0, container)


async def test_the_start_body_decides_whether_an_exec_is_framed(api: Api) -> None:
    container = api.fake.runtime.create("sleep")
    await start(api, container)
    exec_id = await create_exec(api, container, "echo", "x", Tty=False)
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", f"/exec/{exec_id}/start", body=b'{"Tty":true}'))
        await read_head(reader)
        assert await reader.read() == b"x\n"


async def test_output_never_arrives_together_with_the_head(api: Api) -> None:
    """Docker's SDK for Python would lose it: it reads the head through a buffer, and the rest beside that."""
    container = api.fake.runtime.create("sleep")
    await start(api, container)
    exec_id = await create_exec(api, container, "echo", "x")
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        await loop.sock_connect(client, str(api.socket))
        await loop.sock_sendall(client, head_of("POST", f"/v1.50/exec/{exec_id}/start", body=b"{}"))
        await api.fake.runtime.execs.somebody_started.wait()
        await api.fake.runtime.execs.processes[exec_id].ended.wait()
        await asyncio.sleep(0.2)  # its output is at the service: nothing but the client holds it up
        assert (await loop.sock_recv(client, 1 << 16)).endswith(b"\r\n\r\n")
        assert unframe(await loop.sock_recv(client, 1 << 16)) == [(1, b"x\n")]


async def test_a_client_that_leaves_before_it_reads_the_head_holds_nothing_up(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hijack, "_HEAD_READ_S", 600.0)
    container = api.fake.runtime.create("sleep")
    await start(api, container)
    exec_id = await create_exec(api, container, "echo", "x")
    async with api.raw() as (_, writer):
        writer.write(head_of("POST", f"/v1.50/exec/{exec_id}/start", body=b"{}"))
        await writer.drain()
        await api.fake.runtime.execs.somebody_started.wait()
        await api.fake.runtime.execs.processes[exec_id].ended.wait()
    async with asyncio.timeout(60):  # less than the head is waited for
        await api.server.close(600.0)


async def test_an_exec_that_cannot_start_says_so_as_output_and_has_127_on_record(api: Api) -> None:
    container = api.fake.runtime.create("sleep")
    await start(api, container)
    exec_id = await create_exec(api, container, "missing")
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", f"/v1.50/exec/{exec_id}/start", body=b"{}"))
        status, _ = await read_head(reader)
        ((stream, text),) = unframe(await reader.read())
    assert (status, stream) == (101, 1)
    assert b"executable file not found in $PATH\r\n" in text
    assert (await api.get(f"/exec/{exec_id}/json")).json["ExitCode"] == 127


@pytest.mark.parametrize("tty", [False, True])
async def test_a_service_that_goes_away_while_an_exec_starts_is_never_its_output(api: Api, *, tty: bool) -> None:
    container = api.fake.runtime.create("sleep")
    await start(api, container)
    exec_id = await create_exec(api, container, "gone", Tty=tty)
    async with api.raw() as (reader, writer):
        body = b'{"Tty":true}' if tty else b"{}"
        writer.write(head_of("POST", f"/v1.50/exec/{exec_id}/start", body=body))
        await read_head(reader)
        output = await reader.read()
    if tty:
        assert output == b""
    else:
        assert output[0] == 3  # the stream of the daemon's own errors
        assert b"runtimed does not answer" in output


async def test_an_exec_runs_once(api: Api) -> None:
    container = api.fake.runtime.create("sleep")
    await start(api, container)
    exec_id = await create_exec(api, container, "echo", "x")
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", f"/exec/{exec_id}/start", body=b"{}"))
        await reader.read()
    again = await api.post(f"/exec/{exec_id}/start", json={})
    assert (again.status, again.message) == (409, f"Error: Exec command {exec_id} has already run")
    assert (await api.post("/exec/nope/start", json={})).message == "No such exec instance: nope"


async def test_a_detached_exec_answers_at_once(api: Api) -> None:
    container = api.fake.runtime.create("sleep")
    await start(api, container)
    exec_id = await create_exec(api, container, "sleep")
    answer = await api.post(f"/exec/{exec_id}/start", json={"Detach": True})
    assert (answer.status, answer.body) == (200, b"")
    assert (await api.get(f"/exec/{exec_id}/json")).json["ExitCode"] is None


async def test_exec_in_a_stopped_container_is_a_conflict(api: Api) -> None:
    container = api.fake.runtime.create("sleep")
    answer = await api.post(f"/containers/{container}/exec", json={"Cmd": ["true"]})
    assert answer.status == 409
    assert answer.message.endswith("is not running")


async def test_stopping_the_service_ends_attached_streams(api: Api) -> None:
    container = api.fake.runtime.create("sleep")
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", attach_path(container)))
        await read_head(reader)
        await asyncio.wait_for(api.server.close(600.0), 60)
        assert await asyncio.wait_for(reader.read(), 60) == b""


async def test_a_plain_request_of_a_half_closed_client_is_answered(api: Api) -> None:
    def ask(path: Path) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(path))
            client.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            parts = []
            while part := client.recv(4096):
                parts.append(part)
            return b"".join(parts)

    answer = await asyncio.to_thread(ask, api.socket)
    assert answer.endswith(b"\r\n\r\nOK")
