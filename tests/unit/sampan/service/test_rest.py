from collections.abc import Callable

from sampan.service.rest import Idle, Rest


class Timer:
    def __init__(self, timers: "Timers", due_s: float, callback: Callable[[], object]) -> None:
        self._timers = timers
        self.due_s = due_s
        self.callback = callback

    def cancel(self) -> None:
        self._timers.timers.remove(self)


class Timers:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        self.timers.append(Timer(self, self.now_s + delay, callback))
        return self.timers[-1]

    def pass_s(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while due := [timer for timer in self.timers if timer.due_s <= end_s]:
            timer = min(due, key=lambda timer: timer.due_s)
            timer.cancel()
            self.now_s = timer.due_s
            timer.callback()
        self.now_s = end_s


def a_service() -> tuple[Timers, list[float], Rest]:
    """Return its time, the times at which its rests began, and what it tells of its work."""
    timers, rests = Timers(), list[float]()
    return timers, rests, Rest(timers, lambda: rests.append(timers.now_s), 10)


def test_a_rest_begins_once_when_the_last_use_is_long_enough_ago() -> None:
    timers, rests, rest = a_service()
    rest.used()
    timers.pass_s(9)
    rest.used()
    timers.pass_s(1000)
    assert rests == [1019]


def test_constant_use_leaves_no_rest_and_one_timer() -> None:
    timers, rests, rest = a_service()
    for _ in range(100):
        rest.used()
        timers.pass_s(1)
    assert rests == []
    assert len(timers.timers) == 1


def test_after_a_rest_the_next_use_leads_to_another_one() -> None:
    timers, rests, rest = a_service()
    for _ in range(3):
        rest.used()
        timers.pass_s(20)
    assert rests == [1010, 1030, 1050]


def test_a_service_that_is_never_used_or_has_ended_does_not_rest() -> None:
    timers, rests, rest = a_service()
    timers.pass_s(1000)
    rest.used()
    rest.close()
    timers.pass_s(1000)
    assert rests == []


def test_what_else_is_given_back_is_so_before_memory_goes_back() -> None:
    timers, rests, rest = a_service()
    given: list[int] = []
    rest.also(lambda: given.append(len(rests)))
    rest.used()
    timers.pass_s(100)
    rest.used()
    timers.pass_s(100)
    assert given == [0, 1]


def test_idle_ends_once_the_last_use_is_long_enough_ago() -> None:
    timers, ends = Timers(), list[float]()
    used_at = 1000.0
    idle = Idle(timers, lambda: ends.append(timers.now_s))
    idle.start(60, lambda: False, lambda: used_at)
    timers.pass_s(59)
    used_at = 1050.0
    timers.pass_s(1000)
    assert ends == [1110]
    assert timers.timers == []


def test_idle_does_not_end_what_is_in_use_and_waits_anew_afterwards() -> None:
    timers, ends = Timers(), list[float]()
    in_use = True
    idle = Idle(timers, lambda: ends.append(timers.now_s))
    idle.start(60, lambda: in_use, lambda: 0.0)
    timers.pass_s(600)
    assert ends == []
    in_use = False
    timers.pass_s(60)
    assert ends == [1660]


def test_idle_that_is_closed_ends_nothing() -> None:
    timers, ends = Timers(), list[float]()
    idle = Idle(timers, lambda: ends.append(timers.now_s))
    idle.start(60, lambda: False, lambda: 0.0)
    idle.close()
    timers.pass_s(600)
    assert ends == []
