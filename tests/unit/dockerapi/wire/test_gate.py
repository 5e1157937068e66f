"""The gate: gRPC comes through as it would at a service's own socket, is limited by scopes, and is on record."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from dockerapi.admission import Admission
from dockerapi.audit.trail import AuditTrail
from dockerapi.http.connection import Entrance
from dockerapi.listen.addresses import UnixAddress
from dockerapi.listen.sockets import open_unix
from dockerapi.rights.plugins import AuthorizationPlugin
from dockerapi.rights.scope import Scope
from dockerapi.wire.gate import Gate
from sampan.engine.engine import Engine
from sampan.errors import NotFoundError, PermissionDeniedError, UnavailableError
from sampan.layout import Layout
from sampan.resource.listing import ALL
from sampan_cli.remote.bridge import Bridge
from sampan_cli.remote.dialing import Dialer
from sampan_cli.remote.hosts import UnixHost
from tests.unit.dockerapi.audit.test_trail import Lines
from tests.unit.dockerapi.support import Api, head_of, read_head, running_api


@asynccontextmanager
async def through(socket: Path) -> AsyncIterator[Engine]:
    """An engine as the command line has it that comes by the gate at ``socket``."""
    async with Bridge(Dialer(UnixHost(socket))).open() as layout, Engine.connect(layout) as engine:
        yield engine


@asynccontextmanager
async def limited(api: Api, scope: Scope) -> AsyncIterator[Path]:
    with TemporaryDirectory(prefix="lim") as root:
        path = Path(root) / "s"
        opened = await open_unix(UnixAddress(path), "", api.server.protocols(Entrance("limited", scope)))
        try:
            yield path
        finally:
            opened.close()


async def test_calls_come_through_and_so_do_errors_in_their_own_words(api: Api) -> None:
    container = api.fake.runtime.create("cat")
    async with through(api.socket) as engine:
        assert [one.id for one in await engine.containers.list(ALL)] == [container]
        await engine.containers.start(container)
        with pytest.raises(NotFoundError, match="No such container: nobody"):
            await engine.containers.get("nobody")
    assert api.fake.runtime.containers.held[container].record.state.pid


async def test_engine_tells_where_it_is(api: Api) -> None:
    async with through(api.socket) as engine:
        assert engine.layout.own == api.fake.layout


async def test_service_that_is_none_is_not_found(api: Api) -> None:
    for service in ("nosuch", "dockerapi"):
        async with api.raw() as (reader, writer):
            head = head_of("POST", f"/grpc/{service}").replace(b"tcp", b"h2c")
            writer.write(head)
            status, _ = await read_head(reader)
            assert status == 404


async def test_connection_that_asks_for_nothing_else_is_refused(api: Api) -> None:
    assert (await api.post("/grpc/imaged")).message == "no upgrade proto in request"


async def test_read_only_lets_look_and_no_more(api: Api) -> None:
    container = api.fake.runtime.create("cat")
    async with limited(api, Scope(read_only=True)) as socket, through(socket) as engine:
        assert len(await engine.containers.list(ALL)) == 1
        with pytest.raises(PermissionDeniedError, match=r"read-only: container\.start is not allowed"):
            await engine.containers.start(container)
    assert not api.fake.runtime.containers.held[container].record.state.pid


async def test_operations_of_a_scope_are_those_of_grpc_too(api: Api) -> None:
    api.fake.runtime.create("cat")
    async with limited(api, Scope(operations=("system.engine", "container.list"))) as socket, through(socket) as engine:
        assert len(await engine.containers.list(ALL)) == 1
        with pytest.raises(PermissionDeniedError, match=r"does not allow container\.prune"):
            await engine.containers.prune()


@pytest.mark.parametrize("scope", [Scope(no_host=True), Scope(no_host=True, label=("team", "blue"))])
async def test_scope_that_looks_into_bodies_lets_no_grpc_in(api: Api, scope: Scope) -> None:
    async with limited(api, scope) as socket:
        dialer = Dialer(UnixHost(socket))
        with pytest.raises(PermissionDeniedError, match=r"system\.(grpc|engine) is not allowed"):
            async with dialer.tunnel("runtimed"):
                pass


async def test_service_that_is_away_ends_the_connection(api: Api) -> None:
    dialer = Dialer(UnixHost(api.socket))
    async with dialer.tunnel("registryd") as wire, asyncio.timeout(60):
        assert await wire.reader.read() == b""


async def test_nobody_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"cannot connect to the Sampan engine at unix://.*no such file"):
        async with through(tmp_path / "docker.sock"):
            pass


async def test_each_call_is_on_record_with_its_object_and_what_came_of_it() -> None:
    sink = Lines()
    with TemporaryDirectory(prefix="gat") as root:
        trail = AuditTrail(sink, everything=False, refuses=True)
        async with running_api(Path(root), Admission(trail)) as api:
            container = api.fake.runtime.create("cat")
            async with through(api.socket) as engine:
                await engine.containers.list(ALL)
                await engine.containers.start(container)
                with pytest.raises(NotFoundError):
                    await engine.containers.start("nobody")
    records = [line for line in sink.lines if line["operation"] == "container.start"]
    assert [(line["object"], line["outcome"], line["status"]) for line in records] == [
        (container, "done", 0),
        ("nobody", "failed", 5),
    ]
    assert records[1]["error"] == "No such container: nobody"
    assert records[0]["who"]["uid"] >= 0
    assert records[0]["method"] == "/sampan.runtime.v1.Containers/Start"
    assert not [line for line in sink.lines if line["operation"] == "container.list"]


async def test_nothing_is_done_that_cannot_be_written_down() -> None:
    sink = Lines()
    with TemporaryDirectory(prefix="gat") as root:
        trail = AuditTrail(sink, everything=False, refuses=True)
        async with running_api(Path(root), Admission(trail)) as api:
            container = api.fake.runtime.create("cat")
            async with through(api.socket) as engine:
                await engine.containers.start(container)
                sink.full = True
                await engine.containers.pause(container)  # it is found out with the first line that cannot be written
                with pytest.raises(UnavailableError, match="the audit log cannot be written"):
                    await engine.containers.unpause(container)
                sink.full = False
                await engine.containers.unpause(container)


@pytest.mark.parametrize(
    "watched",
    [
        {"trail": AuditTrail(Lines(), everything=False, refuses=True)},
        {"plugins": [AuthorizationPlugin("door", 1.0)]},
    ],
)
def test_gate_is_the_only_way_in_while_calls_are_watched(tmp_path: Path, watched: dict[str, Any]) -> None:
    layout = Layout(tmp_path / "d", tmp_path / "r")
    layout.run_root.mkdir()
    layout.socket("imaged").touch(0o660)
    layout.docker_socket.touch(0o660)
    Gate(layout, **watched).keep()
    assert layout.gate_marker.exists()
    assert layout.socket("imaged").stat().st_mode & 0o777 == 0o600
    assert layout.docker_socket.stat().st_mode & 0o060
    Gate(layout).keep()
    assert not layout.gate_marker.exists()
