"""Clients of a container's streams, from before its start to after its end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtimed.containers.memory_store import Entry
from runtimed.streams.streams import Attachment
from sampan.errors import ConflictError, StartError, UnavailableError, UnimplementedError
from sampan.resource.container import Status
from sampan.resource.container_spec import ConsoleSize, ContainerSpec, LogConfig, Process
from sampan.resource.streams import AttachOptions, LogQuery
from sampan.store.database import Store
from tests.fakes.runtimed_engine import Engine, World, patch_kernel

SPEC = ContainerSpec(name="web", chain_id="base", process=Process(cmd=("serve",)))
OUT = b"\x02"


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    async with Store(tmp_path / "metadata.db", "runtimed.schema", durable=False) as store:
        world = World(store, tmp_path)
        patch_kernel(monkeypatch, lambda: world.host)
        async with world.engine() as engine:
            yield engine


async def made(engine: Engine, spec: ContainerSpec = SPEC) -> Entry:
    return engine.memory.find((await engine.containers.create(spec))[0].id)


async def silent() -> AsyncIterator[bytes | ConsoleSize]:
    words: tuple[bytes, ...] = ()
    for word in words:
        yield word


async def heard(engine: Engine, attachment: Attachment) -> bytes:
    return b"".join([f.data async for frames in engine.streams.converse(attachment, silent()) for f in frames])


async def test_a_client_that_attached_before_the_start_hears_everything(engine: Engine) -> None:
    entry = await made(engine)
    hearing = asyncio.create_task(heard(engine, engine.streams.attach(entry, AttachOptions())))
    await engine.lifecycle.start(entry)
    process = engine.host.first(entry.id)
    process.clients[0].send(OUT + b"first words")
    process.end(0)
    assert await hearing == b"first words"
    await engine.until(lambda: entry.status is Status.EXITED)


async def test_several_clients_hear_the_same_from_where_they_came_in(engine: Engine) -> None:
    entry = await made(engine)
    await engine.lifecycle.start(entry)
    hearing = [
        asyncio.create_task(heard(engine, engine.streams.attach(entry, AttachOptions()))) for _ in range(2)
    ]  # fmt: skip
    process = engine.host.first(entry.id)
    for client in process.clients:
        client.send(OUT + b"words")
    process.end(0)
    assert await asyncio.gather(*hearing) == [b"words", b"words"]


async def test_a_client_of_a_start_that_fails_is_let_go(engine: Engine) -> None:
    entry = await made(engine)
    hearing = asyncio.create_task(heard(engine, engine.streams.attach(entry, AttachOptions())))
    engine.host.fails["create in runtime"] = StartError("no")
    with pytest.raises(StartError):
        await engine.lifecycle.start(entry)
    assert await hearing == b""
    assert not entry.pending
    assert not entry.connections


async def test_a_client_that_leaves_before_the_start_is_forgotten(engine: Engine) -> None:
    entry = await made(engine)
    attachment = engine.streams.attach(entry, AttachOptions())
    for _ in range(2):
        engine.streams.leave(attachment)
    await engine.lifecycle.start(entry)
    assert engine.host.first(entry.id).clients == []


async def test_nobody_attaches_to_what_is_paused(engine: Engine) -> None:
    entry = await made(engine)
    await engine.lifecycle.start(entry)
    await engine.lifecycle.pauses.pause(entry)
    with pytest.raises(ConflictError, match="unpause the container before attaching"):
        engine.streams.attach(entry, AttachOptions())


async def test_a_client_of_one_that_has_just_ended_hears_nothing(engine: Engine) -> None:
    entry = await made(engine)
    await engine.lifecycle.start(entry)
    engine.host.first(entry.id).end(0)
    assert await heard(engine, engine.streams.attach(entry, AttachOptions())) == b""


async def test_the_end_of_the_service_is_told_to_whoever_waits(engine: Engine) -> None:
    entry = await made(engine)
    hearing = asyncio.create_task(heard(engine, engine.streams.attach(entry, AttachOptions())))
    await asyncio.sleep(0)
    engine.stopping.set()
    with pytest.raises(UnavailableError):
        await hearing


async def test_logs_end_with_the_container_and_are_not_there_without_a_driver(engine: Engine) -> None:
    entry = await made(engine)
    await engine.lifecycle.start(entry)
    log = engine.paths.container(entry.id).json_log
    log.write_text('{"log":"one\\n","stream":"stdout","time":"2026-01-01T00:00:00.000000000Z"}\n')
    following = asyncio.create_task(_lines(engine, entry))
    with log.open("a") as file:
        file.write('{"log":"two\\n","stream":"stdout","time":"2026-01-01T00:00:01.000000000Z"}\n')
    engine.host.first(entry.id).end(0)
    assert await following == [b"one\n", b"two\n"]
    await engine.containers.remove(entry, force=True, volumes=False)
    silent_one = await made(engine, ContainerSpec(name="mute", chain_id="base", log=LogConfig("none")))
    with pytest.raises(UnimplementedError):
        await _lines(engine, silent_one)


async def _lines(engine: Engine, entry: Entry) -> list[bytes]:
    query = LogQuery(stdout=True, stderr=True, follow=True)
    return [one.line async for entries in engine.streams.logs(entry, query) for one in entries]
