"""What a measure is, and what measures share."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.change import write_change
from bench.engines import Engine
from bench.pulls import FreshImages
from tests.support.images import push
from tests.support.registry import Registry

SETTLE_S: Final = 20.0  # engines clean up for some seconds after work: that is not rest yet


class Unmeasured(Exception):  # noqa: N818  # nothing went wrong
    """This engine has nothing to measure here."""


@dataclass(slots=True)
class Bench:
    """What measures share."""

    registry: Registry
    image: str  # the small image, present in every engine
    images: FreshImages
    directory: Path  # for files
    targets: Mapping[str, Registry]  # by engine: the registry that is pushed to, and which has nothing at first
    archiver: Engine  # who writes the archives that all engines load
    round: int = 0
    fresh: str = ""  # what this round pulls
    given: set[tuple[str, str]] = field(default_factory=set)  # engine and what it has been given to keep
    running: dict[str, int] = field(default_factory=dict)  # by engine: containers that stay for the rows that follow
    _kept: str = ""
    _with_kept: set[str] = field(default_factory=set)
    _archive_of: str = ""
    _change: tuple[Path, str] | None = None

    def next_round(self, pulls: str) -> None:
        """Begin another round; everything in it is the same for all engines. ``pulls`` names what is pulled in it."""
        self.round += 1
        if pulls:
            self.fresh = self._publish(pulls)

    def debian(self, engine: Engine) -> str:
        """Return an image of Debian that the engine has from now on."""
        self._kept = self._kept or self._publish("one")
        if engine.name not in self._with_kept:
            engine.pull(self._kept)
            self._with_kept.add(engine.name)
        return self._kept

    def archive(self) -> Path:
        """Return an archive of this round's image; nobody has a layer of it."""
        path = self.directory / "fresh.tar"
        if self._archive_of != self.fresh:
            self.archiver.pull(self.fresh)
            path.unlink(missing_ok=True)
            self.archiver("save", "--output", str(path), self.fresh)
            self.archiver("rmi", "--force", self.fresh)
            self._archive_of = self.fresh
        return path

    def change(self) -> tuple[Path, str]:
        """Return the archive of what a container writes, and the digest of its files."""
        if self._change is None:
            path = self.directory / "change.tar"
            self._change = path, write_change(path)
        return self._change

    def _publish(self, stack: str) -> str:
        mark = f"round-{self.round}-{time.time_ns()}"
        push(self.registry, stack, mark, self.images.image(stack, mark))
        return f"{self.registry.address}/{stack}:{mark}"


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the result. ``run`` returns seconds, bytes or a share, and raises if the engine has not done it."""

    title: str
    unit: str  # "ms", "s", "MB", "×" or "%"
    run: Callable[[Engine, Bench], float]
    runs: int  # how often by default
    pulls: str = ""  # which of the fresh images each round needs


def seconds(engine: Engine, *arguments: str) -> float:
    """Return how long a command takes."""
    begin = time.monotonic()
    engine(*arguments)
    return time.monotonic() - begin


def settled_seconds(engine: Engine, *arguments: str) -> float:
    """The same, once the disk has what was written before: by another engine, or to prepare this."""
    os.sync()
    return seconds(engine, *arguments)
