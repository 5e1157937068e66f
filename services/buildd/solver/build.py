"""One build: its graph's vertexes, each evaluated once however many of its solves want it.

A vertex is evaluated from its inputs' outputs: its cache key, a look into the cache, and if nothing is there its work,
which all builds share that come to the same key at the same time. What a build has used stays in use until it closes.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from buildd.cache.model import About, Found, RecordType
from buildd.deferred import is_only_copy
from buildd.llb.digests import DigestOf, Digests, digest_of, operation_digest
from buildd.llb.ops import NO_LIMITS, DiffOp, Edge, ExecOp, FileOp, MergeOp, NetMode, Node, Op, SecurityMode, SourceOp
from buildd.meter import Kind
from buildd.protocol import Judge, Output, Pinned, Progress, Remains, StepContext, StepError, Tree
from buildd.solver import keys
from buildd.solver.context import Unseen, VertexProgress, Work, noted
from buildd.solver.flights import AT_ONCE, Flights
from buildd.solver.layers import can_be, combine, with_history
from buildd.solver.shared import Done, Run, SharedWorks
from sampan.build.progress import Vertex
from sampan.build.request import NETWORK_HOST, SECURITY_INSECURE
from sampan.cancellation import together
from sampan.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RemoteError,
    SampanError,
    ServiceGoneError,
)
from sampan.log import log
from sampan.oci.digest import Digest

_CANCELLED: Final = "context canceled"  # what clients look for


class Imports(Protocol):
    """Results that other builders have made, as far as a client says that they are to be believed."""

    async def find(self, key: Digest) -> tuple[Tree, ...] | None:
        """Return a step's outputs, whose layers are here; None if nobody has them."""

    async def proven(self, outputs: Sequence[Tree], inputs: Sequence[Output]) -> bool:
        """Make them ready, and say whether all of their blobs but those of ``inputs`` are what they are said to be."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants a build."""

    ref: str
    progress: Progress
    sessions: Sequence[str] = ()
    entitlements: frozenset[str] = frozenset()  # "network.host", "security.insecure"
    ignore_cache: bool = False  # run every step; a single one says so in its metadata
    digest_of: DigestOf = field(default_factory=Digests)  # what the client calls vertexes
    imports: Imports | None = None  # asked for what is not in the cache
    judge: Judge | None = None  # of sources; None: any is good


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A vertex's outcome."""

    node: Node
    digest: Digest
    key: Digest  # equal keys, equal outputs
    outputs: tuple[Output, ...]
    ids: tuple[str, ...] = ()  # of the records that hold them
    made_of: tuple[Digest, ...] = ()  # keys of steps: what stands for this one where it has no record of its own
    lasting: bool = False  # the key means the same to other builds and other builders
    cached: bool = False
    pinned: Pinned | None = None  # of a source


class Build:
    """See the module; made by ``Solver.open``."""

    def __init__(self, asker: Asker, works: SharedWorks) -> None:
        self._asker = asker
        self._works = works
        self._results = works.parts.results
        self._files = works.parts.files
        self._vertexes: Flights[Digest, Evaluated] = Flights()
        self._evaluated: dict[Digest, Evaluated] = {}
        self._failed: dict[Digest, SampanError] = {}
        self._remains: dict[Digest, Sequence[Remains]] = {}
        self._known: dict[Digest, Node] = {}
        self._found: list[str] = []  # records in use
        self._joined: list[Work] = []  # what holds outputs for this build

    async def solve(self, edge: Edge) -> Output:
        """Run the graph up to ``edge`` and return what comes out; unchanged until the build is closed.

        Cancelled, it ends whatever nobody else waits for.

        Raises:
            StepError: a step has failed.
            PermissionDeniedError: a step needs what the client has not granted.
            InvalidArgumentError: the graph cannot be.
        """
        self._load(edge.node)
        return _output(await self._vertex(edge.node), edge)

    def evaluated(self) -> Sequence[Evaluated]:
        """Return every vertex that has an outcome, those first that others need: for provenance and cache exports."""
        return list(self._evaluated.values())

    def remains(self, vertex: Digest) -> Sequence[Remains]:
        """Return what is left of a step that has failed, mount by mount; none of one that was not begun."""
        return self._remains.get(vertex, ())

    @asynccontextmanager
    async def step(self, name: str, digest: Digest | None = None) -> AsyncIterator[StepContext]:
        """Show something as a vertex that is in no graph, such as ``exporting to image``, for as long as it lasts."""
        view = self._view(Vertex(digest or digest_of("internal", self._asker.ref, name), name))
        work = self._own_work(view)
        view.started()
        try:
            yield work
        except BaseException as error:
            view.failed(str(error) or _CANCELLED)
            raise
        else:
            view.completed()

    def beside(self) -> StepContext:
        """Return what is given to work that is shown to nobody."""
        vertex = Vertex(digest_of("beside", self._asker.ref), "beside the build")
        return self._own_work(VertexProgress(vertex, Unseen(), self._works.parts.now_ns))

    async def close(self) -> None:
        """End what still runs for this build, and let go of all outputs."""
        await self._vertexes.close()
        joined, self._joined = self._joined, []
        for work in joined:
            await work.holding.release()
        found, self._found = self._found, []
        with noted("results of a build"):
            await self._works.parts.results.let_go(found)

    # The graph --------------------------------------------------

    def _load(self, node: Node) -> None:
        """Check what is new of a graph, and show its vertexes, those first that others need."""
        waiting, seen, order = [(node, False)], set[Node](), list[Node]()
        while waiting:
            last, ready = waiting.pop()
            if ready:
                order.append(last)
            elif last not in seen:
                seen.add(last)
                waiting.append((last, True))
                waiting += [(each.node, False) for each in reversed(last.inputs)]
        for each in order:
            self._check(each)
        for each in order:
            digest = self._asker.digest_of(each)
            if digest not in self._known:
                self._known[digest] = each
                self._view(self._described(each, digest)).announced()

    def _check(self, node: Node) -> None:
        if not isinstance(node.op, ExecOp):
            return
        for asked, name in (
            (node.op.network is NetMode.HOST, NETWORK_HOST),
            (node.op.security is SecurityMode.INSECURE, SECURITY_INSECURE),
        ):
            if asked and name not in self._asker.entitlements:
                error = PermissionDeniedError(f"failed to load LLB: {name} is not allowed")
                digest = self._asker.digest_of(node)
                raise StepError(error, digest, node.metadata.name, node.metadata.positions)

    def _described(self, node: Node, digest: Digest) -> Vertex:
        inputs = tuple(dict.fromkeys(self._asker.digest_of(each.node) for each in node.inputs))
        return Vertex(digest, node.metadata.name, inputs, progress_group=node.metadata.progress_group)

    def _view(self, vertex: Vertex) -> VertexProgress:
        return VertexProgress(vertex, self._asker.progress, self._works.parts.now_ns)

    def _own_work(self, view: VertexProgress) -> Work:
        """Return a context for what no other build shares."""
        work = Work()
        work.join(view, self._asker.sessions)
        self._joined.append(work)
        return work

    # Evaluation -------------------------------------------------

    async def _vertex(self, node: Node) -> Evaluated:
        digest = self._asker.digest_of(node)
        if digest in self._failed:
            raise self._failed[digest]
        if digest in self._evaluated:
            return self._evaluated[digest]
        flight = self._vertexes.begin(digest, lambda: self._evaluate(digest, node), f"vertex {digest.short}")
        return await flight.wait()

    async def _evaluate(self, digest: Digest, node: Node) -> Evaluated:
        try:
            try:
                done = await self._attempt(digest, node)
            except StepError as error:
                # Layers that a record promises may be lost, as when a content store was repaired: make them again.
                if not isinstance(error.cause, NotFoundError) or not await self._distrust(node):
                    raise
                done = await self._attempt(digest, node)
        except SampanError as error:
            self._failed[digest] = error
            raise
        self._evaluated[digest] = done
        return done

    async def _attempt(self, digest: Digest, node: Node) -> Evaluated:
        known = [self._evaluated.get(self._asker.digest_of(each.node)) for each in node.inputs]
        there = [one for one in known if one is not None]
        if len(there) < len(known):
            there = await together((self._vertex(each.node) for each in node.inputs), AT_ONCE)
        evaluated = there
        inputs = [_output(one, each) for one, each in zip(evaluated, node.inputs, strict=True)]
        view = self._view(self._described(node, digest))
        view.started()
        try:
            with self._works.parts.meter.step(_kind_of(node)) as mark:
                try:
                    done = await self._outcome(digest, node, evaluated, inputs, view)
                except ServiceGoneError:
                    if isinstance(node.op, ExecOp):  # see the executor, which knows whether its process has begun
                        raise
                    await self._works.parts.reach()
                    done = await self._outcome(digest, node, evaluated, inputs, view)
                mark.cached = done.cached
        except SampanError as error:
            view.failed(str(error).removeprefix(keys.COMPUTING).removeprefix(keys.LOADING))
            raise StepError(error, digest, node.metadata.name, node.metadata.positions) from error
        except BaseException as error:
            view.failed(_CANCELLED if isinstance(error, asyncio.CancelledError) else "internal error")
            raise
        view.completed(cached=done.cached)
        return done

    async def _outcome(
        self, digest: Digest, node: Node, evaluated: Sequence[Evaluated], inputs: Sequence[Output], view: VertexProgress
    ) -> Evaluated:
        parents = tuple(dict.fromkeys(key for one in evaluated for key in one.made_of or (one.key,)))
        about = About(_name_of(node), _type_of(node), parents)
        op = node.op
        if isinstance(op, SourceOp):
            return await self._source(digest, node, op, view, about)
        if isinstance(op, MergeOp | DiffOp):
            tree = await combine(op, inputs, self._files)
            cached = all(one.cached for one in evaluated)
            return Evaluated(node, digest, keys.tree_digest(tree), (tree,), made_of=parents, cached=cached)
        key, quick = await self._key(node, inputs)
        ignore = self._asker.ignore_cache or node.metadata.ignore_cache
        found = None if ignore else await self._look_up(key, about, op, inputs)
        if found is not None:
            if quick is not None:
                await self._results.remember_quick(quick, key)
            outputs = with_history(op, inputs, found.outputs)
            return Evaluated(node, digest, key, outputs, found.ids, lasting=True, cached=True)
        run = self._works.operation(node, inputs, key, about, quick)
        limits, network_mode = node.metadata.limits, node.metadata.network_mode
        # A result is the same whatever its step was allowed to take and could reach, as in Docker; a step at work is
        # another one's only if both are.
        shared = key if limits == NO_LIMITS else digest_of("limits", key, repr(limits))
        shared = digest_of("network", shared, network_mode) if network_mode else shared
        done = await self._shared(shared, run, view, ignore_cache=ignore)
        trees = [each for each in done.outputs if isinstance(each, Tree)]
        return Evaluated(node, digest, key, with_history(op, inputs, trees), done.ids, lasting=True)

    async def _source(self, digest: Digest, node: Node, op: SourceOp, view: VertexProgress, about: About) -> Evaluated:
        platform = node.platform or self._works.parts.platform
        judge = self._asker.judge
        taken = op if judge is None else await judge(op, node.platform)
        if taken is not op:
            op, node = taken, replace(node, op=taken)
        pinned = await keys.pinned(op, self._works.parts.sources.pin(op, platform, self._own_work(view)))
        if pinned.key:
            # A pin says what the files are, so there is nothing in a cache that could be ignored.
            key = keys.source_key(op, pinned)
            found = await self._look_up(key, about, op)
            if found is not None:
                outputs = found.outputs
                return Evaluated(node, digest, key, outputs, found.ids, lasting=True, cached=True, pinned=pinned)
        else:
            key = digest_of("unpinned", self._asker.ref, digest)
        done = await self._shared(key, self._works.fetch(op, pinned, platform, key, about), view)
        return Evaluated(node, digest, key, done.outputs, done.ids, lasting=bool(pinned.key), pinned=pinned)

    async def _key(self, node: Node, inputs: Sequence[Output]) -> tuple[Digest, Digest | None]:
        """Return a step's key, and a quick key that does not lead to it yet."""
        does = operation_digest(node.op, node.platform)
        if not keys.needs_files(node.op, inputs):
            return await keys.content_key(node.op, does, inputs, self._files), None
        quick = keys.quick_key(does, inputs)
        known = None if quick is None else await self._results.key_of(quick)
        if known is not None:
            return known, None
        return await keys.content_key(node.op, does, inputs, self._files), quick

    async def _look_up(self, key: Digest, about: About, op: Op, inputs: Sequence[Output] = ()) -> Found | None:
        found = await self._results.find(key)
        if found is None and self._asker.imports is not None:
            outputs = await self._asker.imports.find(key)
            if outputs and can_be(op, inputs, outputs) and await self._asker.imports.proven(outputs, inputs):
                found = await self._results.add(key, outputs, about)
        if found is not None:
            self._found += found.ids
            if any(map(is_only_copy, found.outputs)) and not await self._is_whole(found.outputs):
                await self._results.forget(found.ids)
                return None
        return found

    async def _is_whole(self, outputs: Sequence[Tree]) -> bool:
        """Say whether layers are there; of what is recorded, those that nothing else has are asked for."""
        try:
            for output in outputs:
                await self._works.parts.trees.ready(output)
        except (DataLossError, InvalidArgumentError, NotFoundError, RemoteError) as error:
            log.warning("a result of the cache is no such thing", error=str(error))
            return False
        return True

    async def _shared(self, key: Digest, run: Run, view: VertexProgress, *, ignore_cache: bool = False) -> Done:
        flight, work = self._works.begin(key, run, f"work {key.short}", ignore_cache=ignore_cache)
        work.join(view, self._asker.sessions)
        try:
            done = await flight.wait()
        except BaseException as error:
            if work.remains and isinstance(error, SampanError):
                self._remains[view.digest] = work.remains
                self._joined.append(work)
            else:
                await work.leave(view)
            raise
        work.forget()
        self._joined.append(work)
        return done

    async def _distrust(self, node: Node) -> bool:
        """Forget those inputs from the cache whose layers are lost; say whether there were any."""
        lost = False
        for each in node.inputs:
            digest = self._asker.digest_of(each.node)
            found = self._evaluated.get(digest)
            if found is None or not found.cached:
                continue
            try:
                for output in found.outputs:
                    if isinstance(output, Tree):
                        await self._works.parts.trees.ready(output)
            except NotFoundError as error:
                log.warning("layers of the build cache are lost", step=found.node.metadata.name, error=str(error))
                await self._results.forget(found.ids)
                self._evaluated.pop(digest, None)
                lost = True
        return lost


def _output(evaluated: Evaluated, edge: Edge) -> Output:
    if not 0 <= edge.index < len(evaluated.outputs):
        count = len(evaluated.outputs)
        raise InvalidArgumentError(f"invalid output index {edge.index} of a step with {count} outputs")
    return evaluated.outputs[edge.index]


def _name_of(node: Node) -> str:
    """Return what the cache calls a step's result."""
    if node.metadata.name:
        return node.metadata.name
    match node.op:
        case SourceOp() as op:
            return op.identifier
        case ExecOp() as op:
            return " ".join(op.process.args)
    return type(node.op).__name__


def _kind_of(node: Node) -> Kind:
    match node.op:
        case ExecOp():
            return Kind.EXEC
        case FileOp():
            return Kind.FILE
        case SourceOp():
            return Kind.SOURCE
        case MergeOp() | DiffOp():
            return Kind.MERGE


def _type_of(node: Node) -> RecordType:
    git = isinstance(node.op, SourceOp) and node.op.identifier.startswith("git://")
    return RecordType.GIT if git else RecordType.REGULAR
