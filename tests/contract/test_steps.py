"""The fake steps keep the contract, called directly and over gRPC; runtimed's do in its integration tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from runtimed.wire.steps_servicer import StepsServicer
from sampan.api.runtime.v1 import steps_pb2 as pb
from sampan.api.runtime.v1.steps_pb2_grpc import StepsStub, add_StepsServicer_to_server
from sampan.build.step import (
    DirectorySource,
    FileSource,
    SnapshotSource,
    SocketSource,
    StepMount,
    StepNetwork,
    StepProcess,
    StepSecurity,
    StepSpec,
    TmpfsSource,
)
from sampan.client.convert.steps import spec_from_proto, spec_to_proto
from sampan.client.runtime.steps import StepsClient
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ConsoleSize, Resources, Ulimit
from sampan.resource.protocols import Steps
from sampan.wire.channel import rpc_errors
from tests.contract.served import served
from tests.contract.steps import StepsContract, step
from tests.fakes.steps import FakeSteps


@pytest.fixture
def root() -> str:
    return "root"


class TestFakeSteps(StepsContract):
    @pytest.fixture
    def steps(self) -> Steps:
        return FakeSteps({"root"})


class TestFakeStepsOverGrpc(StepsContract):
    @pytest.fixture
    async def steps(self) -> AsyncIterator[Steps]:
        fake = StepsServicer(FakeSteps({"root"}))
        async with served(lambda server: add_StepsServicer_to_server(fake, server)) as channel:
            yield StepsClient(channel)


async def test_a_client_that_leaves_ends_its_step() -> None:
    fake = FakeSteps({"root"})
    async with (
        served(lambda server: add_StepsServicer_to_server(StepsServicer(fake), server)) as channel,
        aclosing(StepsClient(channel).run(step("root", "sleep", "60"))) as output,
    ):
        await anext(output)
        assert fake.running
    async with asyncio.timeout(60):
        await fake.idle.wait()  # the server's side of the call ends by itself, after the client's


async def test_the_first_message_must_be_a_spec() -> None:
    async def requests(*messages: pb.RunStepRequest) -> AsyncIterator[pb.RunStepRequest]:
        for message in messages:
            yield message

    fake = StepsServicer(FakeSteps({"root"}))
    async with served(lambda server: add_StepsServicer_to_server(fake, server)) as channel:
        stub = StepsStub(channel)
        with pytest.raises(InvalidArgumentError, match="the first message must be `spec`"), rpc_errors():
            await stub.Run(requests(pb.RunStepRequest(stdin=b"x"))).read()


def test_a_spec_survives_the_wire() -> None:
    spec = StepSpec(
        id="0123456789ab",
        process=StepProcess(("make", "-j"), ("A=b",), "/src", "web:web", tty=True, console_size=ConsoleSize(24, 80)),
        root="build/7",
        root_read_only=True,
        hostname="here",
        extra_hosts=("db:10.0.0.1",),
        network=StepNetwork.HOST,
        security=StepSecurity.INSECURE,
        resources=Resources(memory_bytes=1 << 20, ulimits=(Ulimit("nofile", 5, 6),), shm_size_bytes=7),
        cdi_devices=("a/b=c",),
        mounts=(
            StepMount("/snapshot", SnapshotSource("k", "a/b", discard=True), read_only=True),
            StepMount("/cache", DirectorySource("/var/lib/sampan/buildd/cache/1", "x", discard=True)),
            StepMount("/tmp", TmpfsSource(5)),
            StepMount("/run/secrets/token", FileSource(b"secret", 0o440, 1, 2)),
            StepMount("/run/agent", SocketSource("/run/sampan/buildd/ssh/1")),
        ),
    )
    assert spec_from_proto(spec_to_proto(spec).spec) == spec
    assert spec_from_proto(spec_to_proto(replace(spec, mounts=())).spec) == replace(spec, mounts=())


def test_a_mount_without_a_source_is_refused() -> None:
    message = spec_to_proto(step("root", "true")).spec
    message.mounts.add(target="/mnt")
    with pytest.raises(InvalidArgumentError, match="the mount at '/mnt' of a step has no source"):
        spec_from_proto(message)
