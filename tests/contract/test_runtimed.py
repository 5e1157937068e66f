"""What the fake engine has of runtimed keeps the contracts; a real runtimed does in its integration tests."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runtimed.events import Events as EventsCore
from runtimed.local.host import LocalEvents
from runtimed.wire.archives_servicer import ArchivesServicer
from runtimed.wire.events_servicer import EventsServicer
from runtimed.wire.host_servicer import HostServicer
from sampan.api.runtime.v1.archives_pb2_grpc import add_ArchivesServicer_to_server
from sampan.api.runtime.v1.events_pb2_grpc import add_EventsServicer_to_server
from sampan.api.runtime.v1.execs_pb2_grpc import add_ExecsServicer_to_server
from sampan.api.runtime.v1.host_pb2_grpc import add_HostServicer_to_server
from sampan.client.maintenance import HostClient
from sampan.client.runtime.archives import ArchivesClient
from sampan.client.runtime.events import EventsClient
from sampan.client.runtime.execs import ExecsClient
from sampan.errors import NotFoundError
from sampan.handing.desk import Desk
from sampan.resource.event import Event
from sampan.resource.protocols import Archives, Events, Execs, Host
from tests.contract.archives import ArchivesContract
from tests.contract.events import EventsContract
from tests.contract.execs import ExecsContract
from tests.contract.maintenance import HostContract
from tests.contract.served import served
from tests.fakes.archives import DIRECTORY, FakeArchives
from tests.fakes.engine_containers import State
from tests.fakes.engine_runtime import FakeEvents, FakeHost, FakeRuntime

CONTAINER = "c" * 64
VOLUME = "content"


def find(container: str) -> str:
    if container != CONTAINER:
        raise NotFoundError(f"No such container: {container}")
    return container


@pytest.fixture
def container() -> str:
    return CONTAINER


def fake_archives() -> FakeArchives:
    return FakeArchives(find, volumes={VOLUME: {"/": DIRECTORY}})


@pytest.fixture
def volume() -> str:
    return VOLUME


class TestFakeArchives(ArchivesContract):
    @pytest.fixture
    def archives(self) -> Archives:
        return fake_archives()


class TestFakeArchivesOverGrpc(ArchivesContract):
    @pytest.fixture
    async def archives(self, tmp_path: Path) -> AsyncIterator[Archives]:
        desk = Desk(tmp_path / "desk")
        servicer = ArchivesServicer(fake_archives(), desk)
        async with served(lambda server: add_ArchivesServicer_to_server(servicer, server)) as channel:
            yield ArchivesClient(channel, tmp_path / "desk")
        await desk.close()


class TestFakeArchivesOfAnotherHost(ArchivesContract):
    @pytest.fixture
    async def archives(self) -> AsyncIterator[Archives]:
        servicer = ArchivesServicer(fake_archives())
        async with served(lambda server: add_ArchivesServicer_to_server(servicer, server)) as channel:
            yield ArchivesClient(channel)


class Forgetful:
    """A journal that keeps nothing."""

    async def append_events(self, events: AsyncIterable[Event] | object) -> None:
        """Nobody reads it."""


@asynccontextmanager
async def over_grpc(events: Events) -> AsyncIterator[Events]:
    async with served(lambda server: add_EventsServicer_to_server(EventsServicer(events), server)) as channel:
        yield EventsClient(channel)


class TestLocalEvents(EventsContract):
    @pytest.fixture
    def events(self) -> Events:
        return LocalEvents(EventsCore(Forgetful(), ()), asyncio.Event())


class TestLocalEventsOverGrpc(EventsContract):
    @pytest.fixture
    async def events(self) -> AsyncIterator[Events]:
        async with over_grpc(LocalEvents(EventsCore(Forgetful(), ()), asyncio.Event())) as client:
            yield client


class TestFakeEvents(EventsContract):
    @pytest.fixture
    def events(self) -> Events:
        return FakeEvents()


class TestFakeEventsOverGrpc(EventsContract):
    @pytest.fixture
    async def events(self) -> AsyncIterator[Events]:
        async with over_grpc(FakeEvents()) as client:
            yield client


class TestFakeExecsOverGrpc(ExecsContract):
    @pytest.fixture
    async def runtime(self) -> AsyncIterator[FakeRuntime]:
        runtime = FakeRuntime()
        yield runtime
        for process in runtime.execs.processes.values():
            process.kill()

    @pytest.fixture
    def created(self, runtime: FakeRuntime) -> str:
        return runtime.create("sleep")

    @pytest.fixture
    def running(self, runtime: FakeRuntime) -> str:
        made = runtime.create("sleep")
        runtime.containers.held[made].record.state.status = State.RUNNING
        return made

    @pytest.fixture
    async def execs(self, runtime: FakeRuntime) -> AsyncIterator[Execs]:
        async with served(lambda server: add_ExecsServicer_to_server(runtime.execs, server)) as channel:
            yield ExecsClient(channel)


class TestFakeHost(HostContract):
    @pytest.fixture
    def host(self) -> Host:
        return FakeHost(FakeEvents())


class TestFakeHostOverGrpc(HostContract):
    @pytest.fixture
    async def host(self) -> AsyncIterator[Host]:
        servicer = HostServicer(FakeHost(FakeEvents()))
        async with served(lambda server: add_HostServicer_to_server(servicer, server)) as channel:
            yield HostClient(channel)
