"""Where the time of a run goes, by the times of the events that the engine tells."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Final

from bench.engines import Engine
from bench.measure import Bench, Measure, Unmeasured

_RUNS: Final = 15

# From one moment to the next; the first and the last are the client's.
_MOMENTS: Final = ("begin", "create", "start", "die", "destroy", "end")
_TITLES: Final = {
    "create": "of a `run`: the client's start, and the container's creation",
    "start": "until its process runs",
    "die": "until that has ended",
    "destroy": "until the container is gone",
    "end": "until the client has ended",
}


def _moments(engine: Engine, bench: Bench) -> Mapping[str, float]:
    name = f"phases-{bench.round}-{time.time_ns()}"
    begin = time.time()
    engine("run", "--rm", "--network=none", "--name", name, bench.image, "true")
    end = time.time()
    asked = ["--since", f"{begin:.9f}", "--until", f"{time.time():.9f}", "--filter", f"container={name}"]
    events = [json.loads(line) for line in engine("events", *asked, "--format", "{{json .}}").splitlines()]
    return {"begin": begin, "end": end} | {each["Action"]: each["timeNano"] / 1e9 for each in events}


def _until(moment: str) -> Callable[[Engine, Bench], float]:
    before = _MOMENTS[_MOMENTS.index(moment) - 1]

    def phase(engine: Engine, bench: Bench) -> float:
        if engine.api_socket is None:  # podman's events have other words
            raise Unmeasured
        moments = _moments(engine, bench)
        return moments[moment] - moments[before]

    return phase


PHASES: Final[Mapping[str, Measure]] = {
    f"until-{moment}": Measure(title, "ms", _until(moment), _RUNS) for moment, title in _TITLES.items()
}
