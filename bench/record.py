"""Figures of one run, kept in a file, and compared with those of another."""

import json
import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.measure import Measure
from bench.table import OWN, cell

Results = Mapping[str, Mapping[str, Sequence[float]]]  # by measure, then by engine: seconds, bytes, or plain numbers

_FORMAT: Final = 1

# A row that is measured once has no spread of its own; memory differs by as much from one start to the next.
_LEAST_SPREAD: Final = 0.05


@dataclass(frozen=True, slots=True)
class Machine:
    """Where figures come from, without which they mean nothing."""

    processor: str
    processors: int
    memory_bytes: int
    kernel: str
    python: str


@dataclass(frozen=True, slots=True)
class Record:
    """One run of the bench."""

    machine: Machine
    load: Sequence[float]  # of one minute, before and after: how loud the machine was
    engines: Mapping[str, str]  # by name: which version
    results: Results


def this_machine() -> Machine:
    """Return what this one is."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(model, os.cpu_count() or 1, memory, platform.release(), platform.python_version())


def write(path: Path, record: Record) -> None:
    """Keep a run as JSON."""
    path.write_text(json.dumps({"format": _FORMAT} | asdict(record), indent=1) + "\n")


def read(path: Path) -> Record:
    """Return a run that was kept; ValueError if the file is none."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
        if kept.pop("format") != _FORMAT:
            raise ValueError(f"{path} is of another version of the bench")
        return Record(**kept | {"machine": Machine(**kept["machine"])})
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no run of the bench: {error}") from error


def drift(before: Results, now: Results, measures: Mapping[str, Measure]) -> float:
    """Return how much longer the machine takes now than then, by the other engines' times; 1.0 if there are none.

    The median over all rows: one engine's bad day in one row says nothing of the machine.
    """
    factors = [
        statistics.median(now[key][name]) / statistics.median(values)
        for key, by_engine in before.items()
        for name, values in by_engine.items()
        if name != OWN and values and statistics.median(values) and now.get(key, {}).get(name) and _times(measures, key)
    ]
    return statistics.median(factors) if factors else 1.0


def worse(before: Results, now: Results, measures: Mapping[str, Measure]) -> Iterator[str]:
    """Yield a sentence for each row of our own that got worse beyond its spread, the machine's drift apart.

    It did if the median is beyond the worst that was measured then, and nothing of now is as good as the median then.
    Rows that only one of the runs has are passed over.
    """
    factor = drift(before, now, measures)
    for key, by_engine in before.items():
        then, today = by_engine.get(OWN, ()), now.get(key, {}).get(OWN, ())
        if not then or not today or key not in measures:
            continue
        allowed = factor if _times(measures, key) else 1.0
        middle = statistics.median(then) * allowed
        most = max(max(then) * allowed, middle * (1 + _LEAST_SPREAD))
        if statistics.median(today) > most and min(today) > middle:
            unit = measures[key].unit
            yield f"{key} got worse, {measures[key].title}: {cell(then, unit)} then, {cell(today, unit)} now"


def _times(measures: Mapping[str, Measure], key: str) -> bool:
    """Whether a row is of times: nothing else grows because a machine is loud."""
    return key in measures and measures[key].unit in ("ms", "s")
