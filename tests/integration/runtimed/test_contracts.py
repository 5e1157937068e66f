"""The real parts that need root, held to the contracts that the fakes of unit tests are held to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from runtimed.cgroups.naming import CgroupNames
from runtimed.containers.snapshots import OwnSnapshots
from runtimed.host.facts import read_host
from runtimed.lifecycle.idmapped import MappedMounts
from runtimed.lifecycle.mounter import LinuxMounter
from runtimed.network.core.stack import NetworkStack
from runtimed.oci.builder import OciBundles
from sampan.api.containerd.snapshots.v1 import snapshots_pb2_grpc
from sampan.client.storage.snapshots import SnapshotsClient
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.wire.channel import open_channel
from snapshotter.wire.servicer import SnapshotsServicer
from tests.contract.runtime_parts import (
    BASE,
    BundlesContract,
    MounterContract,
    MountParts,
    NetworkingContract,
    SnapshotsContract,
)
from tests.fakes.content import FakeContent
from tests.integration.network.network_lab import lab
from tests.integration.runtimed.test_bundles import busybox_root
from tests.support.snapshotter import Parts, local

pytestmark = pytest.mark.root


@asynccontextmanager
async def serving(parts: Parts, directory: Path) -> AsyncIterator[OwnSnapshots]:
    server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
    snapshots_pb2_grpc.add_SnapshotsServicer_to_server(SnapshotsServicer(parts.snapshots), server)
    server.add_insecure_port(f"unix:{directory}/s")
    await server.start()
    async with open_channel(directory / "s") as channel:
        yield OwnSnapshots(SnapshotsClient(channel, own=True))
    await server.stop(0)


class TestOwnSnapshots(SnapshotsContract):
    @pytest.fixture
    async def snapshots(self, tmp_path: Path) -> AsyncIterator[OwnSnapshots]:
        async with local(tmp_path / "root", "native", FakeContent()) as parts, serving(parts, tmp_path) as client:
            await parts.snapshots.prepare("making", None, {})
            await parts.snapshots.commit(BASE, "making", {})
            yield client


class TestNetworkStack(NetworkingContract):
    @pytest.fixture
    async def networking(self, tmp_path: Path) -> AsyncIterator[NetworkStack]:
        with lab(tmp_path) as place:
            async with place.stack() as stack:
                await stack.recover(())
                yield stack


class TestLinuxMounter(MounterContract):
    @pytest.fixture
    def parts(self, tmp_path: Path) -> MountParts:
        def is_mounted(path: Path) -> bool:  # Path.is_mount sees no bind of the same file system
            return str(path) in {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}

        return MountParts(LinuxMounter(MappedMounts(tmp_path / "i")), is_mounted)


class TestOciBundles(BundlesContract):
    @pytest.fixture
    def bundles(self) -> OciBundles:
        return OciBundles(read_host(), cgroups=CgroupNames("contract"), runtimes=("runc",))

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        made = tmp_path / "root"
        made.mkdir()
        busybox_root(made)
        return made
