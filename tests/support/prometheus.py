"""A real Prometheus, Debian's package, and what its linter has to say."""

import contextlib
import json
import math
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tests.support.tools import eventually, free_port, need

# Names and labels that others chose and dashboards ask for, although Prometheus' own rules speak against them.
_OTHERS_NAMES = {"cadvisor_version_info", "container_fs_inodes_total", "engine_daemon_events_subscribers_total"}


def complaints(exposition: bytes) -> list[str]:
    """Return what promtool finds wrong with an exposition, but for names that are others'."""
    need("promtool")
    checked = subprocess.run(["promtool", "check", "metrics"], input=exposition, capture_output=True)
    lines = checked.stderr.decode().splitlines()
    if checked.returncode not in (0, 3):  # 3: a matter of style
        return lines
    return [line for line in lines if line.partition(" ")[0] not in _OTHERS_NAMES]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus that runs."""

    url: str
    since: float  # when it began, in seconds since the epoch

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query. ValueError: it is none."""
        return self._ask("query", {"query": expression})

    def found(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query as soon as there are some.

        A busy machine may miss a scrape, and what is not scraped is not there until the next one.
        """
        samples: list[dict[str, Any]] = []

        def some() -> bool:
            samples[:] = self.query(expression)
            return bool(samples)

        eventually(some, f"{expression} finds something")
        return samples

    def query_range(self, expression: str, step_s: float = 1) -> list[dict[str, Any]]:
        """Return the series of everything since the beginning, as a graph asks for them. ValueError: it is none."""
        span = {"start": f"{self.since:.3f}", "end": f"{time.time():.3f}", "step": f"{step_s:g}"}
        return self._ask("query_range", {"query": expression, **span})

    def numbers(self, expression: str) -> list[float]:
        """Return every number, NaN left out, that the query has had since the beginning."""
        values = (float(value) for series in self.query_range(expression) for _, value in series["values"])
        return [value for value in values if not math.isnan(value)]

    def _ask(self, what: str, fields: Mapping[str, str]) -> list[dict[str, Any]]:
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(fields)}", timeout=60
            ) as answer:
                result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return result
        except HTTPError as error:
            if error.code not in (400, 422):
                raise
            raise ValueError(f"{fields['query']}: {json.load(error)['error']}") from error


@contextlib.contextmanager
def run_prometheus(directory: Path, jobs: Sequence[Mapping[str, Any]], targets: int) -> Iterator[Prometheus]:
    """Run one that scrapes ``jobs`` once a second, until the block ends; ``targets`` of them must answer."""
    need("prometheus")
    directory.mkdir(parents=True, exist_ok=True)
    config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": list(jobs)}
    (directory / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    running = Prometheus(f"http://127.0.0.1:{port}", time.time())

    def ready() -> bool:
        assert process.poll() is None, (directory / "log").read_text()[-2000:]
        try:
            return len(running.query("up == 1")) >= targets
        except OSError:
            return False

    try:
        eventually(ready, f"Prometheus has scraped {targets} targets")
        yield running
    finally:
        process.terminate()
        process.wait(60)
