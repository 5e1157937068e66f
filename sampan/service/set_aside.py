"""Objects that a service could not recover when it started: named, told, and out of the way of all others.

They are kept nowhere but in the service's run directory, for as long as its process lives: the next start tries again.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.layout import Layout
from sampan.log import log

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Gauge

FILE: Final = "set-aside.json"


@dataclass(frozen=True, slots=True)
class Unrecovered:
    """An object, and why it is set aside."""

    service: str
    kind: str  # container, volume, network, layer, …
    id: str
    reason: str
    name: str = ""

    def __str__(self) -> str:
        shown = f"{self.name} ({self.id[:12]})" if self.name and self.name != self.id else self.id
        return f"{self.service} has set aside {self.kind} {shown} when it started: {self.reason}"


class SetAside:
    """What a service has set aside."""

    def __init__(self, service: str = "", directory: Path | None = None) -> None:
        """Keep the list in ``directory`` for others to read, or without one in memory alone; it is empty at first."""
        self._service = service
        self._file = directory / FILE if directory is not None else None
        self._found: dict[tuple[str, str], Unrecovered] = {}
        self._gauge: Gauge | None = None
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def count_in(self, metrics: "CollectorRegistry", kinds: Iterable[str]) -> None:
        """Show how many there are of each of ``kinds`` as ``sampan_<service>_set_aside``."""
        from prometheus_client import Gauge

        self._gauge = Gauge(
            f"sampan_{self._service}_set_aside",
            "Objects that could not be recovered at the start and are set aside, by kind.",
            ["kind"],
            registry=metrics,
        )
        for kind in kinds:
            self._gauge.labels(kind)

    def __iter__(self) -> Iterator[Unrecovered]:
        return iter(tuple(self._found.values()))

    def reason(self, kind: str, id: str) -> str:
        """Return why an object is set aside; nothing if it is not."""
        found = self._found.get((kind, id))
        return found.reason if found is not None else ""

    def add(self, kind: str, id: str, reason: str, name: str = "") -> None:
        """Set an object aside."""
        log.error("set aside what cannot be recovered", kind=kind, id=id, name=name, reason=reason)
        self._found[kind, id] = Unrecovered(self._service, kind, id, reason, name)
        self._changed(kind)

    def drop(self, kind: str, id: str) -> None:
        """Forget one that is removed, or well again; no error if it was not set aside."""
        if self._found.pop((kind, id), None) is not None:
            self._changed(kind)

    @contextlib.contextmanager
    def guard(self, kind: str, id: str, name: str = "") -> Iterator[None]:
        """Set the object aside if the block fails, and go on behind it."""
        try:
            yield
        except Exception as error:
            self.add(kind, id, why(error), name)

    def _changed(self, kind: str) -> None:
        if self._gauge is not None:
            self._gauge.labels(kind).set(sum(1 for each in self._found.values() if each.kind == kind))
        if self._file is None:
            return
        temporary = self._file.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps([asdict(each) for each in self._found.values()]))
            temporary.rename(self._file)
        except OSError as error:  # the list is for people; the log has it, too
            log.warning("cannot write down what is set aside", path=str(self._file), error=error.strerror)


def why(error: Exception) -> str:
    """Return an error in one line, as a reason."""
    text = " ".join(str(error).split())
    return text if isinstance(error, OSError) or type(error).__module__ == "sampan.errors" else _typed(error, text)


def _typed(error: Exception, text: str) -> str:
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def read_set_aside(layout: Layout, services: Iterable[str]) -> tuple[Unrecovered, ...]:
    """Return what services have set aside, as far as the caller may read it; blocks."""
    found: list[Unrecovered] = []
    for service in services:
        with contextlib.suppress(OSError, ValueError, TypeError):
            found += [Unrecovered(**each) for each in json.loads((layout.run(service) / FILE).read_text())]
    return tuple(found)
