"""Where a build's files come from, by scheme."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from buildd.cache.keeper import Keeper
from buildd.cache.model import Shelf
from buildd.content import Content
from buildd.llb.ops import SourceOp
from buildd.meter import UNMETERED, Meter, Phase
from buildd.protocol import FileWorker, ImageQuery, Output, Pinned, ResolvedImage, StepContext
from buildd.session.clients import Clients
from buildd.session.protocol import Sessions
from buildd.source_metadata import AttestationChain, AttestationQuery, Checksum, ChecksumQuery, GitObjects
from buildd.sources import git, http, images, layouts, local
from buildd.sources.directories import LocalDirectories
from buildd.sources.documents import FoundImage
from buildd.sources.downloads import Downloads
from buildd.sources.git import GitSource
from buildd.sources.held import HeldImages, NamedImages
from buildd.sources.http import HttpSource
from buildd.sources.images import ImageSource
from buildd.sources.layouts import LayoutSource
from buildd.sources.local import LocalSource
from buildd.sources.uploads import UploadSource
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.platform import Platform
from sampan.resource.storage.images import Images
from sampan.resource.storage.snapshots import Layers
from sampan.sys.trees import remove_tree

KNOWN: Final = (images.SCHEME, local.SCHEME, *http.SCHEMES, git.SCHEME, layouts.SCHEME)

T = TypeVar("T")
Call = Callable[[], Coroutine[None, None, T]]


class BuildSources:
    """Satisfies ``protocol.Sources``."""

    def __init__(
        self,
        images: ImageSource,
        layouts: LayoutSource,
        local: LocalSource,
        http: HttpSource,
        uploads: UploadSource,
        git: GitSource,
        meter: Meter = UNMETERED,
    ) -> None:
        self.images = images
        self._layouts = layouts
        self.local = local
        self._http = http
        self._uploads = uploads
        self._git = git
        self._meter = meter

    async def pin(self, op: SourceOp, platform: Platform, context: StepContext) -> Pinned:
        """See ``protocol.Sources``."""
        pin = _of(
            op,
            {
                images.SCHEME: lambda: self.images.pin(op, platform, context),
                layouts.SCHEME: lambda: self._layouts.pin(op, platform, context),
                local.SCHEME: lambda: self.local.pin(op),
                git.SCHEME: lambda: self._git.pin(op, context),
                **dict.fromkeys(http.SCHEMES, lambda: self._web(op).pin(op, context)),
            },
        )
        if op.identifier.startswith(f"{local.SCHEME}://"):  # nobody is asked
            return await pin()
        with self._meter.timed(Phase.RESOLVE):
            return await pin()

    async def fetch(self, op: SourceOp, pinned: Pinned, platform: Platform, context: StepContext) -> Output:
        """See ``protocol.Sources``."""
        return await _of(
            op,
            {
                images.SCHEME: lambda: self.images.fetch(op, platform, context),
                layouts.SCHEME: lambda: self._layouts.fetch(op, platform, context),
                local.SCHEME: lambda: self.local.fetch(op, context),
                git.SCHEME: lambda: self._git.fetch(op, pinned, context),
                **dict.fromkeys(http.SCHEMES, lambda: self._web(op).fetch(op, pinned, context)),
            },
        )()

    def _web(self, op: SourceOp) -> HttpSource | UploadSource:
        return self._uploads if self._uploads.serves(op) else self._http

    async def git_objects(self, op: SourceOp, pinned: Pinned, context: StepContext) -> GitObjects:
        """See ``protocol.Sources``."""
        with self._meter.timed(Phase.RESOLVE):
            return await self._git.objects(op, pinned, context)

    async def attestations(
        self, op: SourceOp, query: AttestationQuery, platform: Platform, context: StepContext
    ) -> AttestationChain:
        """See ``protocol.Sources``."""
        with self._meter.timed(Phase.RESOLVE):
            return await self.images.attestations(op, query, platform, context)

    async def checksum(self, op: SourceOp, pinned: Pinned, query: ChecksumQuery, context: StepContext) -> Checksum:
        """See ``protocol.Sources``."""
        if self._uploads.serves(op):
            raise InvalidArgumentError("an upload of the client's has no checksum: it comes once")
        with self._meter.timed(Phase.RESOLVE):
            return await self._http.checksum(op, pinned, query, context)

    async def resolve_config(self, query: ImageQuery, context: StepContext) -> ResolvedImage:
        """See ``protocol.Sources``."""
        with self._meter.timed(Phase.RESOLVE):
            if query.layout:
                return await self._layouts.resolve_config(query, context)
            return await self.images.resolve_config(query, context)


@dataclass(frozen=True, slots=True)
class Stores:
    """Clients of the services that sources bring things to."""

    images: Images
    content: Content
    layers: Layers


@asynccontextmanager
async def open_sources(
    root: Path,
    stores: Stores,
    files: FileWorker,
    sessions: Sessions,
    keeper: Keeper,
    meter: Meter = UNMETERED,
) -> AsyncIterator[tuple[BuildSources, Sequence[Shelf]]]:
    """Yield all sources, and what some of them keep, clients' directories first; ``root`` is theirs alone.

    ``keeper`` keeps images as it keeps results of the build cache.
    """
    directories = LocalDirectories(root / "local")
    scratch = root / "scratch"

    async def drop(id: str, image: FoundImage, lease: str) -> None:
        # What has had an owner of the cache's goes with it, blobs and stacks, unless it has others.
        try:
            await keeper.keep(id, image.layers)
            with suppress(NotFoundError):
                await stores.images.release(lease)
        finally:
            await keeper.release([id])

    clients, held, downloads = Clients(sessions), HeldImages(drop=drop), Downloads(root / "http")
    named = NamedImages(keeper)
    await asyncio.to_thread(_recover, directories, downloads, scratch)
    sources = BuildSources(
        ImageSource(stores.images, stores.content, stores.layers, clients, held, named),
        LayoutSource(stores.images, stores.content, clients, held),
        LocalSource(directories, clients, meter),
        HttpSource(downloads, files, clients, scratch),
        UploadSource(clients, scratch),
        GitSource(files, clients, scratch),
        meter,
    )
    try:
        yield sources, (directories, downloads, held)
    finally:
        await named.close()
        await held.close()
        await downloads.close()


def _recover(directories: LocalDirectories, downloads: Downloads, scratch: Path) -> None:
    directories.recover()
    downloads.recover()
    remove_tree(scratch)
    scratch.mkdir(mode=0o700)


def _of(op: SourceOp, calls: "dict[str, Call[T]]") -> "Call[T]":
    scheme = op.identifier.partition("://")[0]
    if scheme not in calls:
        raise InvalidArgumentError(f"unknown source {op.identifier[:200]!r}: expected one of {', '.join(KNOWN)}")
    return calls[scheme]
