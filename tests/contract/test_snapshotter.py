from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.differ import DifferContract
from tests.contract.layers import LayersContract
from tests.contract.snapshots import SnapshotsContract
from tests.fakes.content import FakeContent
from tests.support.snapshotter import Parts, local, over_grpc


@pytest.fixture(params=["erofs", "overlayfs", "native"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestLocal(SnapshotsContract, LayersContract, DifferContract):
    @pytest.fixture
    async def parts(self, tmp_path: Path, driver: str) -> AsyncIterator[Parts]:
        async with local(tmp_path / "a,b:c", driver, FakeContent()) as parts:
            yield parts


class TestOverGrpc(SnapshotsContract, LayersContract, DifferContract):
    @pytest.fixture
    async def parts(self, tmp_path: Path, driver: str) -> AsyncIterator[Parts]:
        async with local(tmp_path / "root", driver, FakeContent()) as served, over_grpc(served) as parts:
            yield parts
