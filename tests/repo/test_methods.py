"""Every method of gRPC has a name for scopes and the audit log, and says how far it reaches."""

import importlib
import pkgutil
from typing import Final

from google.protobuf.descriptor import MethodDescriptor

import sampan.api
from dockerapi.rights.methods import METHODS

# What clients of a build serve, and a builder asks of them.
_CLIENTS_OWN: Final = ("moby.filesync.", "moby.sshforward.", "moby.buildkit.secrets.", "moby.exporter.", "moby.upload.",
                "moby.buildkit.v1.sourcepolicy.")  # fmt: skip

# What kubelets ask, at a socket of their own.
_KUBELETS: Final = "runtime.v1."


def served() -> dict[str, MethodDescriptor]:
    """Every method of the interfaces."""
    found: dict[str, MethodDescriptor] = {}
    for module in pkgutil.walk_packages(sampan.api.__path__, "sampan.api."):
        if module.name.endswith("_pb2"):
            for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
                if not service.full_name.startswith((*_CLIENTS_OWN, _KUBELETS)):
                    found |= {f"/{service.full_name}/{method.name}": method for method in service.methods}
    return found


def test_every_method_is_an_operation_and_every_operation_a_method() -> None:
    own = {path for path in METHODS if not path.startswith("/grpc.")}
    assert set(served()) == own
