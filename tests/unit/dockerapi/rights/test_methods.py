"""What gRPC's methods do: those that only look say so, and a socket that is read-only lets them pass alone."""

import pytest

from dockerapi.rights.methods import METHODS
from dockerapi.rights.operations import Reach
from dockerapi.rights.scope import Scope
from imaged.wire.images_servicer import ImagesServicer
from sampan.errors import PermissionDeniedError

# Their names say that something changes.
_VERBS = ("Create", "Put", "Remove", "Prune", "Start", "Stop", "Kill", "Write", "Update", "Commit", "Import", "Load",
          "Delete", "Solve", "Repair", "Collect", "Publish", "Tag", "Push", "Fetch")  # fmt: skip


def _asks_registries(names: tuple[str, ...]) -> bool:
    """Whether code with these names calls a part of imaged that asks a registry each time."""
    return "_traffic" in names and not {"lookup", "manifests", "pusher"}.isdisjoint(names)


def test_what_changes_something_is_no_look() -> None:
    for path, operation in METHODS.items():
        if path.rpartition("/")[2] in _VERBS:
            assert operation.reach is not Reach.LOOKS, path


@pytest.mark.parametrize("path", sorted(METHODS))
def test_read_only_lets_looks_pass_and_nothing_else(path: str) -> None:
    operation = METHODS[path]
    if operation.looks:
        Scope(read_only=True).check_operation(operation)
    else:
        with pytest.raises(PermissionDeniedError, match="this socket is read-only"):
            Scope(read_only=True).check_operation(operation)


def test_what_asks_registries_is_no_look() -> None:
    """A registry's address is any address: whoever may look has the engine ask nobody."""
    service = "/sampan.image.v1.Images/"
    asking = [
        name
        for name, method in vars(ImagesServicer).items()
        if service + name in METHODS and _asks_registries(method.__code__.co_names)
    ]
    assert set(asking) == {"Inspect", "Search", "Tags", "GetManifest", "PutManifest", "Push"}
    assert not [name for name in asking if METHODS[service + name].looks]
