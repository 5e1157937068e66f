import pytest

from tests.contract.sandbox_host import SandboxHostContract
from tests.fakes.crashes import Steps
from tests.fakes.pods import FakeSandboxHost, PodMachine


class TestFakeSandboxHost(SandboxHostContract):
    @pytest.fixture
    def host(self) -> FakeSandboxHost:
        return FakeSandboxHost(PodMachine(), Steps())
