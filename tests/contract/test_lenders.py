import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildd.session.protocol import Session
from tests.contract.lenders import AGENTS, SECRETS, LenderContract
from tests.fakes.build_sessions import FakeLender, FakeLenders
from tests.fakes.session_client import FakeSessionClient, attached


class TestClientSession(LenderContract):
    @pytest.fixture
    async def session(self) -> AsyncIterator[Session]:
        client = FakeSessionClient(secrets=dict(SECRETS), agents=set(AGENTS))
        with tempfile.TemporaryDirectory() as directory:
            async with attached(client, Path(directory)) as session:
                yield session


class TestFakeLender(LenderContract):
    @pytest.fixture
    async def session(self) -> Session:
        return await FakeLenders({"s": FakeLender(dict(SECRETS), set(AGENTS))}).get("s")
