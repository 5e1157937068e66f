"""What an engine with many containers takes for one more, for listing them, and for doing nothing."""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.engines import Engine
from bench.measure import Bench, Unmeasured, seconds

RUNNING: Final = 200
KNOWN: Final = 1000
IDLE: Final = 100
REST_S: Final = 60.0
ENDS: Final = 10  # at the beginning and at the end

_SLEEP: Final = ("sleep", "3600")
_AT_A_TIME: Final = 8
_LISTS: Final = 20
_REMOVED_AT_ONCE: Final = 100


def start(engine: Engine, bench: Bench, name: str, *options: str) -> float:
    """Start one that does nothing; return how long that took."""
    return seconds(engine, "run", "--detach", "--name", name, *options, bench.image, *_SLEEP)


def start_many(engine: Engine, bench: Bench, names: Sequence[str]) -> None:
    """Start several at a time, without a network: a bridge has no place for a thousand."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        list(pool.map(lambda name: start(engine, bench, name, "--network=none"), names))


def remove_many(engine: Engine, names: Sequence[str]) -> None:
    """Remove them, as many at once as one command may name."""
    for begin in range(0, len(names), _REMOVED_AT_ONCE):
        engine.remove(*names[begin : begin + _REMOVED_AT_ONCE], check=False)


def growth_of_starts(engine: Engine, bench: Bench) -> float:
    """How long the last starts of many take, as a multiple of the first."""
    names = [f"grown-{bench.round}-{number}" for number in range(RUNNING)]
    try:
        times = [start(engine, bench, name) for name in names]
    finally:
        remove_many(engine, names)
    return statistics.median(times[-ENDS:]) / statistics.median(times[:ENDS])


def listing(engine: Engine, bench: Bench) -> float:
    """``ps`` with some running and more known: the median of several, since so many are not made twice."""
    running = [f"up-{bench.round}-{number}" for number in range(RUNNING)]
    made = [f"made-{bench.round}-{number}" for number in range(KNOWN - RUNNING)]
    try:
        start_many(engine, bench, running)
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            list(pool.map(lambda name: engine("create", "--name", name, "--network=none", bench.image, "true"), made))
        shown = engine("ps", "--quiet").split()
        if len(shown) < RUNNING or len(engine("ps", "--all", "--quiet").split()) < KNOWN:
            raise RuntimeError(f"{engine.name} shows {len(shown)} of {RUNNING} containers")
        return statistics.median(seconds(engine, "ps") for _ in range(_LISTS))
    finally:
        remove_many(engine, [*running, *made])


def rest(engine: Engine, bench: Bench) -> float:
    """The share of a processor that daemons take while containers idle and nobody asks for anything."""
    if not engine.daemons():
        raise Unmeasured
    with idle(engine, bench, IDLE):
        time.sleep(REST_S / 2)  # what follows the starts is over
        before = sum(map(_processor_s, engine.daemons()))
        time.sleep(REST_S)
        return (sum(map(_processor_s, engine.daemons())) - before) / REST_S


@contextmanager
def idle(engine: Engine, bench: Bench, count: int) -> Iterator[None]:
    """Have as many containers that do nothing."""
    names = [f"rest-{bench.round}-{number}" for number in range(count)]
    try:
        start_many(engine, bench, names)
        yield
    finally:
        remove_many(engine, names)


def _processor_s(pid: int) -> float:
    """Return the processor's time that a process has taken so far; none if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
