from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.unit.buildd.build.building import Building
from tests.unit.buildd.solver.solving import bench


@pytest_asyncio.fixture
async def building(tmp_path: Path) -> AsyncIterator[Building]:
    async with bench(tmp_path) as made:
        building = Building(made)
        yield building
        await building.builds.close()
