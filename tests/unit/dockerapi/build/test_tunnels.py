"""POST /grpc and /session, and HTTP/2 with prior knowledge: connections that leave HTTP/1."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dockerapi.http.connection import Connection
from tests.unit.dockerapi.support import Api

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def request(path: str, **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: docker", "Content-Length: 0"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def echo(api: Api, path: Path) -> AsyncIterator[None]:
    """A builder that says back what it hears, in capitals."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data.upper())
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    api.builder.socket = path
    try:
        yield
    finally:
        server.close()


async def test_grpc_is_carried_to_the_builder_and_back(api: Api) -> None:
    async with echo(api, api.socket.with_name("b")), api.raw() as (reader, writer):
        writer.write(request("/v1.43/grpc", Connection="Upgrade", Upgrade="h2c") + b"early")
        assert await reader.readexactly(len(SWITCHED)) == SWITCHED
        assert await reader.readexactly(5) == b"EARLY"
        big = b"x" * (3 << 20)
        writer.write(big)
        assert await reader.readexactly(len(big)) == big.upper()


async def test_http2_with_prior_knowledge_needs_no_upgrade(api: Api) -> None:
    async with echo(api, api.socket.with_name("b")), api.raw() as (reader, writer):
        writer.write(PREFACE + b"rest")
        assert await reader.readexactly(len(PREFACE) + 4) == (PREFACE + b"rest").upper()


async def test_a_builder_that_is_not_there_is_an_answer(api: Api) -> None:
    answer = await api.request("POST", "/grpc", headers={"Upgrade": "h2c", "Connection": "Upgrade"})
    assert (answer.status, answer.message) == (503, "service buildd does not answer")


async def test_a_session_is_attached_with_its_headers(api: Api) -> None:
    async with api.raw() as (reader, writer):
        headers = {"X_Docker_Expose_Session_Uuid": "u", "X_Docker_Expose_Session_Name": "n", "Other": "o"}
        writer.write(request("/session", Connection="Upgrade", Upgrade="h2c", **headers))
        assert await reader.readexactly(len(SWITCHED)) == SWITCHED
        writer.write(b"frames")
        assert await reader.readexactly(6) == b"FRAMES"
        told = {"x-docker-expose-session-uuid": "u", "x-docker-expose-session-name": "n"}
        assert api.builder.attached == [{**told, "lent": "yes"}]
        writer.write_eof()
        assert await reader.read() == b""


async def test_a_session_that_cannot_be_lent_is_carried(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "is_plain", False)  # as of one by TLS
    async with api.raw() as (reader, writer):
        writer.write(request("/session", Connection="Upgrade", Upgrade="h2c", X_Docker_Expose_Session_Uuid="u"))
        writer.write(b"frames")
        assert await reader.readexactly(len(SWITCHED) + 6) == SWITCHED + b"FRAMES"
        assert api.builder.attached == [{"x-docker-expose-session-uuid": "u"}]


async def test_a_lent_session_ends_when_its_client_leaves(api: Api) -> None:
    async with api.raw() as (reader, writer):
        writer.write(request("/session", Connection="Upgrade", Upgrade="h2c", X_Docker_Expose_Session_Uuid="u") + b"a")
        assert await reader.readexactly(len(SWITCHED) + 1) == SWITCHED + b"A"
    async with asyncio.timeout(60):
        await api.builder.left.wait()


@pytest.mark.parametrize(
    ("path", "headers", "message"),
    [
        ("/grpc", {}, "no upgrade proto in request"),
        ("/session", {}, "no upgrade proto in request"),
        ("/session", {"Upgrade": "tcp", "Connection": "Upgrade"}, "protocol tcp not supported"),
        (
            "/session",
            {"Upgrade": "h2c", "Connection": "Upgrade"},
            "a session needs an ID: X-Docker-Expose-Session-Uuid is not there",
        ),
    ],
)
async def test_what_is_no_upgrade_is_refused(api: Api, path: str, headers: dict[str, str], message: str) -> None:
    answer = await api.request("POST", path, headers=headers)
    assert (answer.status, answer.message) == (400, message)
