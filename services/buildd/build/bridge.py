"""What a frontend asks of its build: graphs run, files read, images looked up, warnings shown."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from buildd.build.protocol import Graphs
from buildd.llb.ops import Edge, SourceOp
from buildd.protocol import (
    Files,
    FileWorker,
    ImageQuery,
    Judge,
    Output,
    Progress,
    ResolvedImage,
    Result,
    SourceFile,
    Sources,
)
from buildd.solver.build import Build
from sampan.build.progress import BuildWarning, VertexWarning
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform

GATEWAY: Final = "gateway.v0"

_IMAGE: Final = "docker-image://"
_LAYOUT: Final = "oci-layout://"
_DEFINITION: Final = "load build definition"  # in the name of the step that gets a Dockerfile


class OutputFiles:
    """A ``Files`` of one output."""

    def __init__(self, files: FileWorker, output: Output) -> None:
        self._files = files
        self._output = output

    async def read_file(self, path: str, length: int = 0) -> bytes:
        """See ``Files``."""
        return await self._files.read_file(self._output, path, 0, length)


class ImageConfigs:
    """Images that one build has asked for: asked once, shown once, however many of its parts want to know."""

    def __init__(self, run: Build, sources: Sources, judge: Judge) -> None:
        self._run = run
        self._judge = judge
        self._sources = sources
        self._found: dict[ImageQuery, ResolvedImage] = {}
        self._asking: defaultdict[ImageQuery, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def found(self) -> Mapping[ImageQuery, ResolvedImage]:
        """What was found so far."""
        return self._found

    async def resolve(self, query: ImageQuery, judge: Judge | None = None) -> ResolvedImage:
        """See ``Bridge.resolve_config``; ``judge`` is another one than the build's."""
        op = SourceOp((_LAYOUT if query.layout else _IMAGE) + query.reference)
        taken = await (judge or self._judge)(op, query.platform)
        if taken is not op:
            scheme, _, reference = taken.identifier.partition("://")
            if f"{scheme}://" != (_LAYOUT if query.layout else _IMAGE):
                raise InvalidArgumentError(f"a source policy takes {taken.identifier} for an image: it is none")
            query = replace(query, reference=reference)
        return await self.allowed(query)

    async def allowed(self, query: ImageQuery) -> ResolvedImage:
        """Return the config of an image that the build may use. Raises as ``resolve``."""
        same = replace(query, step="")
        async with self._asking[same]:
            if same not in self._found:
                name = query.step or f"[internal] load metadata for {query.reference}"
                async with self._run.step(name) as context:
                    self._found[same] = await self._sources.resolve_config(query, context)
        return self._found[same]


class Forwarder(Protocol):
    """Has images make results; ``buildd.build.frontends.ImageFrontends``."""

    async def build(self, attributes: Mapping[str, str], inputs: Mapping[str, bytes]) -> Result:
        """Have the image ``source`` make a result."""


class BuildBridge:
    """A ``Bridge`` for one frontend at work."""

    def __init__(
        self,
        run: Build,
        graphs: Graphs,
        files: FileWorker,
        images: ImageConfigs,
        progress: Progress,
        frontends: Forwarder,
        platforms: Sequence[Platform],
        session: str = "",
    ) -> None:
        self.session = session
        self.platforms = platforms
        self._frontends = frontends
        self._run = run
        self._graphs = graphs
        self._files = files
        self._images = images
        self._progress = progress
        self._definition: Digest | None = None

    async def solve(self, edge: Edge) -> Files:
        """See ``Bridge``."""
        if self._definition is None or _DEFINITION in edge.node.metadata.name:
            self._definition = self._graphs.digest_of(edge.node)
        return OutputFiles(self._files, await self._run.solve(edge))

    async def resolve_config(self, query: ImageQuery) -> ResolvedImage:
        """See ``Bridge``."""
        return await self._images.resolve(query)

    async def forward(self, attributes: Mapping[str, str], inputs: Mapping[str, Edge]) -> Result:
        """See ``Bridge``."""
        result = await self._frontends.build(
            attributes, {name: self._graphs.dump(edge) for name, edge in inputs.items()}
        )
        return replace(result, frontend=GATEWAY, attributes=attributes)

    async def warn(self, warning: BuildWarning, source: SourceFile) -> None:
        """See ``Bridge``; clients show it with the step that has read the Dockerfile."""
        if self._definition is not None:
            self._progress.report(
                VertexWarning(self._definition, warning, file_name=source.name, file_data=source.data)
            )

    async def tell(self, name: str, data: bytes) -> None:
        """See ``Bridge``."""
        async with self._run.step(name) as context:
            context.log(data)
