from datetime import UTC, datetime, timedelta

import pytest

from runtimed.network.core.model import Network
from runtimed.network.planning.filters import prunable, select
from sampan.errors import InvalidArgumentError

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ALL = (
    Network("a1", "bridge", "bridge", NOW - timedelta(days=9)),
    Network("b2", "none", "null", NOW - timedelta(days=9)),
    Network("c3", "shop_front", "bridge", NOW - timedelta(hours=2), labels={"tier": "web"}),
    Network("c4", "shop_back", "bridge", NOW - timedelta(minutes=2)),
)
USED = frozenset({"c3"})


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["bridge", "none", "shop_front", "shop_back"]),
        ({"name": ("shop",)}, ["shop_front", "shop_back"]),
        ({"name": ("^shop_[b-c]",)}, ["shop_back"]),
        ({"id": ("4$",)}, ["shop_back"]),
        ({"id": ("c4", "a")}, ["bridge", "shop_back"]),
        ({"driver": ("null",)}, ["none"]),
        ({"type": ("custom",), "name": ("back", "bridge")}, ["shop_back"]),
        ({"type": ("builtin",)}, ["bridge", "none"]),
        ({"label": ("tier",)}, ["shop_front"]),
        ({"label": ("tier=db",)}, []),
        ({"dangling": ("true",)}, ["shop_back"]),
        ({"dangling": ("false",)}, ["bridge", "none", "shop_front"]),
        ({"scope": ("swarm",)}, []),
    ],
)
def test_filter_selects_as_dockers_does(filters: dict[str, tuple[str, ...]], expected: list[str]) -> None:
    assert [network.name for network in select(ALL, filters, USED)] == expected


@pytest.mark.parametrize(
    "filters", [{"colour": ("red",)}, {"type": ("odd",)}, {"dangling": ("perhaps",)}, {"name": ("(",)}]
)
def test_filter_that_is_none_is_refused(filters: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid filter"):
        select(ALL, filters, USED)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["shop_back"]),
        ({"until": ("1h",)}, []),
        ({"until": ("1m30s",)}, ["shop_back"]),
        ({"label!": ("tier",)}, ["shop_back"]),
        ({"label": ("tier",)}, []),
    ],
)
def test_prune_takes_unused_networks_of_users(filters: dict[str, tuple[str, ...]], expected: list[str]) -> None:
    assert [network.name for network in prunable(ALL, filters, USED, NOW)] == expected
