"""The process that keeps logs: whom it lets go first."""

import os
import threading
from collections.abc import Callable

import pytest

from runtimed.logs.writer import Priority


def in_a_thread(what: Callable[[], list[int]]) -> list[int]:
    """How nice one is belongs to a thread, and a test must not keep another's."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(what()))
    thread.start()
    thread.join()
    return found


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_it_goes_last_but_when_somebody_waits() -> None:
    def seen() -> list[int]:
        priority, usual = Priority(), niceness()
        found = []
        for needed in (False, False, True, True, False):
            priority.hurry(needed)
            found.append(niceness() - usual)
        return found

    assert in_a_thread(seen) in ([10, 10, 0, 0, 10], [0] * 5)  # the latter for a user who may not


def test_who_could_not_hurry_again_is_not_calm_either(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.setpriority

    def only_nicer(which: int, who: int, value: int) -> None:
        if value < niceness():
            raise PermissionError
        real(which, who, value)

    def seen() -> list[int]:
        priority = Priority()
        before = niceness()
        priority.hurry(False)
        return [niceness() - before]

    monkeypatch.setattr(os, "setpriority", only_nicer)
    assert in_a_thread(seen) == [0]
