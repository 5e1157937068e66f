"""What ``resource.protocols.Events`` promises, whoever keeps it."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from sampan.resource.event import Event
from sampan.resource.listing import EVERYONE
from sampan.resource.protocols import Events

PULL, TAG = Event("image", "pull", "one"), Event("image", "tag", "one", {"name": "two"})
MADE = Event("volume", "make", "v")
FAR_NS = 4_000_000_000 * 10**9


async def some(events: AsyncGenerator[Event | None, None], count: int) -> Sequence[Event]:
    """Return the next ones."""
    found: list[Event] = []
    while len(found) < count:
        event = await anext(events)
        assert event is not None
        found.append(event)
    return found


def facts(events: Sequence[Event]) -> list[tuple[str, str, str, dict[str, str]]]:
    return [(each.type, each.action, each.actor_id, dict(each.attributes)) for each in events]


class EventsContract:
    """Subclass with a fixture ``events`` that nothing has happened to."""

    promises: tuple[type, ...] = (Events,)

    async def test_who_is_in_place_misses_nothing_and_learns_it_in_order(self, events: Events) -> None:
        async with aclosing(events.subscribe()) as one, aclosing(events.subscribe()) as other:
            assert (await anext(one), await anext(other)) == (None, None)
            await events.publish((PULL, TAG))
            await events.publish((MADE,))
            for listener in (one, other):
                assert facts(await some(listener, 3)) == facts((PULL, TAG, MADE))

    async def test_each_has_a_time_and_what_is_over_is_told_to_whoever_asks_up_to_an_end(self, events: Events) -> None:
        await events.publish((PULL, TAG))
        async with aclosing(events.subscribe(until_ns=1)) as ended:
            assert [each async for each in ended] == [None]
        async with aclosing(events.subscribe(since_ns=1, until_ns=FAR_NS)) as past:
            assert await anext(past) is None
            told = await some(past, 2)
        assert facts(told) == facts((PULL, TAG))
        assert 0 < told[0].time_ns < told[1].time_ns
        async with aclosing(events.subscribe(since_ns=told[1].time_ns, until_ns=FAR_NS)) as later:
            assert await anext(later) is None
            assert facts(await some(later, 1)) == facts((TAG,))

    async def test_who_has_no_end_is_told_nothing_that_is_over(self, events: Events) -> None:
        await events.publish((PULL,))
        async with aclosing(events.subscribe()) as listener:
            assert await anext(listener) is None
            await events.publish((MADE,))
            assert facts(await some(listener, 1)) == facts((MADE,))

    async def test_filters_are_docker_s(self, events: Events) -> None:
        await events.publish((PULL, TAG, MADE))
        for filters, expected in (
            ({"type": ("volume",)}, (MADE,)),
            ({"type": ("image",), "event": ("tag", "untag")}, (TAG,)),
            ({"image": ("two",)}, (TAG,)),
        ):
            async with aclosing(events.subscribe(since_ns=1, until_ns=FAR_NS, filters=filters)) as found:
                assert await anext(found) is None
                assert facts(await some(found, len(expected))) == facts(expected)

    async def test_what_happens_to_an_owner_s_containers_is_told_to_who_asks_for_them(self, events: Events) -> None:
        theirs = Event("container", "make", "c", owner="cri")
        await events.publish((PULL, theirs))
        for owner, expected in (("", (PULL,)), ("cri", (theirs,)), (EVERYONE, (PULL, theirs))):
            async with aclosing(events.subscribe(since_ns=1, until_ns=FAR_NS, owner=owner)) as found:
                assert await anext(found) is None
                assert facts(await some(found, len(expected))) == facts(expected)

    async def test_nothing_is_dropped_while_little_happens(self, events: Events) -> None:
        await events.publish((PULL,))
        assert await events.kept_since_ns() == 0
