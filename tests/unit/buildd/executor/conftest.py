from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.unit.buildd.executor.executing import Yard, yard


@pytest_asyncio.fixture
async def executing(tmp_path: Path) -> AsyncIterator[Yard]:
    async with yard(tmp_path) as made:
        yield made
