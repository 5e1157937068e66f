"""A lab of its own for each test, and a stack in it that has recovered."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from runtimed.network.core.stack import NetworkStack
from tests.integration.network.network_lab import Lab, lab


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def stack(place: Lab) -> AsyncIterator[NetworkStack]:
    async with place.stack() as made:
        await made.recover(())
        yield made
