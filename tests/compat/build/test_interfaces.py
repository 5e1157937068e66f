"""Our interfaces are BuildKit's, field by field: held against the descriptors in its own Go module."""

import importlib
import pkgutil
import subprocess
from collections.abc import Iterable

from google.protobuf import descriptor_pb2, descriptor_pool

import sampan.api.buildkit
import sampan.api.rpc.status_pb2
from tests.support.go_clients import go_program

# Not spoken here.
LEFT_OUT = {
    "stack",
    "vtproto",
    "grpc.binarylog.v1",
    "grpc.health.v1",
    "google.protobuf",
}
MESSAGES_LEFT_OUT = {
    "errdefs.CompatibilityFeature",
    "errdefs.ProvenanceMaterialsIncomplete",
    "errdefs.ProvenanceMaterialIncomplete",
}

# File names and targets of links need not be UTF-8; on the wire bytes and texts are the same.
BYTES_OF_OURS = {("fsutil.types.Stat", "path"), ("fsutil.types.Stat", "linkname")}

Field = tuple[int, str, int, int, str]


def import_all() -> None:
    package = sampan.api.buildkit
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(found.name)


def fields(name: str, message: descriptor_pb2.DescriptorProto) -> set[Field]:
    texts = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    return {
        (
            each.number,
            each.name,
            each.label,
            texts if (name, each.name) in BYTES_OF_OURS else each.type,
            each.type_name,
        )
        for each in message.field
    }


def differences(name: str, theirs: descriptor_pb2.DescriptorProto) -> Iterable[str]:
    if name in MESSAGES_LEFT_OUT:
        return
    try:
        found = descriptor_pool.Default().FindMessageTypeByName(name)
    except KeyError:
        yield f"{name} is missing"
        return
    ours = descriptor_pb2.DescriptorProto()
    found.CopyToProto(ours)
    for each in sorted(fields(name, theirs) ^ fields(name, ours)):
        yield f"{name}: {each}"
    for nested in theirs.nested_type:
        yield from differences(f"{name}.{nested.name}", nested)


def test_messages_and_services_are_buildkit_s() -> None:
    import_all()
    data = subprocess.run([go_program("descriptors")], capture_output=True, check=True, timeout=60).stdout
    found: list[str] = []
    seen = 0
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        if file.package in LEFT_OUT or file.name.startswith("google/protobuf/"):
            continue
        for message in file.message_type:
            seen += 1
            found += differences(f"{file.package}.{message.name}", message)
        for theirs in file.service:
            ours = descriptor_pool.Default().FindServiceByName(f"{file.package}.{theirs.name}")
            calls = {(m.name, m.input_type.lstrip("."), m.client_streaming, m.server_streaming) for m in theirs.method}
            mine = {(m.name, m.input_type.full_name, m.client_streaming, m.server_streaming) for m in ours.methods}
            found += [f"{theirs.name}: {each}" for each in sorted(calls ^ mine)]
    assert found == []
    assert seen > 150
