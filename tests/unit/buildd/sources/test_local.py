"""Clients' directories: kept between builds, never shared by two that would change them."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from buildd.files.index import read_stamp
from buildd.llb.ops import SourceOp
from buildd.protocol import Directory
from buildd.session.clients import Clients
from buildd.session.protocol import LocalFiles, Progress, SessionInfo
from buildd.sources.directories import LocalDirectories
from buildd.sources.local import LocalSource
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.fsutil.receiver import SyncReport
from tests.fakes.build_sessions import FakeSession, FakeSessions
from tests.unit.buildd.sources.clients import FakeContext


class Client(FakeSession):
    """Sends nothing of its context before it may."""

    def __init__(self, info: SessionInfo, directories: dict[str, dict[str, str]]) -> None:
        super().__init__(info, directories)
        self.begun: list[str] = []
        self.over: list[str] = []
        self.held = "context"
        self.may = asyncio.Event()
        self.may.set()

    async def sync(self, files: LocalFiles, into: Path, progress: Progress | None = None) -> SyncReport:
        self.begun.append(files.name)
        try:
            if files.name == self.held:
                await self.may.wait()
            return await super().sync(files, into, progress)
        finally:
            self.over.append(files.name)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what it looks at has no event
            await asyncio.sleep(0.01)


class World:
    def __init__(self, root: Path) -> None:
        self.session = Client(SessionInfo("s1", shared_key="host"), {"context": {"a": "A"}})
        self.directories = LocalDirectories(root)
        self.directories.recover()
        self.source = LocalSource(self.directories, Clients(FakeSessions(self.session)))

    async def fetch(self, context: FakeContext, name: str = "context", **attributes: str) -> Path:
        attrs = {key.replace("_", "."): value for key, value in attributes.items()}
        op = SourceOp(f"local://{name}", attrs)
        assert (await self.source.pin(op)).key == ""
        output = await self.source.fetch(op, context)
        assert isinstance(output, Directory)
        return output.path


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "local")


async def test_the_next_build_gets_the_same_directory_with_the_differences(world: World) -> None:
    async with FakeContext("s1") as context:
        first = await world.fetch(context)
        assert os.listdir(first) == ["a"]
        assert context.statuses == {"transferring context:": (1, 0, True)}
    world.session.directories["context"] = {"b": "B"}
    async with FakeContext("gone", "s1") as context:
        assert await world.fetch(context) == first
        assert os.listdir(first) == ["b"]


async def test_a_stamp_stays_while_nothing_changes_and_is_gone_during_a_change(world: World) -> None:
    stamps: list[str] = []
    world.session.during = lambda path: stamps.append(read_stamp(path))
    for _ in range(2):
        async with FakeContext("s1") as context:
            path = await world.fetch(context)
    before = read_stamp(path)
    async with FakeContext("s1") as context:
        await world.fetch(context)
    assert before == read_stamp(path) != ""
    world.session.directories["context"] = {"a": "changed"}
    async with FakeContext("s1") as context:
        await world.fetch(context)
    assert read_stamp(path) not in ("", before)
    assert stamps == [""] * 4


async def test_a_sync_that_fails_leaves_no_stamp(world: World) -> None:
    async with FakeContext("s1") as context:
        path = await world.fetch(context)
    world.session.during = lambda _: 1 / 0
    async with FakeContext("s1") as context:
        with pytest.raises(ZeroDivisionError):
            await world.fetch(context)
    assert read_stamp(path) == ""


async def test_one_in_use_is_left_alone(world: World) -> None:
    async with FakeContext("s1") as one, FakeContext("s1") as two:
        first, second = await world.fetch(one), await world.fetch(two)
        assert first != second
        records = await world.directories.records()
        assert [each.in_use for each in records] == [True, True]
        assert await world.directories.remove([each.id for each in records]) == []
    async with FakeContext("s1") as context:
        assert await world.fetch(context) == first


async def test_keys_tell_directories_apart(world: World) -> None:
    world.session.directories["dockerfile"] = {"Dockerfile": "D"}
    async with FakeContext("s1") as context:
        paths = {
            await world.fetch(context),
            await world.fetch(context, local_sharedkeyhint="other"),
            await world.fetch(context, "dockerfile"),
        }
        assert len(paths) == 3


async def test_copies_are_listed_and_removed(world: World) -> None:
    async with FakeContext("s1") as context:
        path = await world.fetch(context)
    (record,) = await world.directories.records()
    assert (record.description, record.in_use) == ("local source for context", False)
    assert record.size_bytes > 0
    assert record.created_ns <= record.used_ns
    assert await world.directories.remove([record.id, "none", "../x"]) == [record.id]
    assert await world.directories.records() == []
    assert not path.exists()


async def test_a_start_removes_what_was_being_removed(world: World, tmp_path: Path) -> None:
    (tmp_path / "local/x-0.gone/files").mkdir(parents=True)
    world.directories.recover()
    assert await world.directories.records() == []


async def test_what_is_sent_is_what_is_asked_for(world: World) -> None:
    async with FakeContext("s1") as context:
        await world.fetch(
            context,
            local_includepattern='["a"]',
            local_excludepatterns='["b"]',
            local_followpaths='["c","d*"]',
            local_differ="none",
            local_session="s1",
        )
    assert world.session.synced[0][0] == LocalFiles("context", ("a",), ("b",), ("c", "d*"), compare=False)


@pytest.mark.parametrize(
    "attributes",
    [{"local_includepattern": "a"}, {"local_followpaths": "[1]"}, {"local_differ": "x"}, {"local_new": "1"}],
)
async def test_attributes_that_cannot_be_are_named(world: World, attributes: dict[str, str]) -> None:
    async with FakeContext("s1") as context:
        with pytest.raises(InvalidArgumentError, match=next(iter(attributes)).replace("_", ".")):
            await world.fetch(context, **attributes)


async def test_nobody_is_there(world: World) -> None:
    async with FakeContext("s2") as context:
        with pytest.raises(NotFoundError, match="no active session"):
            await world.fetch(context)
    async with FakeContext("s1") as context:
        with pytest.raises(NotFoundError, match="no directory other"):
            await world.fetch(context, "other")


@pytest.fixture
async def again(world: World) -> World:
    """Before the second build of a client: the first has asked for two directories. The context has to wait now."""
    world.session.directories["dockerfile"] = {"Dockerfile": "D"}
    async with world.source.ahead("s1"), FakeContext("s1") as context:
        await world.fetch(context, "dockerfile")
        await world.fetch(context, local_followpaths='["a"]')
    world.session.begun.clear()
    world.session.over.clear()
    world.session.may.clear()
    return world


async def test_what_the_last_build_asked_for_is_brought_before_the_next_asks(again: World) -> None:
    async with again.source.ahead("s1"), FakeContext("s1") as context:
        first = await again.fetch(context, "dockerfile")
        await until(lambda: "context" in again.session.begun)
        asking = asyncio.create_task(again.fetch(context, local_followpaths='["a"]'))
        again.session.may.set()
        second = await asking
        assert (os.listdir(first), os.listdir(second)) == (["Dockerfile"], ["a"])
        assert context.statuses["transferring context:"] == (0, 0, True)
        assert [each.in_use for each in await again.directories.records()] == [True, True]
    assert sorted(again.session.begun) == sorted(again.session.over) == ["context", "dockerfile"]
    assert [each.in_use for each in await again.directories.records()] == [False, False]


async def test_the_walk_of_many_files_waits_for_what_is_small(again: World) -> None:
    again.session.directories["context"] = {str(number): "" for number in range(100)}
    again.session.may.set()
    async with again.source.ahead("s1"), FakeContext("s1") as context:
        await again.fetch(context, "dockerfile")
        await again.fetch(context, local_followpaths='["a"]')
    again.session.may.clear()
    again.session.begun.clear()
    again.session.held = "dockerfile"
    async with again.source.ahead("s1"), FakeContext("s1") as context:
        asking = asyncio.create_task(again.fetch(context, "dockerfile"))
        await until(lambda: again.session.begun == ["dockerfile"])
        again.session.may.set()
        await asking
        await until(lambda: again.session.begun == ["dockerfile", "context"])
        again.session.held = "nothing"
        assert len(os.listdir(await again.fetch(context, local_followpaths='["a"]'))) == 100
    assert again.session.begun == ["dockerfile", "context"]


async def test_other_files_than_the_last_time_are_asked_for_in_the_same_copy(again: World) -> None:
    async with again.source.ahead("s1"), FakeContext("s1") as context:
        await again.fetch(context, "dockerfile")
        await until(lambda: "context" in again.session.begun)
        asking = asyncio.create_task(again.fetch(context))
        await until(lambda: "context" in again.session.over)
        again.session.may.set()
        await asking
    assert sorted(again.session.begun) == ["context", "context", "dockerfile"]
    assert len(await again.directories.records()) == 2


async def test_what_a_build_does_not_ask_for_is_given_up_at_its_end(again: World) -> None:
    async with again.source.ahead("s1"), FakeContext("s1") as context:
        await again.fetch(context, "dockerfile")
        await until(lambda: "context" in again.session.begun)
    assert sorted(again.session.over) == ["context", "dockerfile"]
    assert [each.in_use for each in await again.directories.records()] == [False, False]
    async with again.source.ahead("s1"), FakeContext("s1") as context:
        await again.fetch(context, "dockerfile")  # all that the last build needed
    assert sorted(again.session.begun) == ["context", "dockerfile", "dockerfile"]


async def test_a_build_that_is_cancelled_leaves_no_transfer(again: World) -> None:
    async with again.source.ahead("s1"), FakeContext("s1") as context:
        await again.fetch(context, "dockerfile")
        asking = asyncio.create_task(again.fetch(context, local_followpaths='["a"]'))
        await until(lambda: "context" in again.session.begun and "transferring context:" in context.statuses)
        asking.cancel()
        await asyncio.wait((asking,))
        assert sorted(again.session.over) == ["context", "dockerfile"]
    assert [each.in_use for each in await again.directories.records()] == [False, False]


async def test_what_could_not_be_brought_ahead_is_asked_for_once_more(again: World) -> None:
    again.session.may.set()
    del again.session.directories["context"]
    async with again.source.ahead("s1"), FakeContext("s1") as context:
        await again.fetch(context, "dockerfile")
        with pytest.raises(NotFoundError, match="no directory context"):
            await again.fetch(context, local_followpaths='["a"]')
    assert sorted(again.session.begun) == ["context", "context", "dockerfile"]


async def test_a_client_that_never_comes_costs_its_build_nothing(again: World) -> None:
    async with again.source.ahead("s2"), FakeContext("s2") as context:
        with pytest.raises(NotFoundError, match="no active session"):
            await again.fetch(context)
