from pathlib import Path

import pytest

from bench.measure import Measure
from bench.record import Record, Results, drift, read, this_machine, worse, write


def _nothing(*_: object) -> float:
    return 0.0


MEASURES = {
    "exec": Measure("`exec`", "ms", _nothing, 3),
    "memory": Measure("daemons", "MB", _nothing, 1),
    "gone": Measure("another", "s", _nothing, 1),
}


def said(before: Results, now: Results) -> list[str]:
    return list(worse(before, now, MEASURES))


def exec_(*ours: float, other: float = 0) -> Results:
    return {"exec": {"sampan": list(ours)} | ({"dockerd": [other]} if other else {})}


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Record(this_machine(), [0.1, 2.0], {"sampan": "1"}, {"exec": {"sampan": [0.1, 0.2]}})
    write(tmp_path / "last.json", record)
    assert read(tmp_path / "last.json") == record


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 2}', '{"format": 1, "machine": 3}'])
def test_what_is_no_run_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match=r"other\.json is"):
        read(tmp_path / "other.json")


def test_a_row_that_got_worse_beyond_its_spread_is_told_with_both_figures() -> None:
    (sentence,) = said(exec_(0.050, 0.055, 0.060), exec_(0.070, 0.080, 0.090))
    assert sentence == "exec got worse, `exec`: 55 ms (50–60) then, 80 ms (70–90) now"


@pytest.mark.parametrize(
    "now",
    [
        (0.050, 0.055, 0.060),
        (0.056, 0.059, 0.090),  # within the spread
        (0.040, 0.080, 0.090),  # once it was as good as ever: the machine was busy
        (0.010, 0.020, 0.030),
    ],
)
def test_what_lies_within_the_spread_is_not_worse(now: tuple[float, ...]) -> None:
    assert said(exec_(0.050, 0.055, 0.060), exec_(*now)) == []


def test_a_slower_machine_is_seen_by_the_others_and_allowed_for() -> None:
    before, now = exec_(0.050, other=0.1), exec_(0.098, other=0.2)
    assert drift(before, now, MEASURES) == 2.0
    assert said(before, now) == []


def test_memory_is_no_slower_on_a_loud_machine() -> None:
    before: Results = {"memory": {"sampan": [100e6], "dockerd": [80e6]}, "exec": {"dockerd": [0.1]}}
    now: Results = {"memory": {"sampan": [120e6], "dockerd": [80e6]}, "exec": {"dockerd": [0.3]}}
    assert said(before, now) == ["memory got worse, daemons: 100.0 MB then, 120.0 MB now"]


def test_a_single_figure_has_a_spread_of_a_twentieth() -> None:
    assert said({"memory": {"sampan": [100e6]}}, {"memory": {"sampan": [104e6]}}) == []


def test_rows_of_one_run_alone_are_passed_over() -> None:
    before: Results = {"gone": {"sampan": [1.0]}, "unknown": {"sampan": [1.0]}, "exec": {"sampan": []}}
    assert said(before, {"unknown": {"sampan": [9.0]}, "exec": {"sampan": [1.0]}}) == []
