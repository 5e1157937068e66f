"""What the prose names is there: a file that was moved is found under its new name."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROSE = ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/glossary.md", "docs/rooms.md")

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


HOUSES = (
    *sorted(f"services/{each.parent.name}" for each in ROOT.glob("services/*/main.py")),
    "sampan",
    "cli/sampan_cli",
)
WITHOUT_NAME = {"api", "schema", "wire", "commands"}  # generated, or in every service; a folder of rooms


@pytest.mark.parametrize("house", HOUSES)
def test_every_room_is_told_of(house: str) -> None:
    sections = re.split(r"^## ", (ROOT / "docs/rooms.md").read_text(), flags=re.MULTILINE)
    (section,) = [each for each in sections if each.startswith(f"{house}\n")]
    told = {
        name
        for line in section.splitlines()
        for name in re.findall(r"`([\w/]+)`", line.partition("|")[2].partition("|")[0])
    }
    there = {
        room
        for path in (ROOT / house).rglob("*.py")
        if path.name != "__init__.py" and (room := path.parent.relative_to(ROOT / house).as_posix()) != "."
    }
    there = {each for each in there if each not in WITHOUT_NAME and not each.startswith("api/")}
    assert told - {"wire"} == there - {"wire"}
