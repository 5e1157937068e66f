"""What can be told of a service by what is on disk."""

from dataclasses import replace
from pathlib import Path

from sampan.layout import Layout

SERVICE = "buildd"


def test_a_service_is_empty_that_never_ran_or_says_so(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data", tmp_path / "run")
    assert layout.is_empty(SERVICE)
    layout.data(SERVICE).mkdir(parents=True)
    assert not layout.is_empty(SERVICE)
    layout.empty(SERVICE).touch()
    assert layout.is_empty(SERVICE)


def test_of_an_engine_elsewhere_nothing_can_be_told(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data", tmp_path / "run")
    assert not replace(layout, there=Layout()).is_empty(SERVICE)


def test_where_looking_fails_nothing_can_be_told(tmp_path: Path) -> None:
    too_long = "x" * 300  # as with a directory that is closed to whoever looks
    assert not Layout(tmp_path / too_long, tmp_path / "run").is_empty(SERVICE)
