"""What a running service says of itself beside its health: ``<run-root>/<service>.json``, and series of its databases.

The file holds ``pid``, ``socket`` and ``metrics`` (its address), and ``problems``: sentences about what does not keep
the service from its work and should be looked after all the same, such as a disk that is full. ``sampan status`` shows
them. ``waits`` is in that of a service which does not run and is started for whoever connects; the process is the
supervisor's then.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sampan.layout import Layout
from sampan.log import log
from sampan.sys.closed import share
from sampan.sys.files import is_full

if TYPE_CHECKING:  # not every service has a database
    from sampan.store.database import Store


class StateFile:
    """Exists from ``open`` to ``close``; problems may be noted before and in between."""

    def __init__(self, name: str, layout: Layout, group: str, *, waits: bool = False) -> None:
        self._path = layout.state_file(name)
        self._facts: dict[str, object] = {"service": name, "pid": os.getpid(), "socket": str(layout.socket(name))}
        if waits:
            self._facts["waits"] = True
        self._group = group
        self._problems: dict[str, str] = {}
        self._open = False

    def open(self, metrics: str) -> None:
        """Tell that the service serves."""
        self._facts["metrics"] = metrics
        self._open = True
        self._write()

    def close(self) -> None:
        """Tell nobody any more."""
        self._open = False
        self._path.unlink(missing_ok=True)

    def note(self, what: str, problem: str) -> None:
        """Tell of a problem with ``what``, in place of what was told of it before; empty: there is none any more."""
        if self._problems.get(what, "") == problem:
            return
        self._problems[what] = problem
        if self._open:
            with contextlib.suppress(OSError):  # the run root may be full as well: the next one tells
                self._write()

    def _write(self) -> None:
        problems = sorted(filter(None, self._problems.values()))
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps({**self._facts, "problems": problems}))
            share(temporary, self._group, 0o640)
            temporary.rename(self._path)
        except OSError as error:
            log.warning("state file not written", path=str(self._path), error=str(error))
            temporary.unlink(missing_ok=True)
            if not is_full(error):
                raise


class StoreCollector(Collector):
    """``sampan_store_*``: whether a database finds its disk full."""

    def __init__(self, stores: "Sequence[Store]", data_root: Path) -> None:
        """``stores`` may grow."""
        self._stores = stores
        self._data_root = data_root

    def collect(self) -> Iterator[Metric]:
        """Yield the series."""
        reserve = GaugeMetricFamily(
            "sampan_store_reserve_bytes",
            "Space reserved for a database's writes on a full disk; less than usual: it was given up.",
            labels=["database"],
        )
        full = CounterMetricFamily(
            "sampan_store_disk_full", "Transactions that found the disk full, by database.", labels=["database"]
        )
        for store in self._stores:
            name = str(store.path.relative_to(self._data_root))
            reserve.add_metric([name], store.reserve_bytes)
            full.add_metric([name], store.found_full)
        yield reserve
        yield full
