"""Docker's authorization plugins: asked about requests and answers; one that fails refuses."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest
import pytest_asyncio
from aiohttp import web

from dockerapi.admission import Admission
from dockerapi.rights.plugins import AuthorizationPlugin
from sampan.engine.engine import Engine
from sampan.errors import InvalidArgumentError, PermissionDeniedError
from sampan.resource.listing import ALL
from sampan_cli.remote.bridge import Bridge
from sampan_cli.remote.dialing import Dialer
from sampan_cli.remote.hosts import UnixHost
from tests.unit.dockerapi.support import Api, head_of, running_api


class Plugin:
    """A plugin that says what a test has it say."""

    def __init__(self) -> None:
        self.request: Any = {"Allow": True}
        self.response: Any = {"Allow": True}
        self.asked: list[tuple[str, Any]] = []
        self.slow_s = 0.0
        self.status = 200
        self.implements: Any = ["authz"]

    async def handle(self, request: web.Request) -> web.Response:
        if request.path == "/Plugin.Activate":
            return web.json_response({"Implements": self.implements})
        self.asked.append((request.path, await request.json()))
        await asyncio.sleep(self.slow_s)
        answer = self.request if request.path.endswith("Req") else self.response
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return web.Response(text=text, status=self.status)


@pytest_asyncio.fixture
async def guarded() -> AsyncIterator[tuple[Api, Plugin, Path]]:
    async with guarded_api(60) as guarded:
        yield guarded


@asynccontextmanager
async def guarded_api(timeout_s: float) -> AsyncIterator[tuple[Api, Plugin, Path]]:
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(TemporaryDirectory(prefix="plg")))
        plugin = Plugin()
        app = web.Application()
        app.router.add_post("/{any:.*}", plugin.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.UnixSite(runner, str(root / "door.sock")).start()
        asked = AuthorizationPlugin("door", timeout_s, (root,), root)
        stack.push_async_callback(asked.close)
        yield await stack.enter_async_context(running_api(root / "api", Admission(plugins=[asked]))), plugin, root


async def test_it_is_asked_about_requests_and_answers(guarded: tuple[Api, Plugin, Path]) -> None:
    api, plugin, _ = guarded
    made = await api.post("/v1.44/volumes/create?x=1", json={"Name": "v"}, headers={"X-Registry-Auth": "secret"})
    assert made.status == 201
    (first, asked), (second, answered) = plugin.asked
    assert (first, second) == ("/AuthZPlugin.AuthZReq", "/AuthZPlugin.AuthZRes")
    assert (asked["RequestMethod"], asked["RequestUri"]) == ("POST", "/v1.44/volumes/create?x=1")
    assert json.loads(base64.b64decode(asked["RequestBody"])) == {"Name": "v"}
    assert "secret" not in json.dumps(asked)
    assert answered["ResponseStatusCode"] == 201
    assert json.loads(base64.b64decode(answered["ResponseBody"]))["Name"] == "v"


async def test_what_it_denies_is_not_done(guarded: tuple[Api, Plugin, Path]) -> None:
    api, plugin, _ = guarded
    container = api.fake.runtime.create("cat")
    plugin.request = {"Allow": False, "Msg": "not today"}
    refused = await api.post(f"/containers/{container}/start")
    assert (refused.status, refused.message) == (403, "authorization denied by plugin door: not today")
    assert not api.fake.runtime.containers.held[container].record.state.pid
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", f"/containers/{container}/attach?stream=1"))
        assert b" 403 " in await reader.readline()


async def test_an_answer_that_it_denies_is_not_sent(guarded: tuple[Api, Plugin, Path]) -> None:
    api, plugin, _ = guarded
    plugin.response = {"Allow": False, "Msg": "not for you"}
    refused = await api.get("/version")
    assert (refused.status, refused.message) == (403, "authorization denied by plugin door: not for you")


async def test_it_is_asked_about_each_call_of_grpc(guarded: tuple[Api, Plugin, Path]) -> None:
    """A connection says only that there will be some."""
    api, plugin, _ = guarded
    container = api.fake.runtime.create("cat")
    async with Bridge(Dialer(UnixHost(api.socket))).open() as layout, Engine.connect(layout) as engine:
        assert len(await engine.containers.list(ALL)) == 1
        plugin.request = {"Allow": False, "Msg": "not today"}
        with pytest.raises(PermissionDeniedError, match="authorization denied by plugin door: not today"):
            await engine.containers.start(container)
        plugin.request = {"Allow": True}
        await engine.containers.start(container)
    assert api.fake.runtime.containers.held[container].record.state.pid
    calls = [asked["RequestUri"] for _, asked in plugin.asked if asked["RequestUri"].startswith("/grpc/sampan.")]
    prefix = "/grpc/sampan.runtime.v1.Containers"
    assert calls == [f"{prefix}/List", f"{prefix}/Start", f"{prefix}/Start"]


async def test_it_is_asked_about_each_call_to_the_builder(guarded: tuple[Api, Plugin, Path]) -> None:
    """buildx has one connection for all of its calls."""
    api, plugin, _ = guarded
    async with grpc.aio.insecure_channel(f"unix:{api.socket}") as channel:
        workers: Any = channel.unary_unary("/moby.buildkit.v1.Control/ListWorkers")
        solve: Any = channel.unary_unary("/moby.buildkit.v1.Control/Solve")
        await workers(b"")
        plugin.request = {"Allow": False, "Msg": "no builds"}
        with pytest.raises(grpc.aio.AioRpcError, match="authorization denied by plugin door: no builds") as refused:
            await solve(b"")
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    calls = [asked["RequestUri"] for _, asked in plugin.asked if asked["RequestUri"].startswith("/grpc/")]
    assert calls == ["/grpc/moby.buildkit.v1.Control/ListWorkers", "/grpc/moby.buildkit.v1.Control/Solve"]


@pytest.mark.parametrize(
    "answer",
    ["", "{", "[]", "null", "x" * 2_000_000, {"Allow": "yes"}, {"Allow": 1}, {"Err": ["x"]},
     {"Err": "broken", "Allow": True}],
)  # fmt: skip
async def test_what_cannot_be_understood_refuses(guarded: tuple[Api, Plugin, Path], answer: Any) -> None:
    api, plugin, _ = guarded
    plugin.request = answer
    refused = await api.get("/version")
    assert refused.status == 503
    assert refused.message.startswith("plugin door failed with error: ")
    plugin.request = {"Allow": True}
    assert (await api.get("/version")).status == 200


@pytest.mark.parametrize("answer", [{}, {"allow": True}, {"Allow": None}])
async def test_what_is_not_allowed_in_so_many_words_is_refused(guarded: tuple[Api, Plugin, Path], answer: Any) -> None:
    api, plugin, _ = guarded
    plugin.request = answer
    assert (await api.get("/version")).status in (403, 503)


async def test_one_that_is_slow_refuses() -> None:
    async with guarded_api(0.5) as (api, plugin, _):
        plugin.slow_s = 5
        assert "does not answer within 0.5 s" in (await api.get("/version")).message


async def test_one_that_is_broken_or_down_refuses_and_may_come_back(guarded: tuple[Api, Plugin, Path]) -> None:
    api, plugin, root = guarded
    plugin.status = 500
    assert "answers 500" in (await api.get("/version")).message
    plugin.status = 200
    (root / "door.sock").rename(root / "away")
    assert (await api.get("/version")).message == "plugin door failed with error: plugin not found"
    (root / "away").rename(root / "door.sock")
    plugin.implements = ["volumedriver"]
    assert "no authorization plugin" in (await api.get("/version")).message
    plugin.implements = ["authz"]
    assert (await api.get("/version")).status == 200


async def test_a_description_says_where_it_is(guarded: tuple[Api, Plugin, Path]) -> None:
    api, _, root = guarded
    (root / "door.sock").rename(root / "elsewhere")
    (root / "door.spec").write_text(f"unix://{root}/elsewhere\n")
    assert (await api.get("/version")).status == 200


def test_a_name_that_is_a_path_is_refused() -> None:
    for name in ("", "../x", "a/b", ".x"):
        with pytest.raises(InvalidArgumentError, match="no name of a plugin"):
            AuthorizationPlugin(name, 1.0)
