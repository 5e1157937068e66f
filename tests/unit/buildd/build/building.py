"""Builds whose steps are Python and whose files are in memory."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from buildd.build.builds import Builds, Parts
from buildd.build.caching import Caches
from buildd.build.capabilities import LLB, describe
from buildd.build.frontends import FrontendParts
from buildd.build.judging import Verifier
from buildd.build.protocol import Gateway
from buildd.frontend.frontend import DockerfileFrontend
from buildd.history.history import History
from buildd.protocol import ImageQuery, Output, ResolvedImage, StepContext, Tree
from buildd.remote_cache.document import CachedResult
from buildd.session.protocol import Sessions
from buildd.wire.llb.graphs import Graphs
from buildd.wire.services.errors import error_status
from buildd.wire.services.history import UpdatesCodec
from sampan.build.progress import Update, Vertex
from sampan.build.request import CacheOption, PruneOptions, SolveRequest, UsageRecord
from sampan.errors import NotFoundError
from sampan.filter_expressions import parse_filters
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.wire.http2.protocol import ByteStream
from tests.fakes.build_bridge import image_config
from tests.fakes.buildd import FakeSources
from tests.fakes.exporters import FakeExporters
from tests.unit.buildd.solver.solving import Bench

BASE = "docker.io/library/base:latest"


@dataclass(slots=True)
class ImageSources(FakeSources):
    """Sources that know the configs of their images, too."""

    asked: list[ImageQuery] = field(default_factory=list)

    async def resolve_config(self, query: ImageQuery, context: StepContext) -> ResolvedImage:
        self.asked.append(query)
        if query.reference != BASE:
            raise NotFoundError(f"{query.reference}: not found")
        config = image_config()
        return ResolvedImage(BASE, Digest.of(config), config)


class FakeCache:
    """One record, which goes when asked."""

    def __init__(self) -> None:
        self.kept = [UsageRecord("one", 10)]

    async def usage(self, filters: Sequence[str], unused_ns: int = 0) -> Sequence[UsageRecord]:
        parse_filters(filters)
        return tuple(self.kept)

    async def prune(self, options: PruneOptions) -> AsyncGenerator[UsageRecord, None]:
        parse_filters(options.filters)
        while self.kept:
            yield self.kept.pop()


class FakeCaches:
    """Caches of other builders. "registry" is there, and has results by key; others are not."""

    def __init__(self) -> None:
        self.results: dict[Digest, tuple[Tree, ...]] = {}
        self.loaded: list[CacheOption] = []
        self.filled: list[tuple[CacheOption, dict[Digest, tuple[Tree, ...]]]] = []

    async def load(self, option: CacheOption, context: StepContext) -> None:
        self.loaded.append(option)
        if (name := option.attributes.get("ref", "gone")) == "gone":
            raise NotFoundError(f"{name}: not found")

    async def find(self, key: Digest) -> tuple[Tree, ...] | None:
        return self.results.get(key)

    async def proven(self, outputs: Sequence[Tree], inputs: Sequence[Output]) -> bool:
        return True

    async def export(
        self,
        option: CacheOption,
        trees: Sequence[Tree],
        results: Sequence[CachedResult],
        taken: Collection[Digest],
        context: StepContext,
    ) -> Mapping[str, str]:
        if option.attributes.get("ref") == "gone":
            raise NotFoundError("gone: not found")
        self.filled.append((option, {each.key: each.outputs for each in results}))
        return {"cache.manifest": "{}"}


@dataclass(slots=True)
class FakeVerifiers:
    """Sessions whose clients decide on sources, by their IDs."""

    sessions: dict[str, Verifier] = field(default_factory=dict)

    async def get(self, id: str, timeout_s: float = 5) -> Verifier:
        if id not in self.sessions:
            raise NotFoundError(f"no active session for {id}")
        return self.sessions[id]


async def _silent(gateway: Gateway) -> None:
    """Say nothing."""


@dataclass(slots=True)
class Building:
    """All that builds are made of."""

    bench: Bench
    exporters: FakeExporters = field(default_factory=FakeExporters)
    cache: FakeCache = field(default_factory=FakeCache)
    caches: FakeCaches = field(default_factory=FakeCaches)
    frontend: Callable[[Gateway], Awaitable[None]] = _silent  # what an image's frontend asks
    sessions: FakeVerifiers = field(default_factory=FakeVerifiers)
    sources: ImageSources = field(init=False)
    builds: Builds = field(init=False)

    def __post_init__(self) -> None:
        world = self.bench.world
        base = world.tree({"bin/sh": b"shell"})
        pinned = f"docker-image://{BASE}@{Digest.of(image_config())}"
        self.sources = ImageSources(world, {pinned: base}, {})
        times = itertools.count(1)
        worker = describe("this-builder", "fake", "172.31.0.1", lambda: [Platform("linux", "amd64")])
        # The bench's solver knows the bench's sources: those are asked for files.
        self.bench.sources.images[pinned] = base
        self.builds = Builds(
            Parts(
                solver=self.bench.solver,
                sources=self.sources,
                files=self.bench.files,
                exporters=self.exporters,
                cache=self.cache,
                created=self.bench.results.created,
                caches=Caches(lambda: nullcontext(self.caches), self.caches),
                sessions=cast("Sessions", self.sessions),
                history=History(self.bench.store, UpdatesCodec()),
                frontend=DockerfileFrontend(),
                frontends=FrontendParts(self.bench.executor, self.serve, worker),
                graphs=lambda: Graphs(LLB),
                worker=worker,
                allowed=frozenset(("network.host",)),
                failure=error_status,
                now_ns=lambda: next(times) * 10**9,
                meter=self.bench.meter,
            )
        )

    async def serve(self, stream: ByteStream, gateway: str) -> None:
        """Answer a frontend as ``frontend`` does, which is given its gateway, until the process has ended."""
        talking = asyncio.ensure_future(self.frontend(await self.builds.gateway(gateway)))
        while await stream.read():
            pass
        await talking

    def dockerfile(self, text: str, **files: bytes) -> None:
        """Give the client a directory with a Dockerfile in it."""
        for name in ("context", "dockerfile"):
            self.bench.world.directories[Path(name)] = {"Dockerfile": text.encode(), **files}
            self.bench.sources.directories[f"local://{name}"] = Path(name)

    def request(self, ref: str = "build", **more: object) -> SolveRequest:
        return SolveRequest(ref=ref, session="session", **{"frontend": "dockerfile.v0", **more})  # type: ignore[arg-type]

    async def told(self, ref: str = "build") -> list[Update]:
        """Return all updates of a build, to its end."""
        return [update async for updates in self.builds.status(ref) for update in updates]


def names(updates: Sequence[Update]) -> list[str]:
    """Return the names of vertexes in the order in which they were first told."""
    return list(dict.fromkeys(update.name for update in updates if isinstance(update, Vertex)))
