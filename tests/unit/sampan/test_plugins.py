"""Where Docker's plugins are found, and how they are spoken to."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from aiohttp import web

from sampan.plugins import Address, Places, PluginChannel


def test_a_socket_comes_before_a_file_and_an_address_before_a_document() -> None:
    with TemporaryDirectory() as directory:  # a short path: a socket's has 107 bytes
        root = Path(directory)
        places = Places(root / "p", (root / "s",))
        (root / "p/deep").mkdir(parents=True)
        (root / "s").mkdir()
        assert places.find("one") is None
        (root / "s/one.json").write_text(json.dumps({"Addr": "tcp://host:1", "TLSConfig": {"CAFile": "/ca"}}))
        assert places.find("one") == Address("one", url="https://host:1", tls={"CAFile": "/ca"})
        (root / "s/one.spec").write_text("tcp://host:2\n")
        assert places.find("one") == Address("one", url="http://host:2")
        with socket.socket(socket.AF_UNIX) as here, socket.socket(socket.AF_UNIX) as there:
            here.bind(str(root / "p/one.sock"))
            there.bind(str(root / "p/deep/deep.sock"))
            assert places.find("one") == Address("one", socket=str(root / "p/one.sock"))
            assert places.find("deep") == Address("deep", socket=str(root / "p/deep/deep.sock"))
            assert [one.name for one in places.all()] == ["deep", "one", "one", "one"]


@pytest.mark.parametrize(
    "text", ["", "ftp://host", "unix://relative", "{", "[]", '{"Addr": "tcp://x", "TLSConfig": 1}']
)
def test_a_file_that_cannot_be_understood_is_an_error_for_its_own_plugin_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / ("one.json" if text[:1] in ("{", "[") else "one.spec")).write_text(text)
    (tmp_path / "two.spec").write_text("http://host:1")
    places = Places(None, (tmp_path,))
    with pytest.raises(ValueError):  # noqa: PT011 - json's and ours say different things
        places.find("one")
    assert [one.name for one in places.all()] == ["two"]


async def _posted(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> tuple[int, bytes]:
    with TemporaryDirectory() as directory:
        app = web.Application()
        app.router.add_route("*", "/{any:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.UnixSite(runner, f"{directory}/s").start()
            channel = await PluginChannel.open(Address("one", socket=f"{directory}/s"))
            try:
                async with asyncio.timeout(60):
                    return await channel.post("Kind.Method", {"Name": "x"}, 1000)
            finally:
                await channel.close()
        finally:
            await runner.cleanup()


async def test_a_call_is_a_post_of_json() -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=418, text=f"{request.method} {request.path} {await request.text()}")

    assert await _posted(handle) == (418, b'POST /Kind.Method {"Name": "x"}')


async def test_nobody_is_sent_elsewhere() -> None:
    async def handle(request: web.Request) -> web.Response:
        raise web.HTTPFound("/elsewhere")

    assert (await _posted(handle))[0] == 302


async def test_an_answer_without_end_is_left() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        endless = web.StreamResponse()
        await endless.prepare(request)
        while True:
            await endless.write(b"x" * 100)

    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        await _posted(handle)


async def test_nobody_there_is_an_os_error() -> None:
    channel = await PluginChannel.open(Address("one", socket="/nowhere/at/all"))
    with pytest.raises(OSError, match="/nowhere"):
        await channel.post("Kind.Method", {}, 1000)
    await channel.close()
