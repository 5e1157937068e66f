import asyncio
import itertools

from buildd.build.updates import Updates
from sampan.build.progress import Update, Vertex, VertexLog, VertexStatus
from sampan.oci.digest import Digest

STEP = Digest.of(b"step")
MIB = 1 << 20


def updates(step_ns: int = 10**9) -> Updates:
    times = itertools.count(10**18, step_ns)
    return Updates(lambda: next(times))


async def followed(several: Updates) -> list[Update]:
    return [update async for some in several.follow() for update in some]


async def test_listeners_get_everything_in_order_however_late_they_come() -> None:
    several = updates()
    early = asyncio.create_task(followed(several))
    told: list[Update] = []
    for number in range(5):
        told.append(Vertex(STEP, f"{number}"))
        several.report(told[-1])
        await asyncio.sleep(0)
    several.end()
    several.report(Vertex(STEP, "after the end"))
    assert await early == await followed(several) == told


async def test_the_output_of_a_step_is_clipped_and_says_so() -> None:
    several = updates()
    for _ in range(5):
        several.report(VertexLog(STEP, 1, b"x" * MIB, 1))
    several.report(VertexLog(Digest.of(b"other"), 1, b"fine", 1))
    several.end()
    logs = [update.data for update in await followed(several) if isinstance(update, VertexLog)]
    assert [len(each) for each in logs[:2]] == [MIB, MIB]
    assert logs[2:] == [b"\n[output clipped, log limit 2MiB reached]\n", b"fine"]


async def test_all_output_of_a_build_is_bounded() -> None:
    several = updates()
    for number in range(40):
        several.report(VertexLog(Digest.of(b"%d" % number), 1, b"x" * MIB, 1))
    several.end()
    logs = [update.data for update in await followed(several) if isinstance(update, VertexLog)]
    assert sum(map(len, logs)) < 33 * MIB
    assert logs[-1].endswith(b"[output clipped, log limit 32MiB reached]\n")


async def test_statuses_that_come_too_fast_are_left_out_but_for_the_last() -> None:
    several = updates(step_ns=10_000_000)
    for number in range(30):
        several.report(VertexStatus("part", STEP, number, 30, 1, 1))
    several.report(VertexStatus("part", STEP, 30, 30, 2, 1, 2))
    several.end()
    seen = [update.current for update in await followed(several) if isinstance(update, VertexStatus)]
    assert seen[0] == 0
    assert seen[-1] == 30
    assert len(seen) < 6


async def test_much_output_travels_in_several_messages() -> None:
    several = updates()
    for number in range(3):
        several.report(VertexLog(Digest.of(b"%d" % number), 1, b"x" * (MIB - 1), 1))
    several.end()
    assert [len(some) async for some in several.follow()] == [1, 1, 1]
