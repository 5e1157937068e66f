from collections.abc import Callable, Sequence
from pathlib import Path

from bench import __main__ as command
from bench.engines import Engine
from bench.measure import Bench, Measure, Unmeasured
from bench.pulls import FreshImages
from tests.support.registry import Registry


def engine(name: str) -> Engine:
    return Engine(name, [name], {}, [], Path("/"), set, [], "")


def measured(
    tmp_path: Path, engines: Sequence[Engine], run: Callable[[Engine, Bench], float]
) -> tuple[dict[str, dict[str, list[float]]], bool]:
    registry = Registry("localhost:1", tmp_path, tmp_path / "log")
    bench = Bench(registry, "image", FreshImages(tmp_path), tmp_path, {}, engines[0])
    return command._measure(engines, bench, {"row": Measure("row", "s", run, runs=3)}, ["row"], None)


def test_an_engine_with_nothing_to_measure_is_left_out_of_all_rounds(tmp_path: Path) -> None:
    def run(engine: Engine, bench: Bench) -> float:
        if engine.name == "other":
            raise Unmeasured
        return float(bench.round)

    results, whole = measured(tmp_path, [engine("own"), engine("other")], run)

    assert results == {"row": {"own": [1.0, 2.0, 3.0]}}
    assert whole


def test_a_failure_of_one_engine_costs_no_other_its_figures(tmp_path: Path) -> None:
    def run(engine: Engine, bench: Bench) -> float:
        if engine.name == "other" and bench.round == 2:
            raise RuntimeError("not built")
        return float(bench.round)

    results, whole = measured(tmp_path, [engine("own"), engine("other")], run)

    assert results == {"row": {"own": [1.0, 2.0, 3.0], "other": [1.0, 3.0]}}
    assert not whole
