"""A definition as provenance tells it: steps in JSON, as BuildKit's Go structures are written.

Reference: moby/buildkit, docs/attestations/slsa-definitions.md, ``llbDefinition``, and solver/pb/json.go.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from buildd.provenance.predicate import BuildConfig
from sampan.api.buildkit.solver.v1 import ops_pb2 as pb
from sampan.json_types import JsonObject
from sampan.oci.digest import Digest

_OPS: Final = "def"  # the field's name, which Python cannot say

# Attributes of sources that differ from build to build, and say nothing.
_OF_ONE_BUILD: Final = ("local.session", "local.unique", "local.sessionid")

# Structures of which one member is set: the name that Go has for it, and members that are told even if they are 0.
_ONE_OF: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "pb.Op": ("op", "Op", ()),
    "pb.FileAction": ("action", "Action", ("input", "secondaryInput", "output")),
    "pb.UserOpt": ("user", "User", ()),
}
_RENAMED: Final = {"byID": "byId"}


def build_config(definition: bytes) -> BuildConfig:
    """Return the steps of a ``pb.Definition``, inputs first, and where their lines are; of an empty one, nothing."""
    message = pb.Definition.FromString(definition)
    steps, digests = _steps(message)
    if not message.Source.infos:
        return BuildConfig(steps, digests)
    infos = []
    for each in message.Source.infos:
        inner, inner_digests = _steps(each.definition) if each.HasField("definition") else ([], {})
        info = {
            "filename": each.filename,
            "language": each.language,
            "data": b64encode(each.data).decode(),
            "llbDefinition": inner,
            "digestMapping": inner_digests,
        }
        infos.append({name: value for name, value in info.items() if value})
    locations = {
        digests[digest]: _json(several) for digest, several in message.Source.locations.items() if digest in digests
    }
    return BuildConfig(steps, digests, {"locations": locations, "infos": infos})


def _steps(definition: pb.Definition) -> tuple[list[JsonObject], dict[str, str]]:
    encoded: list[bytes] = list(getattr(definition, _OPS))
    ops = {Digest.of(data): pb.Op.FromString(data) for data in encoded}
    if not encoded:
        return [], {}
    order = _in_order(Digest.of(encoded[-1]), ops)
    numbers = {digest: number for number, digest in enumerate(order)}
    steps: list[JsonObject] = []
    for digest in order:
        op = ops[digest]
        inputs = [f"step{numbers[Digest(each.digest)]}:{each.index}" for each in op.inputs]
        op.ClearField("inputs")
        for name in _OF_ONE_BUILD if op.HasField("source") else ():
            op.source.attrs.pop(name, None)
        step = {"id": f"step{numbers[digest]}", "op": _json(op), "inputs": inputs}
        steps.append({name: value for name, value in step.items() if value})
    return steps, {digest: f"step{number}" for digest, number in numbers.items()}


def _in_order(last: Digest, ops: Mapping[Digest, pb.Op]) -> list[Digest]:
    """Return vertexes, inputs first; graphs may be deeper than Python's stack."""
    order: dict[Digest, None] = {}
    seen: set[Digest] = set()
    waiting = [(last, False)]
    while waiting:
        digest, ready = waiting.pop()
        if ready:
            order[digest] = None
        elif digest not in seen:
            seen.add(digest)
            waiting.append((digest, True))
            waiting += [(Digest(each.digest), False) for each in reversed(ops[digest].inputs)]
    return list(order)


def _json(message: Message) -> JsonObject:
    """Return a message as Go writes it: fields under their own names, without what is empty."""
    one_of, shown, always = _ONE_OF.get(message.DESCRIPTOR.full_name, ("", "", ()))
    members: JsonObject = {name: getattr(message, name) for name in always}
    chosen: JsonObject = {}
    for field, value in message.ListFields():
        of_one = field.containing_oneof is not None and field.containing_oneof.name == one_of
        target = chosen if of_one else members
        target[_RENAMED.get(field.name, field.name)] = _value(field, value)
    return {**members, shown: chosen} if shown else members


def _value(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _scalar(value[key]) for key in value}
    if field.is_repeated:
        return [_scalar(each) for each in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, Message):
        return _json(value)
    return b64encode(value).decode() if isinstance(value, bytes) else value
