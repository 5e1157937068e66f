"""Measure engines side by side: ``make bench``, or ``make bench ARGS='--only exec,pull --runs 5'``.

``--json FILE`` keeps the figures, and ``--against FILE`` fails with a sentence for each row of our own that got worse
than those kept there. ``--growth`` measures how figures grow with the number of containers, files and layers.

Every round runs each measure once on each engine, in an order that rotates, so that what slows the machine for a while
slows all of them. Engines use the same registry, the same images and, where there is one, the same docker client.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import record
from bench.engines import ENGINES, Engine
from bench.growth import GROWTH
from bench.measure import Bench, Measure, Unmeasured
from bench.measures import MEASURES
from bench.netns import Namespace, network_namespace
from bench.pulls import FreshImages
from bench.table import table
from tests.support.images import push
from tests.support.registry import Registry, run_registry
from tests.support.trees import busybox_image

_TERMINATED = 128 + signal.SIGTERM


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; the exit code says whether all succeeded and nothing got worse."""
    options = _options(argv)
    measures: Mapping[str, Measure] = GROWTH if options.growth else MEASURES
    load = os.getloadavg()[0]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))  # engines end, directories go
    directory = Path(tempfile.mkdtemp(prefix="sb", dir="/tmp"))  # short: unix socket paths are at most 107 bytes
    try:
        with ExitStack() as stack:
            registry = stack.enter_context(run_registry(directory / "registry"))
            target = stack.enter_context(run_registry(directory / "target"))
            push(registry, "busybox", "bench", busybox_image())
            image = f"{registry.address}/busybox:bench"
            engines, targets = [], {}
            for name in options.engines:
                engine, targets[name] = _start(stack, name, directory, registry, target)
                engines.append(engine)
                _say(f"{engine.name}: {engine.note}")
                engine.pull(image)
            # dockerd's archives are what there is to load, if there is a dockerd.
            archiver = next((engine for engine in engines if engine.name == "dockerd"), engines[0])
            bench = Bench(registry, image, FreshImages(directory), directory, targets, archiver)
            results, whole = _measure(engines, bench, measures, options.only, options.runs)
            notes = {engine.name: engine.note for engine in engines}
        print(table(measures, results, options.engines))
        if options.json:
            record.write(options.json, record.Record(record.this_machine(), [load, os.getloadavg()[0]], notes, results))
        sentences = list(record.worse(options.against.results, results, measures)) if options.against else []
        for sentence in sentences:
            _say(sentence)
        return 0 if whole and not sentences else 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(prog="bench", description="Measure engines side by side.")
    parser.add_argument("--growth", action="store_true", help="measure how figures grow, instead of the usual rows")
    parser.add_argument("--only", type=names, help=f"of {', '.join(MEASURES)}; with --growth of {', '.join(GROWTH)}")
    parser.add_argument("--engines", type=names, default=list(ENGINES), help=f"of {', '.join(ENGINES)}")
    parser.add_argument("--runs", type=int, help="how often each measure runs, instead of its own number")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    parser.add_argument("--against", type=_kept, metavar="FILE", help="fail if a row got worse than it is there")
    options = parser.parse_args(argv)
    measures = GROWTH if options.growth else MEASURES
    options.only = options.only or list(measures)
    for given, known in ((options.only, measures), (options.engines, ENGINES)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return options


def _kept(text: str) -> record.Record:
    try:
        return record.read(Path(text))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _start(
    stack: ExitStack, name: str, directory: Path, registry: Registry, target: Registry
) -> tuple[Engine, Registry]:
    """Start an engine; return it, and the target as the engine reaches it."""
    root = directory / name
    root.mkdir()
    namespace: Namespace = stack.enter_context(network_namespace())
    # Loopback is the namespace's own, so the registries listen in each, at one address and on one storage.
    prefix = namespace.enter()
    stack.enter_context(run_registry(directory / f"registry-{name}", same_as=registry, prefix=prefix))
    reached = stack.enter_context(run_registry(directory / f"target-{name}", same_as=target, prefix=prefix))
    return stack.enter_context(ENGINES[name](root, namespace)), reached


def _measure(
    engines: Sequence[Engine], bench: Bench, measures: Mapping[str, Measure], only: Sequence[str], runs: int | None
) -> tuple[dict[str, dict[str, list[float]]], bool]:
    results: dict[str, dict[str, list[float]]] = {key: {engine.name: [] for engine in engines} for key in only}
    whole = True
    for key in sorted(
        only, key=lambda key: not key.startswith("memory-daemons")
    ):  # at rest: before anything else happened
        measure = measures[key]
        begin = time.monotonic()
        for number in range(runs or measure.runs):
            bench.next_round(measure.pulls)
            turn = number % len(engines)
            for engine in [*engines[turn:], *engines[:turn]]:
                if engine.name not in results[key]:  # it has nothing to measure here
                    continue
                try:
                    results[key][engine.name].append(measure.run(engine, bench))
                except Unmeasured:
                    results[key].pop(engine.name, None)
                except Exception as error:  # noqa: BLE001  # one engine's failure must not cost the others' figures
                    whole = False
                    _say(f"{key} on {engine.name} failed: {error}")
        _say(f"{key}: {time.monotonic() - begin:.0f} s")
    return results, whole


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
