"""All checks, one after the other, until what is still on its way has arrived."""

import time
import traceback
from collections.abc import Callable
from typing import Final

from tests.chaos.run.comparison import builds, networking, processes, storage
from tests.chaos.run.comparison.view import View, view_of
from tests.support.engine import Engine

Check = Callable[[Engine, View], list[str]]

ALWAYS: Final[tuple[Check, ...]] = (
    processes.services,
    processes.monitors,
    processes.first_processes,
    processes.groups,
    networking.namespaces,
    networking.interfaces,
    networking.addresses,
    networking.rules,
    networking.chains,
    storage.mounted,
    storage.files,
    storage.records,
    builds.steps,
    builds.cache,
)

# After a prune of the build cache, and a collection that takes what broken pulls keep for the next try.
COLLECTED: Final[tuple[Check, ...]] = (*ALWAYS, storage.leftovers, storage.disk, builds.pruned)

_SETTLE_S: Final = 60.0  # removals and restarts go on in the background
_PAUSE_S: Final = 0.25


def compare(engine: Engine, checks: tuple[Check, ...]) -> list[str]:
    """Return every difference between what the engine says and what is there that does not go away by itself."""
    end = time.monotonic() + _SETTLE_S
    while True:
        findings = _looked(engine, checks)
        if not findings or time.monotonic() > end:
            return findings
        time.sleep(_PAUSE_S)


def compare_collected(engine: Engine) -> list[str]:
    """Return what is left when all that nobody holds has been collected.

    What is let go of during a collection is for the next one, so a second decides.
    """
    findings: list[str] = []
    for _ in range(2):
        engine.sampan("system", "gc", "--leftovers", timeout=180)
        findings = compare(engine, COLLECTED)
        if not findings:
            break
    return findings


def _looked(engine: Engine, checks: tuple[Check, ...]) -> list[str]:
    try:
        view = view_of(engine)
        return [f"{check.__name__}: {finding}" for check in checks for finding in check(engine, view)]
    except (AssertionError, OSError):  # something went between two looks at it
        return [traceback.format_exc()]
