"""A service that nobody asks for anything gives back what only answering needs: pages of code, and what was freed.

Then it sleeps: gRPC's threads do not look for work several times a second either.

One that is started for whoever asks ends after a while, and gives back all of it.
"""

import asyncio
import gc
from collections.abc import Callable
from typing import Final, Protocol, Self

from sampan.sys.memory import drop_clean_pages, trim
from sampan.wire.slack import TIMER_SLACK

# Long enough that work in several steps is not interrupted, and that what follows work (a database's copy) is over.
REST_AFTER_S: Final = 10.0


def give_back() -> None:
    """Give back what can be had again."""
    trim()
    drop_clean_pages()


class Timer(Protocol):
    """What ``call_later`` returns."""

    def cancel(self) -> None:
        """Do not call."""


class Timers(Protocol):
    """The part of an event loop that a rest needs."""

    def time(self) -> float:
        """Return the time in seconds."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call ``callback`` in ``delay`` seconds."""


class Rest:
    """Calls ``begin`` as soon as ``used`` was not called for ``after_s`` seconds, and ``end`` when it is: once each."""

    def __init__(
        self,
        timers: Timers,
        begin: Callable[[], object],
        after_s: float = REST_AFTER_S,
        end: Callable[[], object] = bool,
    ) -> None:
        self._timers = timers
        self._begin = begin
        self._end = end
        self._after_s = after_s
        self._last_s = 0.0
        self._timer: Timer | None = None
        self._more: list[Callable[[], object]] = []

    @property
    def used_at(self) -> float:
        """The loop's time in seconds at which ``used`` was called last."""
        return self._last_s

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Self:
        """Return the rest of the service that runs in ``loop``: memory goes back, and gRPC's threads sleep longer."""

        def begin() -> None:
            TIMER_SLACK.widen()
            gc.collect()  # here and not in the thread: what it ends may belong to the event loop
            # Trimming takes as long as there is to give back. The rest is a millisecond, and best spent where no code
            # runs afterwards that brings its pages back.
            loop.run_in_executor(None, trim).add_done_callback(lambda _: drop_clean_pages())

        rest = cls(loop, begin, end=TIMER_SLACK.narrow)
        TIMER_SLACK.prepare(rest.used)
        return rest

    def also(self, give: Callable[[], object]) -> None:
        """Call ``give`` when a rest begins, before memory goes back. It may not take long."""
        self._more.append(give)

    def used(self) -> None:
        """Note that a request begins or ends: cheap enough for every one of them."""
        self._last_s = self._timers.time()
        if self._timer is None:
            self._timer = self._timers.call_later(self._after_s, self._look)
            self._end()

    def close(self) -> None:
        """Do nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        left_s = self._last_s + self._after_s - self._timers.time()
        if left_s > 0:
            self._timer = self._timers.call_later(left_s, self._look)
            return
        self._timer = None
        for give in self._more:
            give()
        self._begin()


class Idle:
    """Calls ``end`` once nothing was used for ``after_s`` seconds and nothing is in use; see ``start``."""

    def __init__(self, timers: Timers, end: Callable[[], object]) -> None:
        self._timers = timers
        self._end = end
        self._timer: Timer | None = None

    def start(self, after_s: float, is_used: Callable[[], bool], used_at: Callable[[], float]) -> None:
        """Begin to look, now and again.

        Args:
            after_s: seconds.
            is_used: whether something is in use, which is as if it had been used just now.
            used_at: the time of ``timers`` at which something was used last, before it was seen in use.
        """
        begin = self._timers.time()

        def look() -> None:
            nonlocal begin
            now = self._timers.time()
            if is_used():
                begin = now
            left_s = max(begin, used_at()) + after_s - now
            if left_s > 0:
                self._timer = self._timers.call_later(left_s, look)
            else:
                self._end()

        self._timer = self._timers.call_later(after_s, look)

    def close(self) -> None:
        """Do nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
