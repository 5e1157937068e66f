"""How far a socket's clients may go, as the configuration says it."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Final

from dockerapi.rights.methods import NAMES
from dockerapi.rights.operations import Operation, Reach
from sampan.errors import InvalidArgumentError, PermissionDeniedError


@dataclass(frozen=True, slots=True)
class Scope:
    """What is allowed; each limit narrows what the others leave."""

    read_only: bool = False
    no_host: bool = False
    binds: tuple[str, ...] = ()  # with no_host: host paths that may be mounted, these exactly
    label: tuple[str, str | None] | None = None  # of all that may be seen; None for its value: any
    operations: tuple[str, ...] = ()  # empty: all

    @property
    def is_limited(self) -> bool:
        """Whether it says anything at all."""
        return self != EVERYTHING

    def check_operation(self, operation: Operation | None) -> None:
        """Raise PermissionDeniedError for what is not even looked into."""
        if operation is None:
            raise PermissionDeniedError("this socket does not allow what is not known to be harmless")
        carries = operation.reach is Reach.CARRIES  # what it carries comes here, too
        if self.read_only and not (operation.looks or carries):
            raise PermissionDeniedError(f"this socket is read-only: {operation.name} is not allowed")
        if self.operations and not (carries or any(fnmatchcase(operation.name, each) for each in self.operations)):
            raise PermissionDeniedError(f"this socket does not allow {operation.name}")
        if self.no_host and (carries or operation.reach is Reach.OPENS or operation.name in _OUT_OF_SIGHT):
            raise PermissionDeniedError(
                f"this socket gives nobody the host: {operation.name} is not allowed, "
                "since nobody can tell what it asks for"
            )
        if self.label is not None and operation.name not in _LABELLED:
            raise PermissionDeniedError(f"this socket shows what has its label: {operation.name} is not allowed")


EVERYTHING: Final = Scope()

# Builds run what their Dockerfiles say, with the network they say.
_OUT_OF_SIGHT: Final = frozenset(("build.run",))

# What can be told apart by labels, or tells of nothing else.
_LABELLED: Final = frozenset(
    (
        *(name for name in NAMES if name.startswith(("container.", "exec.", "network.", "volume."))),
        "system.ping", "system.version", "system.info", "system.events", "system.options", "system.auth",
        "image.list", "image.inspect", "image.history", "image.pull", "image.distribution", "image.search",
    )
)  # fmt: skip


def make_scope(
    *, read_only: bool, no_host: bool, binds: Iterable[str], only_label: str, operations: Iterable[str]
) -> Scope:
    """Return the scope that the configuration describes.

    Raises:
        InvalidArgumentError: an operation that is none, a path that could be swapped for another, a label that keeps
            nobody in.
    """
    paths, patterns = tuple(binds), tuple(operations)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in NAMES):
            import difflib  # only for those who have made a mistake

            near = difflib.get_close_matches(pattern, NAMES, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
            raise InvalidArgumentError(f"operations: {pattern!r} is no operation: {hint}")
    if paths and not no_host:
        raise InvalidArgumentError("binds says what may be mounted in spite of no_host, which is not set")
    for path in paths:
        _check_path(path, paths)
    if not only_label:
        return Scope(read_only, no_host, paths, None, patterns)
    if not (no_host or read_only):
        raise InvalidArgumentError(
            "only_label alone keeps nobody in, who has the host has everything: set no_host or read_only, too"
        )
    key, equals, value = only_label.partition("=")
    if not key:
        raise InvalidArgumentError(f"only_label: {only_label!r} is no label")
    return Scope(read_only, no_host, paths, (key, value if equals else None), patterns)


def _check_path(path: str, paths: tuple[str, ...]) -> None:
    plain = PurePosixPath(path)
    if not plain.is_absolute() or ".." in plain.parts or str(plain) != path:
        raise InvalidArgumentError(f"binds: {path!r} is not an absolute path in its plain form")
    for other in paths:
        if plain != PurePosixPath(other) and plain.is_relative_to(other):
            raise InvalidArgumentError(
                f"binds: who has {other!r} could swap {path!r} below it for a link to anywhere: name one of them"
            )
