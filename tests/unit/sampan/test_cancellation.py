"""Work whose end somebody else relies on."""

import asyncio

import pytest

from sampan.cancellation import both, together


async def test_both_waits_for_the_second_before_the_first_error_is_raised() -> None:
    ended = asyncio.Event()

    async def fails() -> None:
        raise ValueError("first")

    async def slow() -> None:
        await asyncio.sleep(0.01)
        ended.set()

    with pytest.raises(ValueError, match="first"):
        await both(fails(), slow())
    assert ended.is_set()


async def test_works_are_begun_in_order_and_a_few_at_a_time() -> None:
    under_way, most, begun = 0, 0, list[int]()

    async def work(number: int) -> int:
        nonlocal under_way, most
        begun.append(number)
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return number

    assert await together((work(number) for number in range(100)), at_once=7) == list(range(100))
    assert begun == list(range(100))
    assert most <= 7


async def test_the_first_failure_ends_what_is_under_way_and_nothing_more_is_begun() -> None:
    ended, begun = list[int](), list[int]()

    async def work(number: int) -> None:
        begun.append(number)
        if number == 3:
            raise ValueError("this one")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    with pytest.raises(ValueError, match="this one"):
        await together([work(number) for number in range(50)], at_once=4)
    assert begun == [0, 1, 2, 3]
    assert sorted(ended) == [0, 1, 2]


async def test_nothing_together_is_nothing() -> None:
    assert await together([]) == []
