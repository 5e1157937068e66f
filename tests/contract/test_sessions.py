import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from buildd.session.attached import AttachedSessions
from buildd.session.protocol import ClientContent, Credentials, SessionInfo, Sessions
from buildd.wire.session.session import ServedSession
from sampan.oci.digest import Digest
from tests.contract.sessions import (
    AGENTS,
    BLOB,
    DENIED,
    DIRECTORY,
    LOGINS,
    METHODS,
    SECRETS,
    UPLOAD,
    WHY,
    ClientContentContract,
    SessionContract,
    SessionParts,
    SessionsContract,
)
from tests.fakes.build_sessions import FakeSession, FakeSessions
from tests.fakes.session_client import FakeSessionClient, attached, denial

DIGEST = Digest.of(BLOB)


class TestClientSession(SessionContract):
    @pytest.fixture
    async def parts(self) -> AsyncIterator[SessionParts]:
        async with AsyncExitStack() as stack:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (place / "context").mkdir()
            for name, text in DIRECTORY.items():
                (place / "context" / name).write_text(text)
            client = FakeSessionClient(
                directories={"context": place / "context"},
                secrets=dict(SECRETS),
                logins=dict(LOGINS),
                agents=set(AGENTS),
                uploads={UPLOAD: BLOB},
                stores={"store": {DIGEST: (BLOB, {})}},
                verdicts={DENIED: denial(WHY)},
            )
            connection = await stack.enter_async_context(AsyncExitStack())
            session = await connection.enter_async_context(attached(client, place))

            def tree() -> Mapping[str, bytes]:
                return {name.decode(): data for name, (_, data) in client.trees["tree"].items()}

            yield SessionParts(session, lambda name: (client.files[name], client.words[name]), tree, connection.aclose)


class TestFakeSession(SessionContract):
    @pytest.fixture
    def parts(self) -> SessionParts:
        session = FakeSession(
            SessionInfo("s", methods=METHODS),
            {"context": dict(DIRECTORY)},
            dict(SECRETS),
            {host: Credentials(*login) for host, login in LOGINS.items()},
            set(AGENTS),
            {UPLOAD: BLOB},
            {"store": {DIGEST: BLOB}},
            denied={DENIED: WHY},
        )

        async def end() -> None:
            session.ended = True

        return SessionParts(session, session.files.__getitem__, lambda: session.trees["tree"], end)


class TestClientsContent(ClientContentContract):
    @pytest.fixture
    async def content(self, tmp_path: Path) -> AsyncIterator[ClientContent]:
        client = FakeSessionClient(stores={"store": {DIGEST: (BLOB, {})}})
        async with attached(client, tmp_path) as session:
            yield session.content("store")


class TestFakeContent(ClientContentContract):
    @pytest.fixture
    def content(self) -> ClientContent:
        return FakeSession(stores={"store": {DIGEST: BLOB}}).content("store")


class TestAttachedSessions(SessionsContract):
    @pytest.fixture
    def sessions(self) -> Sessions:
        return AttachedSessions(ServedSession)


class TestFakeSessions(SessionsContract):
    @pytest.fixture
    def sessions(self) -> Sessions:
        return FakeSessions(expecting=True)
