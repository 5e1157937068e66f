from bench.measure import Measure
from bench.table import table


def _nothing(*_: object) -> float:
    return 0.0


MEASURES = {"exec": Measure("`exec`", "ms", _nothing, 3), "gc": Measure("collection", "s", _nothing, 3)}


def test_a_row_has_medians_with_their_spread_and_ours_as_a_multiple_of_theirs() -> None:
    results = {"exec": {"sampan": [0.03, 0.01, 0.02], "dockerd": [0.04, 0.04, 0.08]}}

    rows = table(MEASURES, results, ["sampan", "dockerd"]).splitlines()

    assert rows[0] == "|  | sampan | dockerd | × dockerd |"
    assert rows[2] == "| `exec` | 20 ms (10–30) | 40 ms (40–80) | 0.50 |"


def test_fewer_than_three_runs_have_no_spread() -> None:
    assert table(MEASURES, {"gc": {"sampan": [1.0, 2.0]}}, ["sampan"]).endswith("| collection | 1.50 s |")


def test_what_an_engine_has_nothing_of_is_a_dash_and_what_went_wrong_says_so() -> None:
    unmeasured = table(MEASURES, {"gc": {"sampan": [1.0]}}, ["sampan", "dockerd"])
    failed = table(MEASURES, {"gc": {"sampan": [1.0], "dockerd": []}}, ["sampan", "dockerd"])

    assert unmeasured.endswith("| collection | 1.00 s | – | – |")
    assert failed.endswith("| collection | 1.00 s | failed | – |")
