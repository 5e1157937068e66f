"""Linters as tests: what ``make check`` checks fails here by name, too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MAX_FILE_LINES = {**dict.fromkeys(("sampan", "services", "cli", "bench", "tools"), 400), "tests": 500}


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "format", "--check", "."],
        ["ruff", "check", "."],
        ["mypy"],
        ["lint-imports"],
        ["tools/gen-protos", "--check"],
        [sys.executable, "tools/lock.py", "--check"],
        [sys.executable, "tools/config_reference.py", "--check"],
        [sys.executable, "tools/dashboards.py", "--check"],
        [sys.executable, "tools/pictures.py", "--check"],
        [sys.executable, "tools/layout.py"],
    ],
    ids=["format", "lint", "types", "imports", "stubs", "locks", "config-docs", "dashboards", "pictures", "layout"],
)
@pytest.mark.timeout(600)
def test_gate(command: list[str]) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PATH": path})
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_no_file_holds_more_than_one_concept_s_worth_of_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for top, most in MAX_FILE_LINES.items()
        for path in (ROOT / top).rglob("*.py")
        if "api" not in path.parts and (lines := len(path.read_text().splitlines())) > most
    }
    assert long == {}


def test_tools_that_write_files_take_no_flag_for_a_directory(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools/man_pages.py"), "--help"]
    asked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""})
    assert (asked.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "man_pages.py DIRECTORY" in asked.stderr


def test_no_name_in_the_tree_reads_as_a_flag() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [name for name in listed.splitlines() if any(part.startswith("-") for part in name.split("/"))] == []
