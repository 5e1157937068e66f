import asyncio
import os
from contextlib import closing

from sampan.wire.packets import ShortPause


async def test_pauses_follow_one_another_and_others_have_their_turn() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    with closing(ShortPause()) as pause:
        for _ in range(10):
            before = turns
            await pause.pass_ns(100_000)
            assert turns > before
    task.cancel()


async def test_who_waits_goes_on_when_it_is_closed_and_nothing_is_left() -> None:
    before = set(os.listdir("/proc/self/fd"))
    pause = ShortPause()
    waiting = asyncio.create_task(pause.pass_ns(3600 * 1_000_000_000))
    await asyncio.sleep(0)
    pause.close()
    pause.close()
    await waiting
    await pause.pass_ns(3600 * 1_000_000_000)
    assert set(os.listdir("/proc/self/fd")) <= before  # those of earlier tests may go meanwhile


async def test_a_pause_that_nobody_waits_for_any_more_does_not_end_the_next_one_early() -> None:
    with closing(ShortPause()) as pause:
        waiting = asyncio.create_task(pause.pass_ns(1))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0.01)  # it has passed, and was seen
        waiting = asyncio.create_task(pause.pass_ns(3600 * 1_000_000_000))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        waiting.cancel()
