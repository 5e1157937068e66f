"""Import whatever the packages named import, at their beginning or later, and so see that all of it is installed:

python import_all.py DIRECTORY PACKAGE...    # where the packages are
"""

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path


def imported(path: Path) -> Iterator[str]:
    """Yield the names of modules that a file imports; of ``from x import y`` both x and x.y, which may be none."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def main(arguments: list[str]) -> int:
    """Return how many modules cannot be imported."""
    directory, *packages = arguments
    sys.path.insert(0, directory)
    sources = [path for package in packages for path in Path(directory, package).rglob("*.py")]
    missing = 0
    for name in sorted({name for path in sources for name in imported(path)}):
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)
            missing += 1
    if not sources:
        print(f"{directory}: nothing of {' '.join(packages)} is there", file=sys.stderr)
    return min(missing + (not sources), 100)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
