"""Medians and ratios, as a Markdown table."""

import statistics
from collections.abc import Mapping, Sequence

from bench.measure import Measure

OWN = "sampan"
SCALE = {"ms": 1e-3, "s": 1.0, "MB": 1e6, "×": 1.0, "%": 0.01}
_DIGITS = {"ms": 0, "MB": 1}  # others have two


def table(
    measures: Mapping[str, Measure], results: Mapping[str, Mapping[str, Sequence[float]]], engines: Sequence[str]
) -> str:
    """Return one row per measure: each engine's median and spread, then ours as a multiple of each other's."""
    others = [name for name in engines if name != OWN and OWN in engines]
    header = ["", *engines, *(f"× {name}" for name in others)]
    rows = [header, ["---", *["---:"] * (len(header) - 1)]]
    for key, by_engine in results.items():
        measure = measures[key]
        medians = {name: statistics.median(values) for name, values in by_engine.items() if values}
        cells = [cell(by_engine[name], measure.unit) if name in by_engine else "–" for name in engines]
        ratios = [_ratio(medians, name) for name in others]
        rows.append([measure.title, *cells, *ratios])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cell(values: Sequence[float], unit: str) -> str:
    """Return the median, and of three values or more the least and the most."""
    if not values:
        return "failed"
    scaled = [value / SCALE[unit] for value in values]
    digits = _DIGITS.get(unit, 2)
    middle = f"{statistics.median(scaled):.{digits}f} {unit}"
    if len(scaled) < 3:
        return middle
    return f"{middle} ({min(scaled):.{digits}f}–{max(scaled):.{digits}f})"


def _ratio(medians: Mapping[str, float], other: str) -> str:
    if not medians.get(other) or OWN not in medians:
        return "–"
    return f"{medians[OWN] / medians[other]:.2f}"
