"""What is deployed for Prometheus and Grafana: the queries of dashboards, and the rules."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

DEPLOYED: Final = Path(__file__).parents[2] / "deploy"

PODS: Final = "pods"  # the dashboard of crid, which an engine has only if it is asked to

# What a person has chosen, or Grafana fills in.
_CHOSEN: Final = {
    "__rate_interval": "10s", "interval": "1m", "container": ".*", "host": ".*", "node": ".*",
}  # fmt: skip

# Names of series in an expression that are no labels, of grpc's.
_LABELS: Final = frozenset(("grpc_code", "grpc_service", "grpc_method"))


def filled(query: str, job: str = ".*") -> str:
    """Return a query with its variables replaced."""
    return re.sub(r"\$(\w+)", lambda match: (_CHOSEN | {"job": job})[match[1]], query)


def panels() -> Iterator[tuple[str, str, str]]:
    """Yield dashboard, panel and query of every target of every dashboard."""
    for path in sorted((DEPLOYED / "grafana/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield path.stem, panel["title"], target["expr"]


def rules() -> list[str]:
    """Return the expressions of all alerts."""
    return re.findall(r"expr: (.*)", (DEPLOYED / "prometheus/sampan.rules.yml").read_text())


def series_of(expression: str) -> set[str]:
    """Return the series that an expression names, histograms by their own name."""
    without = re.sub(r"by \([^)]*\)|=~?\"[^\"]*\"", "", expression)
    found = set(re.findall(r"\b(?:sampan|grpc|container)_\w+|\bup\b", without)) - _LABELS
    return {name.removesuffix("_bucket") for name in found}
