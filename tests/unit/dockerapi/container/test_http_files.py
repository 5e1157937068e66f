"""Archives over HTTP, on the client's own socket and through messages."""

import asyncio
import base64
import json

import pytest

from sampan.handing import desk
from tests.contract.archives import tar
from tests.unit.dockerapi.support import Api, read_head

ARCHIVE = "/containers/web/archive?path=/tmp"
HEAD = f"PUT /v1.44{ARCHIVE} HTTP/1.1\r\nHost: docker\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


def in_chunks(data: bytes, size: int = 1000) -> bytes:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


@pytest.fixture(autouse=True)
def web(api: Api) -> None:
    api.fake.runtime.create("sleep", name="web")


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of descriptors that were handed over."""
    names: list[str] = []
    new = desk.new_name

    def noted() -> str:
        names.append(new())
        return names[-1]

    monkeypatch.setattr("sampan.client.runtime.archives.new_name", noted)
    return names


async def content(api: Api, name: str) -> bytes | None:
    return api.fake.runtime.archives.tree("web").get(f"/tmp/{name}")


@pytest.mark.parametrize("first", [len(HEAD), len(HEAD) + 1, len(HEAD) + 700, 1 << 20])
async def test_chunks_are_read_from_the_socket(api: Api, handed: list[str], first: int) -> None:
    sent = HEAD + in_chunks(tar(f=b"content" * 500))
    async with api.raw() as (reader, writer):
        writer.write(sent[:first])
        await asyncio.sleep(0)
        writer.write(sent[first:])
        status, headers = await read_head(reader)
        assert (status, headers["connection"]) == (200, "close")
        assert await reader.read() == b""
    assert await content(api, "f") == b"content" * 500
    assert len(handed) == 1


async def test_an_archive_after_a_question_on_the_same_connection_is_read_from_the_socket(
    api: Api, handed: list[str]
) -> None:
    for number in range(10):
        async with api.raw() as (reader, writer):
            writer.write(f"HEAD {ARCHIVE} HTTP/1.1\r\nHost: docker\r\n\r\n".encode())
            assert (await read_head(reader))[0] == 200
            writer.write(HEAD + in_chunks(tar(f=b"%d" % number)))
            assert (await read_head(reader))[0] == 200
        assert await content(api, "f") == b"%d" % number
        assert len(handed) == number + 1


async def test_a_head_in_pieces_or_a_length_is_read_here(api: Api, handed: list[str]) -> None:
    sent = HEAD + in_chunks(tar(f=b"1"))
    async with api.raw() as (reader, writer):
        for piece in (sent[:30], sent[30:]):
            writer.write(piece)
            await writer.drain()
            await api.get("/_ping")  # the first piece has arrived by then
        assert (await read_head(reader))[0] == 200
    assert (await api.request("PUT", f"{ARCHIVE}", data=tar(g=b"2"))).status == 200
    assert (await content(api, "f"), await content(api, "g")) == (b"1", b"2")
    assert handed == []


async def test_an_error_is_told_while_the_client_still_sends(api: Api, handed: list[str]) -> None:
    for wrong, status in ((HEAD.replace(b"path=/tmp", b"path=/nosuch"), 404), (HEAD.replace(b"web", b"nosuch"), 404)):
        async with api.raw() as (reader, writer):
            writer.write(wrong + b"ff\r\nno archive")
            found, headers = await read_head(reader)
            assert found == status
            assert "message" in json.loads(await reader.readexactly(int(headers["content-length"])))
            writer.write(b"more of it")  # nobody minds
            await writer.drain()
    async with api.raw() as (reader, writer):
        writer.write(HEAD + in_chunks(b"no archive"))
        assert (await read_head(reader))[0] == 400
    assert len(handed) == 3


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(api: Api, handed: list[str]) -> None:
    async with api.raw() as (_, writer):
        writer.write(HEAD + b"fff\r\nbegin")
        await writer.drain()
    assert (await api.request("PUT", ARCHIVE, data=tar(f=b"1"))).status == 200


async def test_an_archive_goes_to_the_socket_and_the_connection_stays(api: Api, handed: list[str]) -> None:
    await api.request("PUT", ARCHIVE, data=tar(f=b"content" * 50_000))
    async with api.raw() as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /containers/web/archive?path=/tmp/f HTTP/1.1\r\nHost: docker\r\n\r\n")
            status, headers = await read_head(reader)
            assert status == 200
            assert json.loads(base64.b64decode(headers["x-docker-container-path-stat"]))["name"] == "f"
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                assert await reader.readexactly(2) == b"\r\n"
            assert await reader.readexactly(2) == b"\r\n"
            assert b"content" * 50_000 in body
    assert len(handed) == 2


async def test_http_without_chunks_is_answered_through_messages(api: Api, handed: list[str]) -> None:
    await api.request("PUT", ARCHIVE, data=tar(f=b"content"))
    async with api.raw() as (reader, writer):
        writer.write(b"GET /containers/web/archive?path=/tmp/f HTTP/1.0\r\nHost: docker\r\n\r\n")
        assert (await read_head(reader))[0] == 200
        assert b"content" in await reader.read()
    assert handed == []
