"""Clients of a real runtimed keep the contracts that those of the fake engine keep."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sampan.client.maintenance import HostClient
from sampan.client.runtime.archives import ArchivesClient
from sampan.client.runtime.containers import ContainersClient
from sampan.client.runtime.execs import ExecsClient
from sampan.client.runtime.networks import NetworksClient
from sampan.client.runtime.volumes import VolumesClient
from sampan.resource.container_spec import ContainerSpec, Namespaces
from sampan.resource.protocols import Archives, Containers, Execs, Host, Networks
from sampan.resource.volume import VolumeRequest
from tests.contract.archives import ArchivesContract
from tests.contract.containers import ContainersContract
from tests.contract.execs import ExecsContract
from tests.contract.maintenance import HostContract
from tests.contract.networks import NetworksContract
from tests.integration.runtimed.runtimed_process import Runtimed, mounts_below, running

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")]


@pytest.fixture
async def runtimed(tmp_path: Path) -> AsyncIterator[Runtimed]:
    async with running(tmp_path) as (process, _):
        yield process
    assert mounts_below(tmp_path) == []


class TestContainers(ContainersContract):
    @pytest.fixture
    def containers(self, runtimed: Runtimed) -> Containers:
        assert runtimed.channel is not None
        return ContainersClient(runtimed.channel)

    def spec(self, name: str, *cmd: str, **process: bool) -> ContainerSpec:
        plain = super().spec(name, *cmd, **process)
        process_in_root = replace(plain.process, env=("PATH=/bin",))
        return replace(plain, chain_id="busybox", process=process_in_root, namespaces=Namespaces(network="none"))


class TestNetworks(NetworksContract):
    @pytest.fixture
    async def networks(self, runtimed: Runtimed) -> AsyncIterator[Networks]:
        assert runtimed.channel is not None
        client = NetworksClient(runtimed.channel)
        yield client
        await client.prune()

    @pytest.fixture
    async def container(self, runtimed: Runtimed) -> AsyncIterator[str]:
        container_id = await runtimed.begin("sleep", "1000", network="bridge")
        yield container_id
        await runtimed.remove(container_id)


class TestExecs(ExecsContract):
    @pytest.fixture
    def execs(self, runtimed: Runtimed) -> Execs:
        assert runtimed.channel is not None
        return ExecsClient(runtimed.channel)

    @pytest.fixture
    async def created(self, runtimed: Runtimed) -> AsyncIterator[str]:
        container_id = await runtimed.create("sleep", "1000")
        yield container_id
        await runtimed.remove(container_id)

    @pytest.fixture
    async def running(self, runtimed: Runtimed) -> AsyncIterator[str]:
        container_id = await runtimed.begin("sleep", "1000")
        yield container_id
        await runtimed.remove(container_id)


class TestArchives(ArchivesContract):
    @pytest.fixture
    async def volume(self, runtimed: Runtimed) -> AsyncIterator[str]:
        assert runtimed.channel is not None
        volumes = VolumesClient(runtimed.channel)
        name = (await volumes.create(VolumeRequest())).name
        yield name
        await volumes.remove(name)

    @pytest.fixture
    def archives(self, runtimed: Runtimed) -> Archives:
        assert runtimed.channel is not None
        return ArchivesClient(runtimed.channel, runtimed.run_root / "runtimed.hand.sock")

    @pytest.fixture
    async def container(self, runtimed: Runtimed) -> AsyncIterator[str]:
        container_id = await runtimed.begin("sleep", "1000")
        yield container_id
        await runtimed.remove(container_id)


class TestHost(HostContract):
    @pytest.fixture
    def host(self, runtimed: Runtimed) -> Host:
        assert runtimed.channel is not None
        return HostClient(runtimed.channel)
