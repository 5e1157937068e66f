import asyncio
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from buildd.session.attached import AttachedSessions
from buildd.session.protocol import SessionInfo
from buildd.wire.front import Front
from buildd.wire.session.session import ServedSession
from sampan.api.buildkit.control.v1 import control_pb2 as pb
from sampan.api.buildkit.control.v1.control_pb2_grpc import ControlStub
from sampan.client.builds.client import BuildsClient
from sampan.errors import AlreadyExistsError, InvalidArgumentError, UnavailableError
from sampan.handing.desk import Desk
from tests.fakes.session_client import METHODS, FakeSessionClient, serving

STATUS_BIN = "grpc-status-details-bin"


class Behind(grpc.GenericRpcHandler):
    """A server of calls whose messages are bytes."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.metadata: tuple[tuple[str, str | bytes], ...] = ()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return {
            "/t.T/Echo": grpc.unary_unary_rpc_method_handler(self._echo),
            "/t.T/Count": grpc.unary_stream_rpc_method_handler(self._count),
            "/t.T/Hash": grpc.stream_unary_rpc_method_handler(self._hash),
            "/t.T/Talk": grpc.stream_stream_rpc_method_handler(self._talk),
            "/t.T/Fail": grpc.unary_stream_rpc_method_handler(self._fail),
            "/t.T/Hang": grpc.unary_stream_rpc_method_handler(self._hang),
        }.get(str(details.method))

    async def _echo(self, request: bytes, context: Any) -> bytes:
        self.metadata = tuple(context.invocation_metadata())
        return request

    async def _count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield str(number).encode()

    async def _hash(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        found = hashlib.sha256()
        async for request in requests:
            found.update(request)
        return found.digest()

    async def _talk(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request * 2

    async def _fail(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        context.set_trailing_metadata(((STATUS_BIN, b"\0\xffdetails"), ("reason", "why")))
        await context.abort(grpc.StatusCode.NOT_FOUND, "no «thing»: 100%")

    async def _hang(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"begun"
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def sessions() -> AttachedSessions:
    return AttachedSessions(ServedSession)


@pytest.fixture
async def server(behind: Behind, tmp_path: Path) -> AsyncIterator[grpc.aio.Server]:
    running = grpc.aio.server()
    running.add_generic_rpc_handlers((behind,))
    running.add_insecure_port(f"unix:{tmp_path}/behind.sock")
    await running.start()
    yield running
    await running.stop(0)


@pytest.fixture
async def channel(server: grpc.aio.Server, sessions: AttachedSessions, tmp_path: Path) -> AsyncIterator[Any]:
    async with (
        Front(sessions).listening(tmp_path / "front.sock", tmp_path / "behind.sock"),
        grpc.aio.insecure_channel(f"unix:{tmp_path}/front.sock") as opened,
    ):
        yield opened
    assert not sessions.attached()
    nothing_goes_on()


@pytest.fixture
async def lent_channel(server: grpc.aio.Server, sessions: AttachedSessions, tmp_path: Path) -> AsyncIterator[Any]:
    """As ``channel``, with a desk for sockets."""
    desk = Desk(tmp_path / "desk.sock")
    async with (
        Front(sessions, desk).listening(tmp_path / "front.sock", tmp_path / "behind.sock"),
        grpc.aio.insecure_channel(f"unix:{tmp_path}/front.sock") as opened,
    ):
        yield opened
    await desk.close()
    assert not sessions.attached()
    nothing_goes_on()


def nothing_goes_on() -> None:
    assert {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(("front", "http2"))} == set()


async def test_calls_are_answered_by_the_server_behind(channel: Any, behind: Behind) -> None:
    echo = channel.unary_unary("/t.T/Echo")
    assert await echo(b"hello", metadata=(("key", "one"), ("key", "two"), ("x-bin", b"\0\xff"))) == b"hello"
    assert [each for each in behind.metadata if each[0] in ("key", "x-bin")] == [
        ("key", "one"),
        ("key", "two"),
        ("x-bin", b"\0\xff"),
    ]
    assert [item async for item in channel.unary_stream("/t.T/Count")(b"500")] == [b"%d" % n for n in range(500)]


async def test_much_goes_through_both_ways(channel: Any) -> None:
    data = os.urandom(3 << 20)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield data

    assert await channel.stream_unary("/t.T/Hash")(pieces()) == hashlib.sha256(data * 8).digest()
    call = channel.stream_stream("/t.T/Talk")()
    for _ in range(3):
        await call.write(data[: 1 << 20])
        assert await call.read() == data[: 1 << 20] * 2
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_calls_go_on_side_by_side(channel: Any) -> None:
    echo = channel.unary_unary("/t.T/Echo")
    answers = await asyncio.gather(*(echo(b"%d" % number) for number in range(100)))
    assert answers == [b"%d" % number for number in range(100)]


async def test_failure_comes_with_all_its_words(channel: Any) -> None:
    call = channel.unary_stream("/t.T/Fail")(b"")
    assert await call.read() == b"first"
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert raised.value.details() == "no «thing»: 100%"
    trailing = dict(raised.value.trailing_metadata() or ())
    assert trailing["reason"] == "why"
    assert trailing[STATUS_BIN] == b"\0\xffdetails"


async def test_method_that_nobody_has_is_unimplemented(channel: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await channel.unary_unary("/t.T/None")(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_call_that_its_client_leaves_is_cancelled_behind(channel: Any, behind: Behind) -> None:
    call = channel.unary_stream("/t.T/Hang")(b"")
    assert await call.read() == b"begun"
    call.cancel()
    async with asyncio.timeout(5):
        await behind.cancelled.wait()


async def test_calls_of_a_client_that_is_gone_are_cancelled_behind(channel: Any, behind: Behind) -> None:
    call = channel.unary_stream("/t.T/Hang")(b"")
    assert await call.read() == b"begun"
    await channel.close()
    async with asyncio.timeout(5):
        await behind.cancelled.wait()


async def test_end_of_the_server_behind_is_unavailable(channel: Any, server: grpc.aio.Server) -> None:
    call = channel.unary_stream("/t.T/Hang")(b"")
    assert await call.read() == b"begun"
    await server.stop(0)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


@asynccontextmanager
async def session_call(channel: Any, client: FakeSessionClient, directory: Path) -> AsyncIterator[Any]:
    """A client's session whose bytes travel in the messages of a call."""
    async with serving(client, directory) as stream:

        async def requests() -> AsyncIterator[pb.BytesMessage]:
            while data := await stream.read():
                for at in range(0, len(data), 50):  # as small as clients make them
                    yield pb.BytesMessage(data=data[at : at + 50])

        headers = [("x-docker-expose-session-uuid", "s1"), ("x-docker-expose-session-sharedkey", "key")]
        headers += [("x-docker-expose-session-grpc-method", method) for method in METHODS]
        stub: Any = ControlStub(channel)
        call = stub.Session(requests(), metadata=tuple(headers))

        async def answers() -> None:
            async for message in call:
                await stream.write(message.data)

        answering = asyncio.create_task(answers())
        try:
            yield call
        finally:
            call.cancel()
            with suppress(asyncio.CancelledError):
                await answering
            await stream.close()


async def test_session_in_a_call_is_attached_here(channel: Any, sessions: AttachedSessions, tmp_path: Path) -> None:
    client = FakeSessionClient(secrets={"large": os.urandom(300_000)})
    async with session_call(channel, client, tmp_path):
        session = await sessions.get("s1")
        assert session.info == SessionInfo("s1", "", "key", METHODS)
        assert await session.secret("large") == client.secrets["large"]
        assert await channel.unary_unary("/t.T/Echo")(b"beside it") == b"beside it"


async def test_second_session_of_one_id_is_refused(channel: Any, sessions: AttachedSessions, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with session_call(channel, FakeSessionClient(), tmp_path):
        await sessions.get("s1")
        stub: Any = ControlStub(channel)
        call = stub.Session(metadata=(("x-docker-expose-session-uuid", "s1"),))
        with pytest.raises(grpc.aio.AioRpcError, match="session s1 already exists") as raised:
            await call.read()
        assert raised.value.code() is grpc.StatusCode.ALREADY_EXISTS


@asynccontextmanager
async def attached(client: BuildsClient, served: FakeSessionClient, directory: Path) -> AsyncIterator[None]:
    """A session that our own client attaches."""
    async with serving(served, directory) as stream:

        async def sent() -> AsyncIterator[bytes]:
            while data := await stream.read():
                yield data

        headers = [("x-docker-expose-session-uuid", "s1")]
        headers += [("x-docker-expose-session-grpc-method", method) for method in METHODS]

        async def carry() -> None:
            async with aclosing(client.session(headers, sent())) as pieces:
                async for piece in pieces:
                    await stream.write(piece)

        carrying = asyncio.create_task(carry())
        try:
            yield
        finally:
            carrying.cancel()
            with suppress(asyncio.CancelledError):
                await carrying
            await stream.close()


async def test_our_own_client_attaches_sessions(channel: Any, sessions: AttachedSessions, tmp_path: Path) -> None:
    client = BuildsClient(channel, tmp_path / "front.sock")
    served = FakeSessionClient(secrets={"large": os.urandom(300_000)})
    async with attached(client, served, tmp_path):
        session = await sessions.get("s1")
        assert await session.secret("large") == served.secrets["large"]
        with pytest.raises(AlreadyExistsError, match="session s1 already exists"):
            await anext(client.session([("x-docker-expose-session-uuid", "s1")], no_bytes()))
        assert await session.secret("large") == served.secrets["large"]


async def test_session_ends_with_its_owner(channel: Any, sessions: AttachedSessions, tmp_path: Path) -> None:
    client = BuildsClient(channel, tmp_path / "front.sock")
    pieces = client.session([("x-docker-expose-session-uuid", "s1")], no_bytes())
    async with asyncio.timeout(10):
        assert [piece async for piece in pieces]  # the builder greets, and then is told of the end
    assert not sessions.attached()


async def test_session_of_a_builder_that_is_not_there_is_unavailable(channel: Any, tmp_path: Path) -> None:
    client = BuildsClient(channel, tmp_path / "missing.sock")
    with pytest.raises(UnavailableError, match="service buildd does not answer"):
        await anext(client.session([("x-docker-expose-session-uuid", "s1")], no_bytes()))


async def no_bytes() -> AsyncIterator[bytes]:
    for nothing in list[bytes]():
        yield nothing


async def test_who_does_not_speak_http2_is_hung_up_on(channel: Any, tmp_path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(tmp_path / "front.sock")
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(5):
        await reader.read()
    writer.close()


async def test_nobody_behind_ends_a_connection_at_once(sessions: AttachedSessions, tmp_path: Path) -> None:
    async with Front(sessions).listening(tmp_path / "front.sock", tmp_path / "missing.sock"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "front.sock")
        assert await reader.read() == b""
        writer.close()


@asynccontextmanager
async def lending(channel: Any, client: FakeSessionClient, directory: Path) -> AsyncIterator[asyncio.Task[None]]:
    """A client whose socket is lent to the builder, after the first of what it sends was read from it."""
    async with serving(client, directory):
        with socket.socket(socket.AF_UNIX) as lent:
            lent.connect(str(directory / "client.sock"))
            lent.setblocking(False)
            loop = asyncio.get_running_loop()
            begun = await loop.sock_recv(lent, 9)  # a server says something before it has heard anything
            headers = [("x-docker-expose-session-uuid", "s1"), ("x-docker-expose-session-sharedkey", "key")]
            headers += [("x-docker-expose-session-grpc-method", method) for method in METHODS]
            builds = BuildsClient(channel, directory / "front.sock", directory / "desk.sock")
            lending = asyncio.create_task(builds.lend_session(headers, lent.fileno(), begun), name="lend a session")
            try:
                yield lending
            finally:
                lending.cancel()
                await asyncio.gather(lending, return_exceptions=True)


async def test_a_session_comes_on_its_clients_own_socket(
    lent_channel: Any, sessions: AttachedSessions, tmp_path: Path
) -> None:
    client = FakeSessionClient(secrets={"id": b"secret"})
    async with lending(lent_channel, client, tmp_path):
        session = await sessions.get("s1", 60)
        assert session.info == SessionInfo("s1", shared_key="key", methods=METHODS)
        assert await session.secret("id") == b"secret"
    async with asyncio.timeout(60):
        while sessions.attached():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
    with pytest.raises(UnavailableError, match="session s1 of the client has ended"):
        await session.secret("id")


async def test_a_lent_session_ends_with_its_client(
    lent_channel: Any, sessions: AttachedSessions, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        mine, theirs = socket.socketpair()
        stack.callback(mine.close)
        headers = [("x-docker-expose-session-uuid", "s1")]
        builds = BuildsClient(lent_channel, tmp_path / "front.sock", tmp_path / "desk.sock")
        lending = asyncio.create_task(builds.lend_session(headers, mine.fileno(), b""))
        await sessions.get("s1", 60)
        theirs.close()
        async with asyncio.timeout(60):
            await lending


async def test_an_id_that_is_attached_is_told_to_who_lends_another_session(
    lent_channel: Any, sessions: AttachedSessions, tmp_path: Path
) -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        async with lending(lent_channel, FakeSessionClient(), tmp_path):
            await sessions.get("s1", 60)
            builds = BuildsClient(lent_channel, tmp_path / "front.sock", tmp_path / "desk.sock")
            with pytest.raises(AlreadyExistsError, match="session s1 already exists"):
                await builds.lend_session([("x-docker-expose-session-uuid", "s1")], mine.fileno(), b"")


async def test_a_builder_on_another_host_is_lent_nothing(channel: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="another host"):
        await BuildsClient(channel, tmp_path / "front.sock").lend_session([], 0, b"")
