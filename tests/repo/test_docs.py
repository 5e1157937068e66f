"""What the prose names is there: a file that was moved is found under its new name."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROSE = ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/glossary.md")

_FILE = re.compile(r"`([\w./-]+\.(?:py|proto|md|sql))`")
_FOLDER = re.compile(r"`((?:services|sampan|cli|tests|tools|deploy|bench|protos|examples|docs)/[\w/-]+)/?`")


def names(text: str) -> set[str]:
    return {found.strip("/") for form in (_FILE, _FOLDER) for found in form.findall(text)}


@pytest.mark.parametrize("document", PROSE)
def test_files_and_folders_that_are_named_exist(document: str) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    places = {f"/{each}" for each in listed} | {f"/{parent}" for each in listed for parent in Path(each).parents}
    missing = [
        name
        for name in sorted(names((ROOT / document).read_text()))
        if not any(place.endswith((f"/{name}", f"/{name}.py")) for place in places)
    ]
    assert missing == []


def test_a_file_that_is_not_there_would_be_found() -> None:
    assert names("see `gone/away.py`, `services/gone` and `a word`") == {"gone/away.py", "services/gone"}
