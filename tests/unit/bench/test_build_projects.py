from pathlib import Path

from bench.builds import projects


def test_the_application_has_its_source_files_and_ten_steps_after_its_base(tmp_path: Path) -> None:
    context = projects.application(tmp_path / "context", "base")

    first, *steps = (context / "Dockerfile").read_text().splitlines()

    assert first == "FROM base"
    assert len(steps) == projects.STEPS
    assert sum(1 for _ in (context / "source").glob("*/*")) == projects.SOURCE_FILES


def test_a_change_is_of_one_file_and_made_once(tmp_path: Path) -> None:
    context = projects.application(tmp_path / "context", "base")
    before = projects.application_output(context)

    changed = projects.change_source(context, "another")
    written_ns = changed.stat().st_mtime_ns
    again = projects.change_source(context, "another")

    assert changed.read_text() == "another"
    assert (again, again.stat().st_mtime_ns) == (changed, written_ns)
    assert projects.application_output(context) != before
    assert sum(1 for _ in (context / "source").glob("*/*")) == projects.SOURCE_FILES
