"""Directories in the place of outputs."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from buildd.files.copying import copy
from buildd.files.modes import Ids
from buildd.files.root import Root
from buildd.llb.ops import Copy

EPOCH_NS = 1_000_000_000_000_000_000


def fill(directory: Path, files: Mapping[str, str | None]) -> Path:
    """Make files: text is content, ``-> x`` a link, None a directory; all of one time."""
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif content.startswith("-> "):
            path.symlink_to(content.removeprefix("-> "))
        else:
            path.write_text(content)
            path.chmod(0o644)
    for path in sorted(directory.rglob("*"), reverse=True):
        if not path.is_symlink() and path.is_dir():
            path.chmod(0o755)
        os.utime(path, ns=(EPOCH_NS, EPOCH_NS), follow_symlinks=False)
    return directory


def shown(directory: Path) -> dict[str, str]:
    """Undo ``fill``, without directories that have something in them."""
    found = {}
    for path in directory.rglob("*"):
        name = str(path.relative_to(directory))
        kind = stat.S_IFMT(path.lstat().st_mode)
        if kind == stat.S_IFLNK:
            found[name] = f"-> {path.readlink()}"
        elif kind == stat.S_IFDIR:
            if not any(path.iterdir()):
                found[name] = "/"
        elif kind == stat.S_IFREG:
            found[name] = path.read_text(errors="replace")
        else:
            found[name] = "?"
    return found


@contextmanager
def roots(*directories: Path) -> Iterator[list[Root]]:
    opened = [Root.open(each) for each in directories]
    try:
        yield opened
    finally:
        for root in opened:
            root.close()


def like_dockerfile(src: str, dest: str, **more: object) -> Copy:
    """The copy that COPY asks for."""
    fields: dict[str, object] = {
        "follow_symlink": True,
        "dir_copy_contents": True,
        "create_dest_path": True,
        "allow_wildcard": True,
        "allow_empty_wildcard": True,
    }
    return Copy(src, dest, **{**fields, **more})  # type: ignore[arg-type]


def run(source: Path, target: Path, op: Copy, owner: Ids | None = None) -> dict[str, str]:
    """Copy, and return what is in the target then."""
    with roots(source, target) as (first, second):
        copy(first, second, op, owner)
    return shown(target)
