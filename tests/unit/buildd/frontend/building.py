"""Build a Dockerfile with the fake bridge, and look at what comes out."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from buildd.frontend.frontend import DockerfileFrontend
from buildd.llb.ops import Edge, ExecOp, FileAction, FileOp, Node, SourceOp
from buildd.protocol import Result
from tests.fakes.build_bridge import FakeBuildBridge, image_config

ALPINE = "docker.io/library/alpine:latest"
IMAGES = {ALPINE: image_config(Env=["PATH=/bin"], Cmd=["sh"])}


@dataclass(frozen=True, slots=True)
class Built:
    """A finished build."""

    result: Result
    bridge: FakeBuildBridge

    @property
    def edge(self) -> Edge:
        """The only result."""
        (edge,) = self.result.edges.values()
        assert edge is not None
        return edge

    @property
    def config(self) -> Any:
        """The image's config, as JSON."""
        return json.loads(self.result.metadata["containerimage.config"])

    @property
    def nodes(self) -> list[Node]:
        """All steps, those first that others need."""
        found: dict[Node, None] = {}

        def visit(node: Node) -> None:
            for each in node.inputs:
                visit(each.node)
            found.setdefault(node)

        visit(self.edge.node)
        return list(found)

    @property
    def names(self) -> list[str]:
        """What progress shows of the steps."""
        return [node.metadata.name for node in self.nodes]

    @property
    def history(self) -> list[str]:
        """What this Dockerfile adds to the history."""
        return [line["created_by"] for line in self.config["history"] if line.get("comment")]

    def run(self, index: int = -1) -> ExecOp:
        """One of the RUN steps."""
        return [node.op for node in self.nodes if isinstance(node.op, ExecOp)][index]

    def change(self, index: int = -1) -> FileAction:
        """The first action of one of the steps that change files."""
        return [node.op.actions[0] for node in self.nodes if isinstance(node.op, FileOp)][index]

    def source(self, identifier: str) -> Mapping[str, str]:
        """Attributes of a source."""
        found = [
            node.op.attrs for node in self.nodes if isinstance(node.op, SourceOp) and node.op.identifier == identifier
        ]
        (attributes,) = found
        return attributes

    @property
    def warnings(self) -> list[str]:
        """The build's warnings."""
        return [warning.message for warning in self.bridge.warnings]


def build(
    text: str,
    attributes: Mapping[str, str] | None = None,
    *,
    images: Mapping[str, bytes] | None = None,
    ignore: str = "",
    sources: Mapping[str, Mapping[str, bytes]] | None = None,
    inputs: Mapping[str, Edge] | None = None,
) -> Built:
    """Build a Dockerfile for linux/amd64."""
    bridge = FakeBuildBridge(
        sources={
            "local://dockerfile": {"Dockerfile": text.encode()},
            "local://context": {".dockerignore": ignore.encode()} if ignore else {},
            **(sources or {}),
        },
        images={**IMAGES, **(images or {})},
    )
    asked = {"platform": "linux/amd64", **(attributes or {})}
    result = asyncio.run(DockerfileFrontend().build(asked, inputs or {}, bridge))
    return Built(result, bridge)
