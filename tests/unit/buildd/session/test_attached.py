import asyncio

import pytest

from buildd.session.attached import AttachedSessions
from buildd.session.protocol import SessionInfo
from buildd.wire.session.session import ServedSession
from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from tests.fakes.byte_stream import FakeByteStream


async def test_session_is_there_while_its_connection_is() -> None:
    sessions = AttachedSessions(ServedSession)
    ours, theirs = FakeByteStream.pair()
    attaching = asyncio.create_task(sessions.attach(ours, SessionInfo("id", shared_key="key")))
    session = await sessions.get("id")
    assert session.info.shared_key == "key"
    assert await sessions.get("context:id") is session
    assert sessions.attached() == [session.info]
    await theirs.close()
    await attaching
    assert ours.closed
    assert sessions.attached() == []
    with pytest.raises(NotFoundError, match="no active session for id: context deadline exceeded"):
        await sessions.get("id", timeout_s=0)


async def test_all_who_wait_get_the_session_when_it_comes() -> None:
    sessions = AttachedSessions(ServedSession)
    waiting = [asyncio.create_task(sessions.get("id")) for _ in range(3)]
    impatient = asyncio.create_task(sessions.get("id", timeout_s=0.001))
    with pytest.raises(NotFoundError):
        await impatient
    ours, _ = FakeByteStream.pair()
    attaching = asyncio.create_task(sessions.attach(ours, SessionInfo("id")))
    found = await asyncio.gather(*waiting)
    assert len(set(found)) == 1
    attaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    assert ours.closed
    assert sessions._waiting == {}


async def test_id_that_is_attached_is_refused_and_the_first_session_goes_on() -> None:
    sessions = AttachedSessions(ServedSession)
    first, peer = FakeByteStream.pair()
    attaching = asyncio.create_task(sessions.attach(first, SessionInfo("id")))
    await sessions.get("id")
    second, _ = FakeByteStream.pair()
    with pytest.raises(AlreadyExistsError, match="session id already exists"):
        await sessions.attach(second, SessionInfo("id"))
    assert second.closed
    assert not first.closed
    await peer.close()
    await attaching


@pytest.mark.parametrize("name", ["", "x" * 1025])
async def test_id_that_is_none_is_refused(name: str) -> None:
    ours, _ = FakeByteStream.pair()
    with pytest.raises(InvalidArgumentError, match="ID"):
        await AttachedSessions(ServedSession).attach(ours, SessionInfo(name))
    assert ours.closed
