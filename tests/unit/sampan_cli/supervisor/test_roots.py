import os
import threading
from pathlib import Path

import pytest

from sampan.errors import ConflictError
from sampan.layout import Layout
from sampan_cli.supervisor.roots import claim, services


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data", tmp_path / "run")


def test_both_roots_are_held_until_the_end(layout: Layout) -> None:
    with claim(layout), pytest.raises(ConflictError, match=f"already running on .*pid {os.getpid()}"), claim(layout):
        pass
    with claim(layout):
        assert (layout.run_root / "engine.lock").read_text().split() == [str(os.getpid())]


def test_an_engine_refused_for_its_data_root_leaves_no_run_root(layout: Layout, tmp_path: Path) -> None:
    other = Layout(layout.data_root, tmp_path / "other")
    logs = other.run_root / "logs"
    logs.mkdir(parents=True)
    (logs / "sampan.log").touch()
    with claim(layout), pytest.raises(ConflictError, match=r"data root .* in use by another engine"), claim(other):
        pass
    assert not other.run_root.exists()


def test_a_run_root_of_before_is_left_alone(layout: Layout, tmp_path: Path) -> None:
    other = Layout(layout.data_root, tmp_path / "other")
    with claim(Layout(tmp_path / "own", other.run_root)):
        pass
    (other.run_root / "logs").mkdir()
    with claim(layout), pytest.raises(ConflictError), claim(other):
        pass
    assert sorted(path.name for path in other.run_root.iterdir()) == ["engine.lock", "logs"]


def test_what_is_not_the_engines_is_left_alone(layout: Layout, tmp_path: Path) -> None:
    other = Layout(layout.data_root, tmp_path / "other")
    other.run_root.mkdir()
    (other.run_root / "mine").touch()
    with claim(layout), pytest.raises(ConflictError), claim(other):
        pass
    assert [path.name for path in other.run_root.iterdir()] == ["mine"]


def test_a_lock_whose_name_is_gone_is_no_lock(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the opening and the locking, another one that was refused cleared the root."""
    real_open, path = os.open, layout.run_root / "engine.lock"
    cleared: list[Path] = []

    def open_then_clear(name: Path, *rest: int) -> int:
        fd = real_open(name, *rest)
        if name == path and not cleared:
            path.unlink()
            cleared.append(path)
        return fd

    monkeypatch.setattr(os, "open", open_then_clear)
    with claim(layout):
        assert path.exists()
        with pytest.raises(ConflictError), claim(layout):
            pass


def test_a_lock_whose_owner_has_given_its_number_to_a_thread_is_nobody_s(layout: Layout) -> None:
    lock = layout.data("imaged") / "lock"
    lock.parent.mkdir(parents=True)
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        lock.write_text(f"{thread.native_id}\n")
        assert services(layout, ["imaged"]) == []
    finally:
        over.set()
        thread.join()
