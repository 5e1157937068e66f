"""The gateway of one build: what its client drives it by."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from buildd.build.bridge import ImageConfigs
from buildd.build.containers import Containers
from buildd.build.judging import SourceJudge
from buildd.build.protocol import (
    NOTHING_SAID,
    ContainerRequest,
    FailedStep,
    GatewayAttestation,
    GatewayRef,
    GatewayRequest,
    GatewayResult,
    Graphs,
    LocatedError,
    SourceQuery,
    SourceState,
)
from buildd.build.results import Refs, Results
from buildd.executor.protocol import ContainerProcess, Program
from buildd.llb.ops import Edge
from buildd.protocol import (
    FileStat,
    FileWorker,
    ImageQuery,
    Output,
    Progress,
    ResolvedImage,
    Result,
    Said,
    SourceFile,
    Sources,
    Tree,
)
from buildd.solver.build import Build
from sampan.build.policy import Policies
from sampan.build.progress import BuildWarning, VertexWarning
from sampan.errors import ConflictError, NotFoundError, SampanError
from sampan.oci.digest import Digest

_IMAGE = "docker-image://"
_GIT = "git://"
_WEB = ("https://", "http://")


class BuildGateway:
    """Satisfies ``buildd.build.protocol.Gateway``."""

    def __init__(
        self,
        *,
        results: Results,
        graphs: Graphs,
        run: Build,
        files: FileWorker,
        sources: Sources,
        images: ImageConfigs,
        judge: SourceJudge,
        progress: Progress,
        inputs: Mapping[str, bytes],
        containers: Containers,
    ) -> None:
        self._results = results
        self._graphs = graphs
        self._run = run
        self._files = files
        self._sources = sources
        self._images = images
        self._judge = judge
        self._progress = progress
        self._inputs = inputs
        self._containers = containers
        self._refs = Refs()
        self._steps: dict[Digest, FailedStep] = {}  # that the client was told of
        self._remains: dict[str, Callable[[], Awaitable[Output]]] = {}  # of their mounts, by ID
        self.driven: GatewayRequest | None = None  # what the client has asked of a frontend first
        self._failed: SampanError | None = None  # what the client was told last
        self._returned: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    async def returned(self) -> Result:
        """Return what the client ends the build with. Raises what it ends the build with."""
        return await asyncio.shield(self._returned)

    @property
    def ended(self) -> bool:
        """Whether the client has ended the build."""
        return self._returned.done()

    async def solve(self, request: GatewayRequest) -> GatewayResult:
        """See ``Gateway``."""
        if request.frontend and self.driven is None:
            self.driven = request
        with self._told():
            result = await self._results.make(request)
            if request.evaluate:
                await self._results.outputs(result)
        return GatewayResult(
            {name: self._named(name, edge, result) for name, edge in result.edges.items()}, result.metadata
        )

    def _named(self, key: str, edge: Edge | None, result: Result) -> GatewayRef:
        if edge is None:
            return GatewayRef("")
        return GatewayRef(self._refs.add(key, edge, result).id, self._graphs.dump(edge, result.source))

    async def _output(self, ref: str) -> Output:
        found = self._refs.get(ref)
        with self._told():
            return await self._results.output(found.edge, found.source)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except SampanError as error:
            self._failed = error
            self._tell_step(error)
            raise

    def _tell_step(self, error: SampanError) -> None:
        """Say of a step that has failed what is left of it, so that the client can look into that."""
        if not isinstance(error, LocatedError) or error.vertex is None:
            return
        step = self._steps.get(error.vertex)
        if step is None:
            operation = self._graphs.operation_of(error.vertex)
            if operation is None:
                return
            remains = self._run.remains(error.vertex)
            before = tuple(self._left(partial(_same, each.before) if each.before else None) for each in remains)
            step = FailedStep(operation, before, tuple(self._left(each.after) for each in remains))
            self._steps[error.vertex] = step
        error.step = step

    def _left(self, output: Callable[[], Awaitable[Output]] | None) -> str:
        if output is None:
            return ""
        name = secrets.token_hex(12)
        self._remains[name] = output
        return name

    async def _mounted(self, ref: str) -> Output:
        """Return what a container is made of: a result, or what is left of a step."""
        if not ref:
            return Tree()
        left = self._remains.get(ref)
        return await (self._output(ref) if left is None else left())

    async def evaluate(self, ref: str) -> None:
        """See ``Gateway``."""
        if ref:
            await self._output(ref)

    async def read_file(self, ref: str, path: str, offset: int, length: int) -> bytes:
        """See ``Gateway``."""
        if not ref:
            raise NotFoundError(f"no such file {path!r}: the result is empty")
        return await self._files.read_file(await self._output(ref), path, offset, length)

    async def read_directory(self, ref: str, path: str, pattern: str) -> Sequence[FileStat]:
        """See ``Gateway``."""
        if not ref:
            return []
        return await self._files.read_directory(await self._output(ref), path, pattern)

    async def stat(self, ref: str, path: str) -> FileStat:
        """See ``Gateway``."""
        if not ref:
            raise NotFoundError(f"no such file {path!r}: the result is empty")
        return await self._files.stat(await self._output(ref), path)

    async def resolve_config(self, query: ImageQuery, policies: Policies = ()) -> ResolvedImage:
        """See ``Gateway``."""
        return await self._images.resolve(query, self._judge.beside(policies).allowed)

    async def resolve_source(self, query: SourceQuery, policies: Policies = ()) -> SourceState:
        """See ``Gateway``."""
        query = replace(query, op=await self._judge.beside(policies).allowed(query.op, query.platform))
        return await looked_at(query, self._run, self._sources, self._images.allowed)

    def inputs(self) -> Mapping[str, bytes]:
        """See ``Gateway``."""
        return self._inputs

    async def warn(self, vertex: Digest, warning: BuildWarning, source: SourceFile | None, level: int) -> None:
        """See ``Gateway``."""
        name, data = (source.name, source.data) if source is not None else ("", b"")
        self._progress.report(VertexWarning(vertex, warning, level, name, data))

    async def new_container(self, request: ContainerRequest) -> None:
        """See ``Gateway``."""
        await self._containers.new(request, [await self._mounted(ref) for ref in request.refs])

    async def read_container_file(self, id: str, mount: int, path: str, offset: int, length: int) -> bytes:
        """See ``Gateway``."""
        return await self._files.read_file(self._containers.files(id, mount), path, offset, length)

    async def read_container_directory(self, id: str, mount: int, path: str, pattern: str) -> Sequence[FileStat]:
        """See ``Gateway``."""
        return await self._files.read_directory(self._containers.files(id, mount), path, pattern)

    async def stat_in_container(self, id: str, mount: int, path: str) -> FileStat:
        """See ``Gateway``."""
        return await self._files.stat(self._containers.files(id, mount), path)

    async def release_container(self, id: str) -> None:
        """See ``Gateway``."""
        await self._containers.release(id)

    async def start_process(self, container: str, program: Program) -> ContainerProcess:
        """See ``Gateway``."""
        return await self._containers.start(container, program)

    async def close(self) -> None:
        """Let go of what is beside the build."""
        await self._containers.close()

    def give(
        self,
        refs: Mapping[str, str],
        metadata: Mapping[str, bytes],
        said: Mapping[str, Sequence[GatewayAttestation]] = NOTHING_SAID,
    ) -> None:
        """See ``Gateway``."""
        found = {name: self._refs.get(given) if given else None for name, given in refs.items()}
        made = [ref.result for ref in found.values() if ref is not None]
        source = next((each.source for each in made if each.source is not None), None)
        # What a frontend has made is that frontend's, also if the client puts several such results together.
        asked = next((each for each in made if each.frontend), Result({}))
        self._ending()
        edges = {name: ref.edge if ref is not None else None for name, ref in found.items()}
        of_frontends = {key: tuple(self._said(each) for each in several) for key, several in said.items()}
        # What is looked at beside an output is known of the result that the output is of.
        extras = {key: ref.result.extras.get(ref.key, {}) for key, ref in found.items() if ref is not None}
        attested = {key: ref.said for key, ref in found.items() if ref is not None}
        result = Result(edges, metadata, source, asked.frontend, asked.attributes, {**attested, **of_frontends}, extras)
        self._returned.set_result(result)

    def _said(self, each: GatewayAttestation) -> Said:
        edge = self._refs.get(each.ref).edge if each.ref else None
        return Said(edge, each.path, each.bundle, each.predicate_type, each.subjects)

    def fail(self, error: SampanError) -> None:
        """See ``Gateway``."""
        self._ending()
        error.__cause__ = self._failed
        self._returned.set_exception(error)

    def _ending(self) -> None:
        if self._returned.done():
            raise ConflictError("the build has its result already")


async def looked_at(
    query: SourceQuery, run: Build, sources: Sources, config: Callable[[ImageQuery], Awaitable[ResolvedImage]]
) -> SourceState:
    """Return what a source is, and show the build's clients that it is looked at.

    Args:
        query: what is asked for.
        run: the build.
        sources: where it is.
        config: looks an image up.

    Raises:
        SampanError: as ``Sources.pin`` and ``Bridge.resolve_config``.
    """
    image = None
    if query.op.identifier.startswith(_IMAGE) and query.config:
        reference = query.op.identifier.removeprefix(_IMAGE)
        image = await config(ImageQuery(reference, query.platform, query.mode, query.step))
    async with run.step(query.step or f"[internal] load metadata for {query.op.identifier}") as context:
        pinned = await sources.pin(query.op, query.platform, context)
        wanted = query.objects and query.op.identifier.startswith(_GIT)
        objects = await sources.git_objects(query.op, pinned, context) if wanted else None
        chain = checksum = None
        if query.attestations is not None and query.op.identifier.startswith(_IMAGE):
            chain = await sources.attestations(query.op, query.attestations, query.platform, context)
        if query.checksum is not None and query.op.identifier.startswith(_WEB):
            checksum = await sources.checksum(query.op, pinned, query.checksum, context)
        return SourceState(query.op, pinned, image, objects, chain, checksum)


async def _same(output: Output) -> Output:
    return output
