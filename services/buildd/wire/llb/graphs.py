"""``pb.Definition`` to graphs and back: one build's, for its vertexes keep the names that its client gave them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from google.protobuf.message import DecodeError

from buildd.llb.ops import Edge, Node, SourceOp
from buildd.protocol import SourceFile
from buildd.provenance.predicate import BuildConfig
from buildd.wire.llb.decode import (
    metadata_from_proto,
    op_from_proto,
    outputs_of,
    platform_from_proto,
    shown_name,
    unmet,
)
from buildd.wire.llb.encode import metadata_to_proto, op_to_proto, range_to_proto
from buildd.wire.llb.steps import build_config
from sampan.api.buildkit.solver.v1 import ops_pb2 as pb
from sampan.build.progress import Position
from sampan.errors import InvalidArgumentError, UnimplementedError, reworded
from sampan.oci.digest import Digest

# Of one definition. BuildKit has no such limit but that of a message, 16 MiB: about this many, if nothing is said about
# them. Each takes some 10 KB while its build lasts, in tasks that wait for each other and in what is shown of it.
MAX_VERTEXES: Final = 100_000

_OPS: Final = "def"  # the field's name, which Python cannot say

_Taken = Callable[[SourceOp], SourceOp]


class Graphs:
    """Satisfies ``buildd.build.protocol.Graphs``."""

    def __init__(self, capabilities: frozenset[str]) -> None:
        """``capabilities`` are those that a definition may need."""
        self._capabilities = capabilities
        self._encoded: dict[Node, bytes] = {}
        self._digests: dict[Node, Digest] = {}
        self._sources: dict[Digest, SourceFile] = {}

    # Names ------------------------------------------------------

    def digest_of(self, node: Node) -> Digest:
        """Return what clients call a vertex. Graphs may be deeper than Python's stack."""
        known = self._digests.get(node)
        if known is None:
            for each in _in_order(node, self._digests.__contains__):
                encoded = op_to_proto(each, self._digests.__getitem__).SerializeToString(deterministic=True)
                self._encoded[each] = encoded
                self._digests[each] = Digest.of(encoded)
            known = self._digests[node]
        return known

    def source_of(self, digest: Digest) -> SourceFile | None:
        """Return the file that a client's definition says a vertex is from."""
        return self._sources.get(digest)

    def operation_of(self, digest: Digest) -> bytes | None:
        """Return a vertex's ``pb.Op``; None: it is in none of these definitions. It looks at all of them."""
        return next((self._encoded[node] for node, known in self._digests.items() if known == digest), None)

    # From a client ----------------------------------------------

    def load(self, definition: bytes, taken: _Taken | None = None) -> Edge | None:
        """See ``build.protocol.Graphs``.

        Raises:
            InvalidArgumentError: no definition, too large a one, an operation that cannot be, or an input that is
                missing; in BuildKit's words where it refuses the same.
            UnimplementedError: an operation or a capability that this builder does not have.
        """
        try:
            return self._load(definition, taken)
        except (InvalidArgumentError, UnimplementedError) as error:
            raise reworded(error, f"failed to load LLB: {error}") from error

    def _load(self, definition: bytes, taken: _Taken | None) -> Edge | None:
        try:
            message = pb.Definition.FromString(definition)
        except DecodeError as error:
            raise InvalidArgumentError(f"invalid definition: {error}") from error
        encoded: list[bytes] = list(getattr(message, _OPS))
        if not encoded:
            return None
        if len(encoded) > MAX_VERTEXES:
            raise InvalidArgumentError(f"a definition of {len(encoded)} vertexes: the most is {MAX_VERTEXES}")
        ops: dict[Digest, tuple[pb.Op, bytes]] = {}
        last = Digest("")
        for data in encoded:
            last = Digest.of(data)
            ops[last] = (_parse(data, last), data)
        if len(ops) == 1:
            raise InvalidArgumentError("invalid LLB with 1 vertexes")
        final = ops.pop(last)[0]
        if not final.inputs:
            raise InvalidArgumentError("invalid LLB with no inputs on last vertex")
        if final.WhichOneof("op") is not None or len(final.inputs) != 1:
            raise InvalidArgumentError("invalid definition: its last vertex names the one result, and does nothing")
        nodes = self._nodes(Digest(final.inputs[0].digest), ops, message, taken)
        return _edge(final.inputs[0], nodes, last)

    def _nodes(
        self,
        target: Digest,
        ops: Mapping[Digest, tuple[pb.Op, bytes]],
        message: pb.Definition,
        taken: _Taken | None,
    ) -> Mapping[Digest, Node]:
        """Build what ``target`` needs, inputs first; digests cannot form a circle."""
        nodes: dict[Digest, Node] = {}
        located = _located(message.Source)
        waiting = [target]
        while waiting:
            digest = waiting[-1]
            if digest in nodes:
                waiting.pop()
                continue
            if digest not in ops:
                raise InvalidArgumentError(f"invalid missing input digest {digest[:80]}")
            op, data = ops[digest]
            missing = [Digest(each.digest) for each in op.inputs if each.digest not in nodes]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            nodes[digest] = self._node(digest, op, data, nodes, message, located, taken)
        return nodes

    def _node(
        self,
        digest: Digest,
        message: pb.Op,
        data: bytes,
        nodes: Mapping[Digest, Node],
        definition: pb.Definition,
        located: Mapping[str, tuple[SourceFile, tuple[Position, ...]]],
        taken: _Taken | None,
    ) -> Node:
        # Looking up an entry of a map that is not there would make one.
        said = definition.metadata[digest] if digest in definition.metadata else pb.OpMetadata()
        lacking = unmet(said.caps, self._capabilities)
        if lacking:
            raise UnimplementedError(f"vertex {digest} needs the capability {lacking}, which this builder has not")
        source, positions = located.get(digest, (None, ()))
        try:
            op = op_from_proto(message)
            metadata = metadata_from_proto(said, positions, op)
        except (InvalidArgumentError, UnimplementedError) as error:
            raise reworded(error, f"{error} (vertex {digest})") from error
        inputs = tuple(_edge(each, nodes, digest) for each in message.inputs)
        asked, op = op, taken(op) if taken is not None and isinstance(op, SourceOp) else op
        node = Node(
            op, inputs, platform_from_proto(message.platform) if message.HasField("platform") else None, metadata
        )
        same = zip(inputs, message.inputs, strict=True)
        if op == asked and all(self._digests[each.node] == named.digest for each, named in same):
            self._encoded[node] = data
            self._digests[node] = digest
        else:
            digest = self.digest_of(node)
        if source is not None:
            self._sources[digest] = source
        return node

    # To a client ------------------------------------------------

    def config(self, definition: bytes) -> BuildConfig:
        """See ``buildd.build.protocol.Graphs``."""
        return build_config(definition)

    def dump(self, edge: Edge | None, source: SourceFile | None = None) -> bytes:
        """Return a graph's definition; empty for an empty tree.

        ``source`` is the file that the lines of vertexes are in which no definition has named another file for.
        """
        return definition_bytes(self._definition(edge, source)) if edge is not None else b""

    def _definition(self, edge: Edge, source: SourceFile | None) -> pb.Definition:
        self.digest_of(edge.node)
        message = pb.Definition()
        infos: dict[SourceFile, int] = {}
        written: set[Digest] = set()
        encoded: list[bytes] = []
        for node in _in_order(edge.node, lambda _: False):
            digest = self._digests[node]
            if digest in written:
                continue
            written.add(digest)
            encoded.append(self._encoded[node])
            said = metadata_to_proto(node.metadata, shown_name(node.op))
            if said.ByteSize():
                message.metadata[digest].CopyFrom(said)
            file = self._sources.get(digest, source)
            if file is not None and node.metadata.positions:
                location = pb.Location(
                    sourceIndex=infos.setdefault(file, len(infos)), ranges=map(range_to_proto, node.metadata.positions)
                )
                message.Source.locations[digest].locations.append(location)
        message.Source.infos.extend(source_to_proto(file) for file in infos)
        last = pb.Op(inputs=[pb.Input(digest=self._digests[edge.node], index=edge.index)])
        encoded.append(last.SerializeToString(deterministic=True))
        getattr(message, _OPS).extend(encoded)
        return message


def definition_bytes(message: pb.Definition) -> bytes:
    """Return a definition as bytes, equal ones for equal definitions."""
    return message.SerializeToString(deterministic=True)


def source_to_proto(file: SourceFile) -> pb.SourceInfo:
    """Return a source file."""
    definition = pb.Definition.FromString(file.definition) if file.definition else None
    return pb.SourceInfo(filename=file.name, data=file.data, language=file.language, definition=definition)


def source_from_proto(message: pb.SourceInfo) -> SourceFile:
    """Return a source file."""
    definition = definition_bytes(message.definition) if message.HasField("definition") else b""
    return SourceFile(message.filename, message.data, message.language, definition)


def positions_from_proto(ranges: Iterable[pb.Range]) -> tuple[Position, ...]:
    """Return lines of a file; an end before the beginning is the same line."""
    return tuple(Position(each.start.line, max(each.start.line, each.end.line)) for each in ranges)


def _parse(data: bytes, digest: Digest) -> pb.Op:
    try:
        op = pb.Op.FromString(data)
    except DecodeError as error:
        raise InvalidArgumentError(f"failed to parse llb proto op: {error} (vertex {digest})") from error
    for number, each in enumerate(op.inputs):
        if each.index < 0:
            raise InvalidArgumentError(f"invalid input {number} output index {each.index}")
    return op


def _edge(message: pb.Input, nodes: Mapping[Digest, Node], user: Digest) -> Edge:
    node = nodes[Digest(message.digest)]
    count = outputs_of(node.op)
    if not 0 <= message.index < count:
        raise InvalidArgumentError(
            f"invalid definition: vertex {user} takes output {message.index} of {message.digest}, which has {count}"
        )
    return Edge(node, message.index)


def _located(source: pb.Source) -> dict[str, tuple[SourceFile, tuple[Position, ...]]]:
    """Return for vertexes the file that they are from, and where in it: the first one, if there are several.

    Raises:
        InvalidArgumentError: a file that is not there.
    """
    files = [source_from_proto(each) for each in source.infos]
    found: dict[str, tuple[SourceFile, tuple[Position, ...]]] = {}
    for digest, several in source.locations.items():
        for each in several.locations:
            if not 0 <= each.sourceIndex < len(files):
                raise InvalidArgumentError(f"invalid source index {each.sourceIndex} for vertex {digest}")
            found.setdefault(digest, (files[each.sourceIndex], positions_from_proto(each.ranges)))
    return found


def _in_order(node: Node, known: Callable[[Node], bool]) -> Iterator[Node]:
    """Yield a node and all that it needs, inputs first and each once, but for those that are ``known``."""
    seen: set[Node] = set()
    waiting = [(node, False)]
    while waiting:
        each, ready = waiting.pop()
        if ready:
            yield each
        elif each not in seen and not known(each):
            seen.add(each)
            waiting.append((each, True))
            waiting += [(edge.node, False) for edge in reversed(each.inputs)]
