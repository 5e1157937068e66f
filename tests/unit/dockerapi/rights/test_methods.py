"""What gRPC's methods do: all of them are known, and those that only look say so."""

import importlib
import pkgutil

import pytest
from google.protobuf.descriptor import MethodDescriptor

import sampan.api
from dockerapi.rights.methods import METHODS
from dockerapi.rights.operations import OPERATIONS, Reach
from dockerapi.rights.scope import Scope
from sampan.errors import PermissionDeniedError

# What clients of a build serve, and a builder asks of them.
_CLIENTS_OWN = ("moby.filesync.", "moby.sshforward.", "moby.buildkit.secrets.", "moby.exporter.", "moby.upload.",
                "moby.buildkit.v1.sourcepolicy.")  # fmt: skip

# Their names say that something changes.
_VERBS = ("Create", "Put", "Remove", "Prune", "Start", "Stop", "Kill", "Write", "Update", "Commit", "Import", "Load",
          "Delete", "Solve", "Repair", "Collect", "Publish", "Tag", "Push", "Fetch")  # fmt: skip


def served() -> dict[str, MethodDescriptor]:
    """Every method of the interfaces."""
    found: dict[str, MethodDescriptor] = {}
    for module in pkgutil.walk_packages(sampan.api.__path__, "sampan.api."):
        if module.name.endswith("_pb2"):
            for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
                if not service.full_name.startswith(_CLIENTS_OWN):
                    found |= {f"/{service.full_name}/{method.name}": method for method in service.methods}
    return found


def test_every_method_is_an_operation_and_every_operation_a_method() -> None:
    own = {path for path in METHODS if not path.startswith("/grpc.")}
    assert set(served()) == own


def test_what_changes_something_is_no_look() -> None:
    for path, operation in METHODS.items():
        if path.rpartition("/")[2] in _VERBS:
            assert operation.reach is not Reach.LOOKS, path


def test_what_a_route_does_too_is_called_the_same() -> None:
    names = {operation.name for operation in OPERATIONS.values()}
    containers = {path: each for path, each in METHODS.items() if "Containers/" in path and "Hold" not in path}
    assert {each.name for each in containers.values()} <= names


@pytest.mark.parametrize("path", sorted(METHODS))
def test_read_only_lets_looks_pass_and_nothing_else(path: str) -> None:
    operation = METHODS[path]
    if operation.looks:
        Scope(read_only=True).check_operation(operation)
    else:
        with pytest.raises(PermissionDeniedError, match="this socket is read-only"):
            Scope(read_only=True).check_operation(operation)
