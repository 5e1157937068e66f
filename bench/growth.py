"""Where the time of a run goes, and how figures grow: with containers, files of a layer, layers of an image."""

import json
import subprocess
from collections.abc import Callable, Mapping
from typing import Final

from bench import measures, processes
from bench.engines import Engine
from bench.many_containers import start_many
from bench.measure import Bench, Measure, Unmeasured, seconds
from bench.phases import PHASES
from bench.pulls import GROWING_FILES, GROWING_LAYERS

CONTAINERS: Final = (1, 10, 100, 1000)

Run = Callable[[Engine, Bench], float]


def _beside(count: int, run: Run) -> Run:
    """Return a measure that is taken while ``count`` containers run, which stay for the rows that follow."""

    def measured(engine: Engine, bench: Bench) -> float:
        there = bench.running.get(engine.name, 0)
        start_many(engine, bench, [f"beside-{number}" for number in range(there, count)])
        bench.running[engine.name] = max(there, count)
        return run(engine, bench)

    return measured


def listing(engine: Engine, bench: Bench) -> float:
    """``ps``."""
    took = seconds(engine, "ps")
    if len(engine("ps", "--quiet").split()) < bench.running[engine.name]:
        raise RuntimeError(f"{engine.name} does not show its {bench.running[engine.name]} containers")
    return took


def scrape(engine: Engine, bench: Bench) -> float:  # noqa: ARG001  # a measure takes both
    """Fetch the metrics of all containers."""
    return float(_scraped(engine)[1])


def scraped_bytes(engine: Engine, bench: Bench) -> float:  # noqa: ARG001
    """The size of that, before it is packed."""
    return float(_scraped(engine)[0])


def _scraped(engine: Engine) -> tuple[str, str]:
    if engine.layout is None or engine.namespace is None:
        raise Unmeasured
    state = json.loads((engine.layout.run_root / "runtimed.json").read_text())
    command = ["curl", "-sf", "-o", "/dev/null", "-w", "%{size_download} %{time_total}", f"http://{state['metrics']}/"]
    done = subprocess.run(engine.namespace.enter(*command), check=True, capture_output=True, text=True, timeout=60)
    size, took = done.stdout.split()
    return size, took


def memory(engine: Engine, bench: Bench) -> float:
    """What the daemons cost the machine at rest, so many containers beside them."""
    measures.memory_of_daemons(engine, bench)  # which waits until they rest
    return float(sum(processes.pss_bytes(pid) for pid in engine.daemons()))


def first_run(engine: Engine, bench: Bench) -> float:
    """A container's whole life of an image that was just pulled, its layers being mounted for the first time."""
    engine.pull(bench.fresh)
    try:
        return seconds(engine, "run", "--rm", "--network=none", bench.fresh, "true")
    finally:
        engine("rmi", "--force", bench.fresh)


_BESIDE: Final = (
    ("run", "`run --rm --network none`", "ms", measures.run_without_network, 10),
    ("exec", "`exec`", "ms", measures.execute, 10),
    ("ps", "`ps`", "ms", listing, 10),
    ("scrape", "a scrape of runtimed", "ms", scrape, 10),
    ("scraped", "its size", "MB", scraped_bytes, 1),
    ("memory", "daemons at rest (PSS)", "MB", memory, 1),
)

GROWTH: Final[Mapping[str, Measure]] = {
    **PHASES,
    **{
        f"files-{count}": Measure(f"pull, a layer of {count:,} small files", "s", measures.pull, 5, f"files-{count}")
        for count in GROWING_FILES
    },
    **{
        f"layers-{count}": Measure(f"pull, {count} layers", "s", measures.pull, 5, f"layers-{count}")
        for count in GROWING_LAYERS
    },
    **{
        f"first-run-{count}": Measure(f"first `run`, {count} layers", "ms", first_run, 5, f"layers-{count}")
        for count in GROWING_LAYERS
    },
    # Last, since the containers stay.
    **{
        f"{name}-{count}": Measure(f"{title}, beside {count:,} containers", unit, _beside(count, run), runs)
        for count in CONTAINERS
        for name, title, unit, run, runs in _BESIDE
    },
}
