"""Write Grafana's dashboards below deploy/grafana from one table, so that all panels are made alike.

python tools/dashboards.py            # write
python tools/dashboards.py --check    # exit 1 if a file says something else

The table is TOML: ``deploy/grafana/panels/<dashboard>.toml``. A dashboard has rows, a row has panels, a panel has
queries; ``[variables]`` names what a person chooses, by the query that lists the values. Every query is one that
``tests/integration/engine/test_dashboards.py`` runs.
"""

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLES = ROOT / "deploy/grafana/panels"
TARGETS = ROOT / "deploy/grafana/dashboards"

_COLUMNS = 24  # of Grafana's grid
_HEIGHT = 8
_HEIGHTS = {"stat": 4}
_WIDTH = 8
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Panel:
    """What one panel shows."""

    title: str
    queries: Mapping[str, str]  # PromQL by legend
    unit: str = "short"  # Grafana's name
    kind: str = "timeseries"
    width: int = _WIDTH
    about: str = ""
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One table, as it was read."""

    name: str  # of the file
    title: str
    about: str
    variables: Mapping[str, str]
    rows: Sequence[tuple[str, Sequence[Panel]]]

    def queries(self) -> Iterator[tuple[str, str]]:
        """Yield every panel's queries, with the title of their panel."""
        for _, panels in self.rows:
            for panel in panels:
                for query in panel.queries.values():
                    yield panel.title, query


def read(path: Path) -> Dashboard:
    """Read one table. An unknown key is a TypeError that names it."""
    table = tomllib.loads(path.read_text())
    rows = [(row["title"], [Panel(**panel) for panel in row["panels"]]) for row in table["rows"]]
    return Dashboard(path.stem, table["title"], table["about"], table["variables"], rows)


def dashboards() -> list[Dashboard]:
    """Read all tables."""
    return [read(path) for path in sorted(TABLES.glob("*.toml"))]


def render(dashboard: Dashboard) -> Json:
    """Return what Grafana reads."""
    return {
        "uid": f"sampan-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["sampan"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # the crosshair is shared
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_choose_source(), *_variables(dashboard.variables)]},
        "panels": list(_placed(dashboard.rows)),
    }


def _choose_source() -> Json:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variables(variables: Mapping[str, str]) -> Iterator[Json]:
    for name, query in variables.items():
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": _DATASOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,  # when the time range changes
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


def _placed(rows: Sequence[tuple[str, Sequence[Panel]]]) -> Iterator[Json]:
    """Yield rows and panels with their places: from left to right, as many in a line as fit."""
    number, top = 0, 0
    for title, panels in rows:
        number += 1
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place}
        top, left, height = top + 1, 0, 0
        for panel in panels:
            if left + panel.width > _COLUMNS:
                top, left, height = top + height, 0, 0
            number += 1
            own = _HEIGHTS.get(panel.kind, _HEIGHT)
            yield _panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": own})
            left, height = left + panel.width, max(height, own)
        top += height


def _panel(panel: Panel, number: int, place: Json) -> Json:
    table = panel.kind == "table"
    custom: Json = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stacked else {}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "options": _options(panel.kind),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATASOURCE,
                "expr": query,
                "legendFormat": "" if table else legend,
                "format": "table" if table else "time_series",
                "instant": table,
                "range": not table,
            }
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _options(kind: str) -> Json:
    if kind == "timeseries":
        return {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]}}
    if kind in ("stat", "bargauge"):
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "auto", "textMode": "value_and_name"}
    return {}


def main(arguments: Sequence[str]) -> int:
    """Write, or check."""
    wanted = {TARGETS / f"{each.name}.json": f"{json.dumps(render(each), indent=1)}\n" for each in dashboards()}
    if list(arguments) == ["--check"]:
        wrong = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
        wrong += [path for path in TARGETS.glob("*.json") if path not in wanted]
        for path in wrong:
            print(f"{path.relative_to(ROOT)} is not what the tables say: run tools/dashboards.py")
        return 1 if wrong else 0
    TARGETS.mkdir(parents=True, exist_ok=True)
    for path, text in wanted.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
