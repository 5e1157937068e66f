"""Pin what this environment has installed of the project's dependencies.

Writes requirements/lock.txt (what runs), test-lock.txt, dev-lock.txt and tracing-lock.txt (what is needed beyond it).
Upgrade packages in .venv first, then run ``.venv/bin/python tools/lock.py``; ``--check`` only says whether every
dependency is pinned.
"""

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
HEADER = "# Written by tools/lock.py.\n"


# Not every environment has these.
OPTIONAL = ("tracing-lock.txt",)


def installed(requirements: list[str]) -> bool:
    """Whether all that is named itself is there."""
    try:
        return all(distribution(Requirement(text).name) for text in requirements)
    except PackageNotFoundError:
        return False


def closure(requirements: list[str]) -> dict[str, str]:
    """Return name -> version of everything that ``requirements`` lead to."""
    pins: dict[str, str] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{name} is not installed: make dev-needs") from None
        if found.version not in requirement.specifier:
            raise SystemExit(f"{name} {found.version} is installed, {requirement} is asked for")
        if name not in pins or requirement.extras:
            pins[name] = found.version
            waiting += needs(found.requires or [], requirement.extras)
    return pins


def needs(requires: list[str], extras: set[str]) -> Iterator[Requirement]:
    """Yield what applies to this interpreter, or to a newer one: markers of the others would drop a pin there."""
    for text in requires:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            yield requirement


def locks() -> dict[Path, str]:
    """Return the text of each lock file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    groups = {
        "lock.txt": [*project["build-system"]["requires"], *project["project"]["dependencies"]],
        "test-lock.txt": extras["test"],
        "dev-lock.txt": extras["dev"],
        "tracing-lock.txt": extras["tracing"],
    }
    texts = {}
    seen: dict[str, str] = {}
    runs: dict[str, str] = {}  # the first group
    for name, requirements in groups.items():
        if name in OPTIONAL and not installed(requirements):
            continue
        known = runs if name in OPTIONAL else seen  # what is optional may be installed without what tests need
        pins = {key: version for key, version in closure(requirements).items() if key not in known}
        runs = runs or pins
        seen |= pins
        texts[ROOT / "requirements" / name] = HEADER + "".join(f"{key}=={pins[key]}\n" for key in sorted(pins))
    return texts


def main() -> int:
    """Write the files, or with ``--check`` compare them."""
    stale = [path for path, text in locks().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not current: run .venv/bin/python tools/lock.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(locks()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
