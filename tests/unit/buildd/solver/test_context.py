"""What steps tell builds, and what is held for those."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from buildd.protocol import Output, Tree
from buildd.solver.context import Holding, VertexProgress, Work
from sampan.build.progress import Vertex, VertexLog, VertexStatus
from sampan.errors import NotFoundError
from sampan.oci.digest import Digest
from tests.fakes.buildd import FakeProgress


def view(progress: FakeProgress, name: str = "RUN") -> VertexProgress:
    return VertexProgress(Vertex(Digest.of(name.encode()), name), progress, lambda: 7)


class Held:
    """A context that knows who has entered and left it."""

    def __init__(self) -> None:
        self.entered: asyncio.Task[object] | None = None
        self.left: asyncio.Task[object] | None = None

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Output]:
        self.entered = asyncio.current_task()
        try:
            yield Tree()
        finally:
            self.left = asyncio.current_task()


async def test_what_is_held_is_left_with_the_last_user_and_by_the_task_that_entered_it() -> None:
    held, holding = Held(), Holding()
    holding.join()
    holding.join()
    assert await holding.enter(held()) == Tree()
    await holding.release()
    assert held.left is None
    await holding.release()
    assert held.left is held.entered is not asyncio.current_task()


async def test_what_is_to_be_done_at_last_is_done_also_if_whoever_leaves_is_cancelled() -> None:
    leaving, may_leave, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[Output]:
        yield Tree()
        leaving.set()
        await may_leave.wait()

    async def do() -> None:
        done.set()

    holding = Holding()
    holding.join()
    await holding.enter(slow())
    await holding.at_last(do)
    releasing = asyncio.create_task(holding.release())
    await leaving.wait()
    releasing.cancel()
    may_leave.set()
    await asyncio.wait([releasing])
    assert done.is_set()


async def test_what_cannot_be_entered_says_why_to_whoever_enters_it() -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[Output]:
        raise NotFoundError("no such directory")
        yield

    holding = Holding()
    holding.join()
    with pytest.raises(NotFoundError, match="no such directory"):
        await holding.enter(broken())
    await holding.release()


async def test_entering_can_be_cancelled() -> None:
    entering, left = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[Output]:
        try:
            entering.set()
            await asyncio.Event().wait()
            yield Tree()
        finally:
            left.set()

    holding = Holding()
    holding.join()
    task = asyncio.create_task(holding.enter(slow()))
    await entering.wait()
    task.cancel()
    await asyncio.wait([task])
    assert left.is_set()
    await holding.release()


async def test_what_is_to_be_done_at_last_is_done_even_if_that_was_before() -> None:
    done: list[str] = []

    async def note(name: str) -> None:
        done.append(name)

    holding = Holding()
    holding.join()
    await holding.at_last(lambda: note("later"))
    assert done == []
    await holding.release()
    await holding.at_last(lambda: note("late"))
    assert done == ["later", "late"]


async def test_a_build_that_joins_late_is_told_the_end_of_what_was_said() -> None:
    work, early, late = Work(), FakeProgress(), FakeProgress()
    work.join(view(early), ["a"])
    for number in range(300):
        work.log(b"%04d" % number * 256)
    work.join(view(late), ["b"])
    work.log(b"end", 2)
    assert early.logs.startswith(b"0000")
    assert late.logs == early.logs[-(256 << 10) - 3 :]
    assert isinstance(late.updates[-1], VertexLog)
    assert late.updates[-1].stream == 2
    assert work.sessions() == ["a", "b"]


async def test_each_build_is_told_by_the_name_that_it_knows() -> None:
    work, one, other = Work(), FakeProgress(), FakeProgress()
    first, second = view(one, "one"), view(other, "other")
    work.join(first, ["a"])
    work.join(second, ["b"])
    work.status("extracting", current=1, total=2)
    work.status("extracting", current=2, total=2, done=True)
    statuses = [each for each in other.updates if isinstance(each, VertexStatus)]
    assert [(each.vertex, each.current, each.completed_ns) for each in statuses] == [
        (second.digest, 1, 0),
        (second.digest, 2, 7),
    ]
    assert work.vertex == first.digest
    await work.leave(first)
    assert work.vertex == second.digest
    work.log(b"more")
    assert one.logs == b""
    assert other.logs == b"more"
