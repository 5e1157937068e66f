"""A pid namespace that ends is noticed."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

from crid.sandboxes.model import Sandbox, State
from crid.sandboxes.watch import InfraWatch
from sampan.errors import UnavailableError
from sampan.resource.event import Event
from tests.unit.crid.world import pod


def sandbox(number: int, state: State = State.READY) -> Sandbox:
    return Sandbox(f"{number:064x}", pod(), b"", number, state=state, infra=f"infra{number}")


class Watched:
    def __init__(self, *sandboxes: Sandbox) -> None:
        self.held = {each.infra for each in sandboxes}
        self.stopped: list[str] = []
        self.refuses = False
        self.events: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self.followed = 0
        self._sandboxes = {each.id: each for each in sandboxes}

    def everything(self) -> list[Sandbox]:
        return list(self._sandboxes.values())

    async def stop(self, id: str) -> None:
        self.stopped.append(id)
        if self.refuses:
            raise UnavailableError("plugins hang")
        self._sandboxes[id] = replace(self._sandboxes[id], state=State.STOPPED)

    async def is_held(self, sandbox: Sandbox) -> bool:
        return sandbox.infra in self.held

    async def follow(self) -> AsyncGenerator[Event | None, None]:
        self.followed += 1
        while True:
            event = await self.events.get()
            self.events.task_done()
            if isinstance(event, Exception):
                raise event
            yield event

    async def back(self) -> None:
        return None

    async def told(self, *events: Event | Exception | None) -> list[str]:
        """Watch until these events have been looked at; return what was stopped."""
        async with InfraWatch(self.follow, self, self.is_held, self.back):
            for event in (*events, Event("container", "die", "nobody"), Event("container", "die", "nobody")):
                self.events.put_nowait(event)
            await self.events.join()
        return self.stopped


def died(infra: str) -> Event:
    return Event("container", "die", infra)


async def test_a_sandbox_is_stopped_when_its_infra_ends_and_no_other_is() -> None:
    watched = Watched(sandbox(1), sandbox(2))
    assert await watched.told(None, died("other"), died("infra2"), died("infra2")) == [sandbox(2).id]


async def test_what_has_ended_before_anybody_watched_is_found() -> None:
    watched = Watched(sandbox(1), sandbox(2))
    watched.held.remove("infra1")
    assert await watched.told(None) == [sandbox(1).id]


async def test_a_sandbox_that_is_being_stopped_is_left_alone() -> None:
    assert await Watched(sandbox(1, State.STOPPING)).told(None, died("infra1")) == []


async def test_the_watch_goes_on_though_a_stop_fails_and_runtimed_goes_away() -> None:
    watched = Watched(sandbox(1), sandbox(2))
    watched.refuses = True
    gone = UnavailableError("runtimed is gone")
    assert await watched.told(died("infra1"), gone, None, died("infra2")) == [sandbox(1).id, sandbox(2).id]
    assert watched.followed == 2
