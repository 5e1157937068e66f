import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildd.session.attached import AttachedSessions
from buildd.wire.front import Front
from buildd.wire.services.control_servicer import ControlServicer
from buildd.wire.session.session import ServedSession
from sampan.api.buildkit.control.v1.control_pb2_grpc import add_ControlServicer_to_server
from sampan.build.progress import Vertex
from sampan.build.request import Export, SolveRequest, SolveResponse, UsageRecord
from sampan.client.builds.client import BuildsClient
from sampan.errors import InternalError
from sampan.oci.digest import Digest
from sampan.wire.channel import open_channel
from tests.contract.builders import BuilderContract, BuilderParts, BuildsContract, BuildsParts, Work
from tests.contract.served import served
from tests.fakes.buildd import Gate, failing
from tests.fakes.builder import FakeBuilder, FakeBuilds
from tests.unit.buildd.build.building import Building
from tests.unit.buildd.solver.solving import bench

RUN = "/bin/sh -c make"
APP = (Export("image", {"name": "app"}, "0"),)


def real_work(building: Building) -> Work:
    building.dockerfile("FROM base\nRUN make\n")
    gate = Gate({"made": b""})
    executor = building.bench.executor

    def bad() -> SolveRequest:
        executor.behaviours[RUN] = failing
        return building.request()

    def stuck() -> SolveRequest:
        executor.behaviours[RUN] = gate
        return building.request()

    return Work(lambda: building.request(exports=APP), bad, stuck, gate.running.wait, gate.left.wait)


def fake_work(builder: FakeBuilder) -> Work:
    builder.records = [UsageRecord("one", 10)]

    def good() -> SolveRequest:
        builder.updates = [[Vertex(Digest.of(b"step"), "RUN make", started_ns=1, completed_ns=2)]]
        builder.answer = SolveResponse({"image.name": "app"})
        return SolveRequest("build", "session")

    def bad() -> SolveRequest:
        builder.answer = InternalError('process "make" did not complete successfully: exit code: 7')
        return SolveRequest("build", "session")

    def stuck() -> SolveRequest:
        builder.go_on.clear()
        return SolveRequest("build", "session")

    async def cancelled() -> None:
        assert builder.cancelled == 1

    return Work(good, bad, stuck, builder.building.wait, cancelled)


class TestBuilds(BuildsContract):
    @pytest.fixture
    async def parts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BuildsParts]:
        monkeypatch.setattr("buildd.build.builds._BEGIN_S", 0.01)
        async with bench(tmp_path) as made:
            building = Building(made)
            yield BuildsParts(building.builds, real_work(building))
            await building.builds.close()


class TestFakeBuilds(BuildsContract):
    @pytest.fixture
    def parts(self) -> BuildsParts:
        fake = FakeBuilds()
        return BuildsParts(fake, fake_work(fake.builder))


class TestBuilderOverGrpc(BuilderContract):
    @pytest.fixture
    async def parts(self, tmp_path: Path) -> AsyncIterator[BuilderParts]:
        async with bench(tmp_path) as made:
            building = Building(made)
            with tempfile.TemporaryDirectory() as place:  # a short path: a socket's has 107 bytes
                behind, before = Path(place, "behind"), Path(place, "before")
                front = Front(AttachedSessions(ServedSession))
                async with (
                    served(
                        lambda server: add_ControlServicer_to_server(ControlServicer(building.builds), server), behind
                    ),
                    front.listening(before, behind),
                    open_channel(before) as channel,
                ):
                    yield BuilderParts(BuildsClient(channel, before), real_work(building))
            await building.builds.close()


class TestFakeBuilder(BuilderContract):
    @pytest.fixture
    async def parts(self) -> AsyncIterator[BuilderParts]:
        with tempfile.TemporaryDirectory() as place:
            fake = FakeBuilder(socket=Path(place, "s"))
            async with await asyncio.start_unix_server(lambda _, writer: writer.close(), fake.socket):
                yield BuilderParts(fake, fake_work(fake))
