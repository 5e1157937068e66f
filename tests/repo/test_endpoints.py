"""An endpoint of the Docker API is made in a few places; whoever forgets one is told which.

That each has a name and a reach is held by ``tests/unit/dockerapi/rights/test_scopes.py``.
"""

import importlib
from pathlib import Path

import pytest

from dockerapi.main import ROUTES

SERVICES = Path(__file__).parents[2] / "services"
TABLES = sorted(
    path.relative_to(SERVICES).with_suffix("").as_posix().replace("/", ".")
    for path in (SERVICES / "dockerapi").rglob("*.py")
    if "\nROUTES" in path.read_text() and path.name != "main.py"
)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_of_routes_is_served(table: str) -> None:
    own = importlib.import_module(table).ROUTES
    assert own
    assert [route for route in own if route not in ROUTES] == [], f"services/dockerapi/main.py does not serve {table}"


def test_no_route_hides_another() -> None:
    listed = [(route.method, route.path) for route in ROUTES]
    assert sorted(listed) == sorted(set(listed))
