"""All builds of this process, by the refs that their clients made up.

A build lives as long as the call that asks for it: a client that goes away cancels it. How it went is told a while
longer, for clients that ask late.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from buildd.build import caching
from buildd.build.bridge import BuildBridge, ImageConfigs
from buildd.build.caching import BuildCaches, Caches
from buildd.build.containers import Containers, granted
from buildd.build.frontends import FrontendParts, ImageFrontends
from buildd.build.gateway import BuildGateway, looked_at
from buildd.build.judging import SourceJudge
from buildd.build.keeping import Kept
from buildd.build.protocol import Cache, Gateway, GatewayRequest, Graphs, SourceQuery, SourceState, Worker
from buildd.build.results import Frontend, Results
from buildd.build.updates import Updates, in_messages
from buildd.exporters.image import platforms_of
from buildd.exporters.protocol import Attestation, BuildResult, Exporters
from buildd.history.history import History
from buildd.history.model import CANCELLED, BuildRecord, Happened, HistoryQuery
from buildd.llb.ops import SourceOp
from buildd.meter import UNMETERED, Meter, Phase
from buildd.protocol import FileWorker, Result, Sources, Tree
from buildd.provenance.attesting import Asked
from buildd.provenance.options import parse_attestations, parse_sbom
from buildd.provenance.scanning import scanned, statements
from buildd.session.protocol import Sessions
from buildd.solver.build import Asker, Build
from buildd.solver.solver import Solver
from sampan.build.policy import SourcePolicy
from sampan.build.progress import Update
from sampan.build.request import PruneOptions, SolveRequest, SolveResponse, UsageRecord
from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, SampanError
from sampan.oci.digest import Digest

# A client asks for a build's status while it begins the build.
_BEGIN_S: Final = 15.0
_ENDED_KEPT: Final = 4  # builds whose status is in memory after their end; the history has more of them

_IMAGES: Final = ("docker-image://", "oci-layout://")

_EXPORTING: Final = {
    "": "exporting",
    "image": "exporting to image",
    "moby": "exporting to image",
    "docker": "exporting to docker image format",
    "oci": "exporting to oci image format",
    "local": "exporting to client directory",
    "tar": "exporting to client tarball",
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What builds are made with."""

    solver: Solver
    sources: Sources
    files: FileWorker
    exporters: Exporters
    cache: Cache
    created: Callable[[Collection[str]], Awaitable[Mapping[str, int]]]  # when records were made; see ``Results``
    caches: Caches
    sessions: Sessions
    history: History
    frontend: Frontend
    frontends: FrontendParts
    graphs: Callable[[], Graphs]
    worker: Callable[[], Worker]
    allowed: frozenset[str]  # entitlements that a client may grant
    failure: Callable[[SampanError], bytes]  # an error with its details, as the history keeps it
    now_ns: Callable[[], int]
    meter: Meter = UNMETERED
    # Within, the files of this session's client are brought up to date: see ``LocalSource.ahead``.
    ahead: Callable[[str], AbstractAsyncContextManager[None]] = lambda _: nullcontext()


class _Build:
    """One build at work."""

    def __init__(self, updates: Updates) -> None:
        self.updates = updates
        self.gateway: BuildGateway | None = None
        self.begun = asyncio.Event()  # there is a gateway, or the build has ended


class Builds:
    """Satisfies ``buildd.build.protocol.Builder``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._running: dict[str, _Build] = {}
        self._frontends: dict[str, Gateway] = {}  # of frontends that are images
        self._ended: OrderedDict[str, Updates] = OrderedDict()
        self._keeping: dict[str, asyncio.Task[None]] = {}  # records that are being written, by ref
        # Builds that somebody asks for before they begin; whoever asks keeps the event.
        self._awaited: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    @property
    def running(self) -> int:
        """How many builds there are."""
        return len(self._running)

    async def solve(self, request: SolveRequest) -> SolveResponse:
        """See ``Builder``."""
        if not request.ref:
            raise InvalidArgumentError("a build needs a ref")
        if request.ref in self._running:
            raise AlreadyExistsError(f"job ID {request.ref} exists")
        build = _Build(Updates(self._parts.now_ns))
        # It begins with what may refuse it: a client that asks for its status learns that it has ended.
        self._running[request.ref] = build
        if (event := self._awaited.pop(request.ref, None)) is not None:
            event.set()
        record = BuildRecord.begun(request, self._parts.now_ns())
        self._parts.history.begin(record)
        # By these a client only finds out what the builder can do: they are nobody's builds.
        meter = UNMETERED if request.internal else self._parts.meter
        error, response = "internal error", SolveResponse({})
        kept = Kept(self._parts.failure, self._parts.now_ns)
        try:
            with meter.build():
                kept.attesting = parse_attestations(request.frontend_attributes)
                parse_sbom(request.frontend_attributes)
                entitlements = granted(request.entitlements, self._parts.allowed)
                for export in request.exports:
                    self._parts.exporters.check(export)
                caching.check(request.cache_exports)
                response = await self._solve(request, build, entitlements, kept)
            error = ""
        except SampanError as failed:
            error = str(failed)
            kept.failed(failed)
            raise
        except asyncio.CancelledError:
            error = CANCELLED
            raise
        finally:
            self._end(request, build, replace(record, error=error, response=response.exporter_response), kept)
        return response

    def _end(self, request: SolveRequest, build: _Build, record: BuildRecord, kept: Kept) -> None:
        build.updates.end()
        build.begun.set()
        del self._running[request.ref]
        self._ended[request.ref] = build.updates
        while len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)
        record = replace(record, completed_ns=self._parts.now_ns()).counted(build.updates.kept)
        if request.internal:
            self._parts.history.drop(request.ref)
            return
        driven = build.gateway.driven if build.gateway is not None and not request.frontend else None
        if driven is not None:
            record = replace(record, frontend=driven.frontend, attributes=driven.frontend_attributes)
        keeping = asyncio.create_task(self._keep(record, build.updates.kept, kept), name="keep history")
        self._keeping[request.ref] = keeping
        keeping.add_done_callback(lambda _: self._keeping.pop(request.ref, None))

    async def _keep(self, record: BuildRecord, updates: Sequence[Update], kept: Kept) -> None:
        record, blobs = await kept.of(record)
        await self._parts.history.end(record, updates, blobs)

    async def close(self) -> None:
        """Wait until the builds that have ended are in the history."""
        if self._keeping:
            await asyncio.wait(self._keeping.values())

    async def _solve(
        self, request: SolveRequest, build: _Build, entitlements: frozenset[str], kept: Kept
    ) -> SolveResponse:
        begun_ns = self._parts.now_ns()
        graphs = self._parts.graphs()
        sessions = (request.session,) if request.session else ()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._parts.ahead("" if request.internal else request.session))
            imports = await stack.enter_async_context(self._parts.caches.imports())
            verifier = partial(self._parts.sessions.get, request.policy_session) if request.policy_session else None

            async def look(query: SourceQuery) -> SourceState:
                # Not remembered as what the build has asked for: the source may turn out not to be allowed.
                own = ImageConfigs(run, self._parts.sources, SourceJudge(SourcePolicy()).allowed)
                return await looked_at(query, run, self._parts.sources, own.allowed)

            judge = SourceJudge(SourcePolicy(request.policy), verifier, look)
            asker = Asker(
                request.ref,
                build.updates,
                sessions,
                entitlements,
                digest_of=graphs.digest_of,
                imports=imports,
                judge=judge.allowed,
            )
            run = await stack.enter_async_context(self._parts.solver.open(asker))
            images = ImageConfigs(run, self._parts.sources, judge.allowed)

            def gateway(inputs: Mapping[str, bytes]) -> BuildGateway:
                return BuildGateway(
                    results=results,
                    graphs=graphs,
                    run=run,
                    files=self._parts.files,
                    sources=self._parts.sources,
                    images=images,
                    judge=judge,
                    progress=build.updates,
                    inputs=inputs,
                    containers=Containers(self._parts.frontends.executor, run, entitlements),
                )

            frontends = ImageFrontends(self._parts.frontends, run, images, request.session, gateway, self._named)
            runnable = self._parts.worker().platforms
            bridge = BuildBridge(
                run, graphs, self._parts.files, images, build.updates, frontends, runnable, request.session
            )
            caches = BuildCaches(run, imports, self._parts.caches.exports)
            results = Results(run, graphs, self._parts.frontend, bridge, caches, frontends, judge)
            build.gateway = gateway(request.frontend_inputs)
            stack.push_async_callback(build.gateway.close)
            build.begun.set()
            result = await self._result(request, results, build.gateway)
            outputs = await results.outputs(result)
            built = BuildResult(outputs, result.metadata, _taken(run), made_ns=await self._made_ns(run))
            evaluated, found = run.evaluated(), dict(images.found)  # what is asked for afterwards is no material
            told = await self._told(request, result, built, results, images)
            if not request.internal and any(edge is not None for edge in result.edges.values()):
                asked = Asked(result, platforms_of(built), evaluated, found, begun_ns)
                provenance = await kept.capture(asked, graphs)
                told = {key: (*told.get(key, ()), *provenance.get(key, ())) for key in (*told, *provenance)}
            built = replace(built, attestations=told)
            return SolveResponse(await self._export(request, built, run, caches, kept))

    async def _told(
        self, request: SolveRequest, result: Result, built: BuildResult, results: Results, images: ImageConfigs
    ) -> Mapping[str, tuple[Attestation, ...]]:
        """Return what is said of the outputs beside their provenance."""
        options = parse_sbom(request.frontend_attributes)
        if not built.outputs or (options is None and not result.said):
            return {}
        platforms = platforms_of(built)
        if options is not None:
            mode = request.frontend_attributes.get("image-resolve-mode") or "default"
            result = await scanned(result, options, platforms, images.resolve, mode)
        return await statements(result, platforms, results.outputs, self._parts.files)

    async def _made_ns(self, run: Build) -> Mapping[Digest, int]:
        """Return when the layers that steps came to were made, at first: a result in the cache keeps its time."""
        done = run.evaluated()
        created = await self._parts.created([name for one in done for name in one.ids])
        return {
            output.layers[-1].diff_id: created[name]
            for one in done
            for name, output in zip(one.ids, one.outputs, strict=False)  # a client's directory has no record
            if name in created and isinstance(output, Tree) and output.layers
        }

    async def _result(self, request: SolveRequest, results: Results, gateway: BuildGateway) -> Result:
        if request.definition is None and not request.frontend:
            return await gateway.returned()
        return await results.make(
            GatewayRequest(
                request.definition,
                request.frontend,
                request.frontend_attributes,
                request.frontend_inputs,
                cache_imports=request.cache_imports,
            )
        )

    async def _export(
        self, request: SolveRequest, built: BuildResult, run: Build, caches: BuildCaches, kept: Kept
    ) -> Mapping[str, str]:
        told: dict[str, str] = {}
        inline = caches.inline(request.cache_exports, built.outputs)
        for number, export in enumerate(request.exports):
            async with run.step(_EXPORTING.get(export.type, f"exporting to {export.type}")) as context:
                with self._parts.meter.timed(Phase.EXPORT):
                    exported = await self._parts.exporters.export(built, export, context, inline)
            told |= exported.told
            kept.exported[number] = exported
        # Of a request that is no build the answer is in what the frontend says.
        answers = {
            name: value.decode(errors="replace")
            for name, value in built.metadata.items()
            if name.startswith(("frontend.", "result."))
        }
        return {**told, **answers, **await caches.export(request.cache_exports, built.outputs, built.taken)}

    async def _begun(self, ref: str) -> None:
        """Return as soon as a build has begun. NotFoundError: it has not by then."""
        if ref in self._running or ref in self._ended:
            return
        event = self._awaited.setdefault(ref, asyncio.Event())
        try:
            async with asyncio.timeout(_BEGIN_S):
                await event.wait()
        except TimeoutError:
            raise NotFoundError(f"no such job {ref}") from None

    async def status(self, ref: str) -> AsyncGenerator[Sequence[Update], None]:
        """See ``Builder``."""
        if ref not in self._running and ref not in self._ended:
            with suppress(NotFoundError):
                for some in in_messages(await self._parts.history.updates(ref)):
                    yield some
                return
        await self._begun(ref)
        build = self._running.get(ref)
        updates = build.updates if build is not None else self._ended.get(ref)
        if updates is None:
            raise NotFoundError(f"no such job {ref}")
        async for some in updates.follow():
            yield some

    @contextmanager
    def _named(self, gateway: Gateway) -> Iterator[str]:
        """Make a frontend's gateway known, by a name that nobody guesses."""
        name = f"frontend-{secrets.token_hex(16)}"
        self._frontends[name] = gateway
        try:
            yield name
        finally:
            del self._frontends[name]

    async def gateway(self, ref: str) -> Gateway:
        """See ``Builder``."""
        if ref in self._frontends:
            return self._frontends[ref]
        await self._begun(ref)
        build = self._running.get(ref)
        if build is not None:
            await build.begun.wait()
        if build is None or build.gateway is None or ref not in self._running:
            raise NotFoundError(f"no such job {ref}")
        return build.gateway

    async def history(self, query: HistoryQuery) -> AsyncGenerator[tuple[Happened, BuildRecord], None]:
        """See ``Builder``. A build that has just ended, as its client knows, is told when its record is whole."""
        ending = [task for ref, task in self._keeping.items() if query.ref in ("", ref)]
        if ending and query.early_exit:
            await asyncio.wait(ending)
        async with aclosing(self._parts.history.listen(query)) as events:
            async for event in events:
                yield event

    async def blob(self, digest: Digest) -> bytes:
        """See ``Builder``."""
        return await self._parts.history.blob(digest)

    async def pin(self, ref: str, *, pinned: bool) -> None:
        """See ``Builder``."""
        await self._parts.history.pin(ref, pinned=pinned)

    async def forget(self, ref: str) -> None:
        """See ``Builder``."""
        await self._parts.history.remove(ref)

    def workers(self) -> Sequence[Worker]:
        """See ``Builder``."""
        return [self._parts.worker()]

    async def usage(self, filters: Sequence[str], unused_ns: int = 0) -> Sequence[UsageRecord]:
        """See ``Builder``."""
        return await self._parts.cache.usage(filters, unused_ns)

    def prune(self, options: PruneOptions) -> AsyncGenerator[UsageRecord, None]:
        """See ``Builder``."""
        return self._parts.cache.prune(options)


def _taken(run: Build) -> frozenset[Digest]:
    """Return the layers that images of sources have."""
    sources = (
        each for each in run.evaluated()
        if isinstance(each.node.op, SourceOp) and each.node.op.identifier.startswith(_IMAGES)
    )  # fmt: skip
    trees = (output for each in sources for output in each.outputs if isinstance(output, Tree))
    return frozenset(layer.diff_id for tree in trees for layer in tree.layers)
