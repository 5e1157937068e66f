from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildd.executor.protocol import Container
from tests.contract.build_containers import ContainerContract
from tests.fakes.build_containers import FakeContainer
from tests.unit.buildd.executor.executing import op, yard


class TestStepContainer(ContainerContract):
    @pytest.fixture
    async def container(self, tmp_path: Path) -> AsyncIterator[Container]:
        async with yard(tmp_path) as made:
            async with made.executor.container(op(), [made.base], made.context()) as container:
                yield container
            assert not made.steps.running


class TestFakeContainer(ContainerContract):
    @pytest.fixture
    def container(self) -> Container:
        return FakeContainer(op())
