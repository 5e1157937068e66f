import asyncio

from runtimed.lifecycle.background import Background, done_before


async def test_a_change_is_finished_though_whoever_asked_for_it_leaves() -> None:
    background = Background()
    done = asyncio.Event()

    async def change() -> None:
        await asyncio.sleep(0.01)
        done.set()

    caller = asyncio.create_task(background.finish(change(), "change"))
    await asyncio.sleep(0)
    caller.cancel()
    await background.close()
    assert done.is_set()
    assert caller.cancelled()


async def test_what_only_waits_is_cancelled_at_the_end() -> None:
    background = Background()
    task = background.watch(asyncio.sleep(100), "wait")
    await background.close()
    assert task.cancelled()


async def test_a_future_or_an_event_whichever_comes_first() -> None:
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    future: asyncio.Future[int] = loop.create_future()
    loop.call_later(0.01, future.set_result, 1)
    assert await done_before(future, event)
    event.set()
    assert not await done_before(loop.create_future(), event)
