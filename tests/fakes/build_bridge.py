"""A build that a frontend works for: files that are there, images that are known, and nothing that runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from buildd.llb.ops import Edge, Node, SourceOp
from buildd.protocol import Files, ImageQuery, ResolvedImage, Result, SourceFile
from sampan.build.progress import BuildWarning
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform

_MAX_READ_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class FakeFiles:
    """A tree of files by path."""

    files: Mapping[str, bytes]

    async def read_file(self, path: str, length: int = 0) -> bytes:
        data = self.files.get(path.lstrip("/"))
        if data is None:
            raise NotFoundError(f"open {path}: no such file or directory")
        wanted = data[:length] if length else data
        if len(wanted) > _MAX_READ_BYTES:
            raise InvalidArgumentError(f"{path} exceeds maximum allowed size of {_MAX_READ_BYTES} bytes")
        return wanted


@dataclass(slots=True)
class FakeBuildBridge:
    """Solves sources by their identifiers, other steps by their names, and says of images what it was told."""

    sources: dict[str, Mapping[str, bytes]] = field(default_factory=dict)  # "local://context"
    images: dict[str, bytes] = field(default_factory=dict)  # configs, by complete reference
    warnings: list[BuildWarning] = field(default_factory=list)
    sources_warned_of: set[SourceFile] = field(default_factory=set)
    queries: list[ImageQuery] = field(default_factory=list)
    solved: list[Node] = field(default_factory=list)
    forwarded: list[tuple[Mapping[str, str], Mapping[str, Edge]]] = field(default_factory=list)
    told: dict[str, bytes] = field(default_factory=dict)
    session: str = ""
    platforms: Sequence[Platform] = (Platform("linux", "amd64"), Platform("linux", "386"))

    async def solve(self, edge: Edge) -> Files:
        self.solved.append(edge.node)
        op = edge.node.op
        identifier = op.identifier if isinstance(op, SourceOp) else edge.node.metadata.name
        files = self.sources.get(identifier)
        if files is None:
            raise NotFoundError(f"{identifier} is not there")
        return FakeFiles(files)

    async def resolve_config(self, query: ImageQuery) -> ResolvedImage:
        self.queries.append(query)
        data = self.images.get(query.reference)
        if data is None:
            raise NotFoundError(f"{query.reference}: not found")
        return ResolvedImage(query.reference, Digest.of(data), data)

    async def forward(self, attributes: Mapping[str, str], inputs: Mapping[str, Edge]) -> Result:
        self.forwarded.append((attributes, inputs))
        return Result({"": None}, frontend="gateway.v0", attributes=attributes)

    async def warn(self, warning: BuildWarning, source: SourceFile) -> None:
        self.warnings.append(warning)
        self.sources_warned_of.add(source)

    async def tell(self, name: str, data: bytes) -> None:
        self.told[name] = data


def image_config(architecture: str = "amd64", **run: object) -> bytes:
    """Return the config of an image of one layer; ``run`` are members of its ``config``."""
    document = {
        "architecture": architecture,
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{'1' * 64}"]},
        "history": [{"created_by": "ADD rootfs"}],
    }
    return json.dumps(document).encode()
