"""What a call's messages say for the audit log: the object that it is about, and what was asked for."""

import contextlib
import importlib
from collections.abc import Sequence
from functools import cache
from typing import Final

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from sampan.json_types import JsonObject

# Messages longer than this are bulk, and are written down nowhere.
MOST_BYTES: Final = 64 << 10

_MODULES: Final = (
    "runtime.v1.archives", "runtime.v1.containers", "runtime.v1.events", "runtime.v1.execs", "runtime.v1.host",
    "runtime.v1.networks", "runtime.v1.steps", "runtime.v1.volumes", "image.v1.images", "image.v1.leases",
    "snapshot.v1.layers", "check.v1.check", "disk.v1.disk", "containerd.content.v1.content", "containerd.diff.v1.diff",
    "containerd.snapshots.v1.snapshots", "buildkit.control.v1.control", "buildkit.gateway.v1.gateway",
)  # fmt: skip

# What requests and answers call the object they are about, the likeliest first.
_NAMING: Final = (
    "container", "network", "volume", "image", "reference", "id", "name", "registry", "lease", "key", "ref", "digest",
)  # fmt: skip
# Messages in which that stands, where it is not in the request itself.
_WITHIN: Final = ("spec", "start", "options", "network", "process")

_LEFT_OUT: Final = frozenset(("credentials",))

# Of what BuildKit's clients say this alone: the rest is steps of a build, which have variables, and results.
_OF_BUILDS: Final = frozenset(("Ref", "Frontend", "FrontendAttrs", "ExporterAttrsDeprecated", "Exporters"))


@cache
def _method(path: str) -> MethodDescriptor | None:
    service, _, method = path.removeprefix("/").partition("/")
    for module in _MODULES:
        importlib.import_module(f"sampan.api.{module}_pb2")
    try:
        return Default().FindServiceByName(service).methods_by_name.get(method)
    except KeyError:
        return None


def converses(path: str) -> bool:
    """Whether a method goes on for as long as both sides like."""
    method = _method(path)
    return method is not None and method.client_streaming and method.server_streaming


def request_of(path: str, message: bytes) -> JsonObject:
    """Return a request as JSON; what cannot be read, or is content, is left out."""
    method = _method(path)
    return {} if method is None else _read(GetMessageClass(method.input_type), message)


def answer_of(path: str, message: bytes) -> JsonObject:
    """Return an answer as JSON."""
    method = _method(path)
    return {} if method is None or method.server_streaming else _read(GetMessageClass(method.output_type), message)


def _read(kind: type[Message], message: bytes) -> JsonObject:
    of_builds = kind.DESCRIPTOR.full_name.startswith("moby.")
    with contextlib.suppress(DecodeError, ValueError, RecursionError):
        read = kind.FromString(message)
        _clear_content(read)
        document = MessageToDict(read, preserving_proto_field_name=True)
        return {
            key: value
            for key, value in document.items()
            if key not in _LEFT_OUT and (not of_builds or key in _OF_BUILDS)
        }
    return {}


def _clear_content(message: Message) -> None:
    """Take bytes out, wherever they are: they are content, or messages that nobody here reads."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_BYTES:
            message.ClearField(field.name)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for each in value if isinstance(value, Sequence) else (value,):
                _clear_content(each)


def name_of(path: str, request: JsonObject, answer: JsonObject) -> str:
    """Return the name of what a call is about: of what is made the answer says it, of all else the request does."""
    documents = (answer, request) if path.endswith("/Create") else (request, answer)
    return next(filter(None, map(object_of, documents)), "")


def object_of(document: JsonObject) -> str:
    """Return the name of what a request or an answer is about; empty: it names nothing."""
    for within in (document, *(document.get(name) for name in _WITHIN)):
        if isinstance(within, dict):
            for name in _NAMING:
                if (value := within.get(name)) and isinstance(value, str):
                    return value
    return ""
