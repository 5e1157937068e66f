"""Digests of nodes: what a node is, with all that leads into it, whatever is said about it.

Two nodes that do the same to the same have one digest, in every process and on every machine. Metadata and proxies are
in none: they change nothing in a result.
"""

import enum
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Final

from buildd.llb.ops import ExecOp, Node, Op
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform

# How nodes are called, in one build and to its clients: those of a client's own definition have the digests in it.
DigestOf = Callable[[Node], Digest]

_VERSION: Final = b"sampan.llb.v1"


class Digests:
    """Digests of nodes, each made once; a ``DigestOf``. Keeps the nodes that it has seen."""

    def __init__(self) -> None:
        self._known: dict[Node, Digest] = {}

    def __call__(self, node: Node) -> Digest:
        """Return a node's digest. Graphs may be deeper than Python's stack."""
        waiting = [node]
        while waiting:
            last = waiting[-1]
            if last in self._known:
                waiting.pop()
                continue
            missing = [each.node for each in last.inputs if each.node not in self._known]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            inputs = tuple((self._known[each.node], each.index) for each in last.inputs)
            self._known[last] = digest_of("node", operation_digest(last.op, last.platform), inputs)
        return self._known[node]


def operation_digest(op: Op, platform: Platform | None) -> Digest:
    """Return the digest of what an operation does, without its inputs. Only processes depend on a platform."""
    if isinstance(op, ExecOp):
        op = replace(op, process=replace(op.process, proxy_env=None, cgroup_parent=""))
        return digest_of("exec", op, str(platform or ""))
    return digest_of("operation", op)


def digest_of(*values: object) -> Digest:
    """Return the digest of values: dataclasses, enums, mappings, sequences, texts, bytes, numbers, None.

    Raises:
        TypeError: a value of another type.
    """
    hashed = hashlib.sha256(_VERSION)
    for value in values:
        _add(value, hashed.update)
    return Digest(f"sha256:{hashed.hexdigest()}")


def _add(value: object, add: Callable[[bytes], object]) -> None:
    """Give ``add`` a value in a form that no other value has: each begins with its type and its length."""
    if value is None:
        add(b"n")
    elif isinstance(value, str):
        _add_bytes(b"s", value.encode(errors="surrogatepass"), add)
    elif isinstance(value, bytes):
        _add_bytes(b"b", value, add)
    elif isinstance(value, enum.Enum):
        _add_bytes(b"e", value.name.encode(), add)
    elif isinstance(value, int):  # bool too
        _add_bytes(b"i", b"%d" % value, add)
    elif isinstance(value, tuple | list):
        add(b"l%d:" % len(value))
        for each in value:
            _add(each, add)
    elif isinstance(value, Mapping):
        add(b"m%d:" % len(value))
        for name in sorted(value):
            _add(name, add)
            _add(value[name], add)
    elif is_dataclass(value):
        kind: type = type(value)
        name, names = _shape(kind)
        _add_bytes(b"d", name, add)
        for each in names:
            _add(getattr(value, each), add)
    else:
        raise TypeError(f"a {type(value).__name__} has no digest")


@functools.cache
def _shape(kind: type) -> tuple[bytes, tuple[str, ...]]:
    """Return the name and the fields' names of a dataclass."""
    assert is_dataclass(kind)
    return kind.__name__.encode(), tuple(field.name for field in fields(kind))


def _add_bytes(kind: bytes, data: bytes, add: Callable[[bytes], object]) -> None:
    add(b"%s%d:" % (kind, len(data)))
    add(data)
