"""Whether a step ran out of memory, as both versions of cgroups tell it."""

import asyncio
from pathlib import Path

from runtimed.cgroups.oom import Notify
from runtimed.host.facts import CgroupTree
from runtimed.steps.memory import MemoryEvents


class Watch:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Notices:
    """Cgroups that are there once ``ready``."""

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready
        self.count = 0
        self.notify: Notify | None = None
        self.watch_made = Watch()

    def kills(self, path: str) -> int:
        return self.count

    def watch(self, path: str, notify: Notify) -> Watch:
        if not self.ready:
            raise FileNotFoundError(path)
        assert self.notify is None
        self.notify = notify
        return self.watch_made


async def test_a_notice_counts_when_the_cgroup_is_gone(tmp_path: Path) -> None:
    notices = Notices()
    watch = MemoryEvents(notices, None).prepare("/sampan/steps/x")
    watch.begin()
    assert not await watch.killed(0)
    assert notices.notify is not None
    notices.notify(1)  # version 1
    assert await watch.killed(0)
    watch.close()
    watch.close()
    assert notices.watch_made.closed == 1


async def test_a_notice_of_something_else_is_none(tmp_path: Path) -> None:
    notices = Notices()
    watch = MemoryEvents(notices, None).prepare("/sampan/steps/x")
    watch.begin()
    assert notices.notify is not None
    notices.notify(0)  # version 2
    assert not await watch.killed(0)
    notices.count = 1
    notices.notify(0)
    notices.count = 0
    assert await watch.killed(0)


def test_what_cannot_be_watched_yet_is_watched_later(tmp_path: Path) -> None:
    notices = Notices(ready=False)
    watch = MemoryEvents(notices, CgroupTree(tmp_path, 2, frozenset(("memory",)))).prepare("/sampan/steps/x")
    assert (tmp_path / "sampan/steps/x").is_dir()
    watch.begin()
    notices.ready = True
    watch.begin()
    watch.begin()
    assert notices.notify is not None


async def test_what_is_told_as_the_cgroup_goes_is_waited_for() -> None:
    notices = Notices()
    watch = MemoryEvents(notices, None).prepare("/sampan/steps/x")
    watch.begin()
    assert notices.notify is not None
    asyncio.get_running_loop().call_soon(notices.notify, 1)
    assert await watch.killed(60)
