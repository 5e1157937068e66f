"""A machine for runtimed's cores."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sampan.store.database import Store
from tests.fakes.runtimed_engine import World, patch_kernel


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with Store(tmp_path / "metadata.db", "runtimed.schema", durable=False) as store:
        made = World(store, tmp_path)
        patch_kernel(monkeypatch, lambda: made.host)
        yield made
        made.host.close()
