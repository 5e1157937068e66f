"""This project's own client beside docker's, on one engine; and the start of an engine."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.engines import SAMPAN, Engine
from bench.measure import Bench, Unmeasured
from sampan.layout import Layout
from tests.support.footprint import remove_kernel_objects


def ps(engine: Engine, bench: Bench) -> float:  # noqa: ARG001  # a measure takes both
    """``sampan ps`` as a multiple of ``docker ps``."""
    return _multiple(engine, ["ps"])


def run(engine: Engine, bench: Bench) -> float:
    """``sampan run`` as a multiple of ``docker run``."""
    return _multiple(engine, ["run", "--rm", "--network=none", bench.image, "true"])


def _multiple(engine: Engine, arguments: Sequence[str]) -> float:
    if engine.layout is None or engine.namespace is None:
        raise Unmeasured
    # Both in the engine's network: one of another network would not be given to the engine's warm process.
    took = []
    for command in ([*_own(engine.layout), *arguments], engine.command(*arguments)):
        begin = time.monotonic()
        inside = engine.namespace.enter(*command)
        subprocess.run(inside, env=engine.env(), check=True, capture_output=True, timeout=60)
        took.append(time.monotonic() - begin)
    return took[0] / took[1]


def _own(layout: Layout) -> list[str]:
    return [str(SAMPAN), "--data-root", str(layout.data_root), "--run-root", str(layout.run_root)]


def up(engine: Engine, bench: Bench) -> float:
    """``up --detach``, which returns when every service is healthy, on directories that are not there yet."""
    if engine.namespace is None:
        raise Unmeasured
    root = Path(tempfile.mkdtemp(prefix="up", dir=bench.directory))
    layout = Layout(root / "data", root / "run")
    own = engine.namespace.enter(*_own(layout))
    begin = time.monotonic()
    try:
        subprocess.run([*own, "up", "--detach"], check=True, capture_output=True, timeout=60)
        return time.monotonic() - begin
    finally:
        subprocess.run([*own, "down"], check=True, capture_output=True, timeout=60)
        remove_kernel_objects(layout)
        shutil.rmtree(root)
