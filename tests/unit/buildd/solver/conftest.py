from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.unit.buildd.solver.solving import Bench, bench


@pytest_asyncio.fixture
async def solving(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as made:
        yield made
