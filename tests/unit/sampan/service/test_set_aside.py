"""What a service sets aside is told to people and to Prometheus, and forgotten when it is removed."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from sampan.errors import ConflictError
from sampan.layout import Layout
from sampan.service.set_aside import SetAside, read_set_aside


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", tmp_path / "run")
    layout.run("runtimed").mkdir(parents=True)
    return layout


def test_what_fails_is_set_aside_with_its_reason_and_the_rest_goes_on(layout: Layout) -> None:
    found = SetAside("runtimed", layout.run("runtimed"))
    for name in ("one", "two", "three"):
        with found.guard("volume", name, name="name"):
            if name == "two":
                raise RecursionError("too\ndeep")
    assert [each.id for each in found] == ["two"]
    assert found.reason("volume", "two") == "RecursionError: too deep"
    assert found.reason("volume", "one") == found.reason("container", "two") == ""
    (read,) = read_set_aside(layout, ("runtimed", "imaged"))
    assert str(read) == "runtimed has set aside volume name (two) when it started: RecursionError: too deep"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(5, "bad disk", "/x"), "[Errno 5] bad disk: '/x'"),
        (ConflictError("taken"), "taken"),
        (KeyError(), "KeyError"),
    ],
)
def test_a_reason_is_one_line_that_says_what_failed(error: Exception, reason: str) -> None:
    found = SetAside()
    with found.guard("layer", "l"):
        raise error
    assert found.reason("layer", "l") == reason


def test_a_cancelled_recovery_is_not_swallowed() -> None:
    with pytest.raises(asyncio.CancelledError), SetAside().guard("volume", "v"):
        raise asyncio.CancelledError


def test_metrics_count_by_kind_and_a_removed_one_is_gone(layout: Layout) -> None:
    registry = CollectorRegistry()
    found = SetAside("runtimed", layout.run("runtimed"))
    found.count_in(registry, ("volume", "container"))
    found.add("volume", "v", "broken")
    assert registry.get_sample_value("sampan_runtimed_set_aside", {"kind": "volume"}) == 1
    assert registry.get_sample_value("sampan_runtimed_set_aside", {"kind": "container"}) == 0
    found.drop("volume", "v")
    found.drop("volume", "v")
    assert registry.get_sample_value("sampan_runtimed_set_aside", {"kind": "volume"}) == 0
    assert read_set_aside(layout, ("runtimed",)) == ()


def test_a_new_process_begins_with_nothing_set_aside(layout: Layout) -> None:
    SetAside("runtimed", layout.run("runtimed")).add("volume", "v", "broken")
    SetAside("runtimed", layout.run("runtimed"))
    assert read_set_aside(layout, ("runtimed",)) == ()


def test_a_list_that_cannot_be_read_is_as_good_as_none(layout: Layout) -> None:
    (layout.run("runtimed") / "set-aside.json").write_text('[{"service"')
    assert read_set_aside(layout, ("runtimed",)) == ()
