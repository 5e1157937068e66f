"""What the prose names is there: a file that was moved is found under its new name."""

import itertools
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from sampan_cli.app.app import app

ROOT = Path(__file__).parents[2]
PAGES = ("architecture", "glossary", "performance", "rooms")
GUIDES = ("docs/getting-started.md", "docs/coming-from-docker.md", "docs/operating.md", "docs/security.md")
PROSE = ("README.md", "CONTRIBUTING.md", *(f"docs/{page}.md" for page in PAGES), *GUIDES)
DOCUMENTS = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))

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
    section = next((each for each in sections if each.startswith(f"{house}\n")), None)
    assert section is not None, f"docs/rooms.md has no section of {house}"
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


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if "://" not in link and not ((ROOT / document).parent / link).exists()] == []


def commands(text: str) -> list[list[str]]:
    """Return the command lines of ``sampan`` in a document: in code, and at the ends of pipes."""
    code = re.findall(r"```(?:sh|text)?\n(.*?)```", text, re.DOTALL) + re.findall(r"`(sampan [^`]+)`", text)
    found = []
    for line in "\n".join(code).splitlines():
        for part in re.split(r"\s*(?:\||;|&&)\s*", line.partition("  #")[0]):
            words = shlex.split(part, comments=True) if part.startswith("sampan ") else []
            if words:
                found.append([word for word in words[1:] if word not in ("-…", "…")])
    return found


@pytest.mark.parametrize("document", GUIDES)
def test_commands_that_guides_name_are_such(document: str) -> None:
    """Every command and every flag is there; that those of the first guide work is tried on an engine."""
    for words in commands((ROOT / document).read_text()):
        command: click.Command = app
        context = click.Context(app, info_name="sampan")
        rest = list(words)
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            following = command.get_command(context, rest.pop(0))
            assert following is not None, words
            command = following
        known = {name for param in command.get_params(context) for name in (*param.opts, *param.secondary_opts)}
        own = (
            itertools.takewhile(lambda word: word.startswith("-"), rest) if "run" in words or "exec" in words else rest
        )
        flags = {word.partition("=")[0] for word in own if word.startswith("-") and word != "-"}
        assert flags <= known, f"{document}: sampan {' '.join(words)}: {flags - known}"


def test_files_for_a_machine_that_are_named_are_installed() -> None:
    """Whoever has a package has no sources beside the guides."""
    named = {found for each in DOCUMENTS for found in re.findall(r"`deploy/(\w+)", (ROOT / each).read_text())}
    copied = re.search(r"^cp -r (.*) \"\$share/doc/sampan/deploy/\"$", (ROOT / "tools/install-tree").read_text(), re.M)
    assert copied is not None
    assert named
    assert named <= {Path(each).name for each in copied[1].split()}
