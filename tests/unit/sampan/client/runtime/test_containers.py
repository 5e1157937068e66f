"""Lists of containers, which are asked for again and again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.client.convert import containers as convert
from sampan.client.runtime import containers as client
from sampan.client.runtime.containers import ContainersClient
from sampan.resource.container import ContainerDetails
from sampan.resource.listing import ALL
from tests.contract.served import served
from tests.fakes.engine_runtime import FakeRuntime


@asynccontextmanager
async def asked(fake: FakeRuntime) -> AsyncIterator[ContainersClient]:
    from sampan.api.runtime.v1.containers_pb2_grpc import add_ContainersServicer_to_server

    def serve(server: grpc.aio.Server) -> None:
        add_ContainersServicer_to_server(fake.containers, server)

    async with served(serve) as channel:
        yield ContainersClient(channel)


async def test_a_container_that_has_not_changed_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    decode = convert.CONTAINER.decode

    def count(message: pb.Container) -> ContainerDetails:
        decoded.append(message.id)
        return decode(message)

    monkeypatch.setattr(convert.CONTAINER, "decode", count)
    fake = FakeRuntime()
    one, two = fake.create("a", name="one"), fake.create("b", name="two")
    async with asked(fake) as containers:
        first = await containers.list(ALL)
        assert {each.name for each in first} == {"one", "two"}
        assert await containers.list(ALL) == first
        assert sorted(decoded) == sorted((one, two))
        fake.containers.held[one].record.spec.name = "other"
        assert {each.name for each in await containers.list(ALL)} == {"other", "two"}
        assert decoded[2:] == [one]


async def test_no_more_than_some_containers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_KEPT_ROWS", 2)
    fake = FakeRuntime()
    for number in range(5):
        fake.create("a", name=f"c{number}")
    async with asked(fake) as containers:
        for _ in range(2):
            assert len(await containers.list(ALL)) == 5
        assert len(containers._rows) == 2
