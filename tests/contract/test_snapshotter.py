from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sampan.api.snapshot.v1.layers_pb2_grpc import add_LayersServicer_to_server
from sampan.client.convert.oci import DESCRIPTOR
from sampan.client.storage.snapshots import LayersClient
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from tests.contract.differ import DifferContract
from tests.contract.layers import LayersContract, StackingContract, StackParts
from tests.contract.served import served
from tests.contract.snapshots import SnapshotsContract
from tests.fakes.content import FakeContent
from tests.fakes.engine import layers_of
from tests.fakes.engine_layers import FakeLayers
from tests.support.snapshotter import Kit, Parts, local, over_grpc, tar


@pytest.fixture(params=["erofs", "overlayfs", "native"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestFakeLayersOverGrpc(StackingContract):
    @pytest.fixture
    async def stacking(self) -> AsyncIterator[StackParts]:
        fake = FakeLayers()  # type: ignore[abstract]  # what it has not is unimplemented

        def blob(text: str) -> tuple[Descriptor, Digest]:
            (layer,) = layers_of(text)
            return DESCRIPTOR.decode(layer.descriptor), Digest(layer.diff_id)

        async with served(lambda server: add_LayersServicer_to_server(fake, server)) as channel:
            yield StackParts(LayersClient(channel), blob)


@pytest.mark.root
class TestStacksOverGrpc(StackingContract):
    @pytest.fixture
    async def stacking(self, tmp_path: Path) -> AsyncIterator[StackParts]:
        async with local(tmp_path / "root", "native", FakeContent()) as served_parts, over_grpc(served_parts) as parts:
            kit = Kit(parts)
            yield StackParts(parts.layers, lambda text: kit.blob(tar(**{text: text})))


class TestLocal(SnapshotsContract, LayersContract, DifferContract):
    @pytest.fixture
    async def parts(self, tmp_path: Path, driver: str) -> AsyncIterator[Parts]:
        async with local(tmp_path / "a,b:c", driver, FakeContent()) as parts:
            yield parts


class TestOverGrpc(SnapshotsContract, LayersContract, DifferContract):
    answers_may_be_lost = True

    @pytest.fixture
    async def parts(self, tmp_path: Path, driver: str) -> AsyncIterator[Parts]:
        async with local(tmp_path / "root", driver, FakeContent()) as served, over_grpc(served) as parts:
            yield parts
