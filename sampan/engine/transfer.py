"""Images from and to registries: fetch, unpack layer by layer as they arrive, name last; push; and search.

A large step of a build becomes a stored layer at once, and a blob when somebody needs one: before an image's content
goes elsewhere, it is completed.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Final, Protocol

from sampan.docker.filters import check_known, truth
from sampan.engine import publish
from sampan.engine.parts import HasDiffer, HasEvents, HasImages, HasLayers, ImageLookup
from sampan.engine.progress import Done, LayerProgress, Phase, Progress, Resolved
from sampan.errors import DataLossError, InvalidArgumentError, NotFoundError, RemoteError, SampanError, UnavailableError
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform, host_platform, parse_platform
from sampan.oci.reference import Reference, parse_reference
from sampan.resource.image import Credentials, ImageDetails, Layer, SearchResult
from sampan.resource.storage.images import Images
from sampan.resource.storage.snapshots import Layers
from sampan.resource.transfer import FetchPhase, FetchProgress, FetchResolved, FetchStep, Pushed, PushProgress

FILTERS: Final = ("is-official", "is-automated", "stars")
DEFAULT_LIMIT: Final = 25
MAX_LIMIT: Final = 100

Results = list[SearchResult]


async def search(
    images: Images,
    term: str,
    limit: int,
    filters: Mapping[str, Sequence[str]],
    credentials: Credentials | None,
) -> Results:
    """See ``Engine.search_images``."""
    check_known(filters, FILTERS)
    automated, official = truth(filters, "is-automated"), truth(filters, "is-official")
    stars = max((_number(text) for text in filters.get("stars", ())), default=0)
    limit = limit or DEFAULT_LIMIT
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidArgumentError(f"limit {limit} is outside the range of [1, {MAX_LIMIT}]")
    if automated:
        return []  # nobody builds images that way any more, and Docker finds none
    found = await images.search(term, limit, credentials)
    return [each for each in found if official in (None, each.official) and each.stars >= stars]


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidArgumentError(f"invalid filter 'stars=[{text}]'") from None


# Events that a slow watcher may leave unread before the work waits for it.
_BACKLOG: Final = 256

_RELEASE_S: Final = 5.0


# Layers that are asked for at once. The snapshotter unpacks a few at a time; each that waits there costs both sides of
# the call memory, and an archive may hold a thousand.
_APPLIED_AT_ONCE: Final = 32

_PHASES: Final = {
    FetchPhase.WAITING: Phase.WAITING,
    FetchPhase.DOWNLOADING: Phase.DOWNLOADING,
    FetchPhase.VERIFYING: Phase.VERIFYING,
    FetchPhase.COMMITTED: Phase.DOWNLOADED,
    FetchPhase.RETRYING: Phase.RETRYING,
}
_READY: Final = frozenset({FetchPhase.COMMITTED, FetchPhase.EXISTED})

Report = Callable[[Progress], Awaitable[None]]


class Transferring(HasImages, HasLayers, HasEvents, Protocol):
    """What images are brought to, and those who are told."""


class Completing(HasImages, HasDiffer, Protocol):
    """What images are made of, and what makes blobs of layers."""


class Pushing(Completing, HasEvents, Protocol):
    """What images are pushed from, and those who are told."""


async def pull(
    services: Transferring, reference: str, platform: str, credentials: Credentials | None
) -> AsyncGenerator[Progress, None]:
    """See ``Engine.pull``."""

    async def work(report: Report) -> None:
        # An image without an index is taken for whatever it is for, unless somebody wants another one.
        wanted = wanted_platform(platform) if platform else None
        await _Pull(services, report, wanted).run(reference, credentials)

    async with aclosing(watched(work)) as events:
        async for event in events:
            yield event


class _Pull:
    """One pull: what is known of it so far, and its layers being unpacked while others still download."""

    def __init__(self, services: Transferring, report: Report, platform: Platform | None) -> None:
        self._services = services
        self._report = report
        self._platform = platform
        self._unpacking = Unpacking(services.layers, report)
        self._resolved: FetchResolved | None = None
        self._started: set[str] = set()

    async def run(self, reference: str, credentials: Credentials | None) -> None:
        async with AsyncExitStack() as stack:
            try:
                resolved = await self._fetch(reference, credentials, stack)
                await self._unpacking.stack(resolved.layers)
                name = str(resolved.reference)
                made = await self._services.images.create(name, resolved.target, resolved.lease, self._platform)
                await publish.moved(self._services.events, "pull", name, made.image.config.labels)
                await self._report(Done(made.image, resolved.target.digest, made.existed))
            except BaseException as error:
                if self._resolved is not None:
                    await _release(self._services.images, self._resolved.lease, abandon=_goes_on_later(error))
                raise

    async def _fetch(self, reference: str, credentials: Credentials | None, stack: AsyncExitStack) -> FetchResolved:
        images = self._services.images
        async with (
            aclosing(images.fetch(reference, self._platform, credentials)) as steps,
            asyncio.TaskGroup() as tasks,
        ):
            async for step in steps:
                await self._step(step, tasks)
                if isinstance(step, FetchResolved):
                    await stack.enter_async_context(images.kept(step.lease))
        if self._resolved is None:
            raise UnavailableError("imaged has ended the fetch early")
        return self._resolved

    async def _step(self, step: FetchProgress, tasks: asyncio.TaskGroup) -> None:
        if isinstance(step, FetchResolved):
            self._resolved = step
            digests = tuple(layer.descriptor.digest for layer in step.layers)
            await self._report(Resolved(str(step.reference), step.target.digest, digests))
        elif isinstance(step, FetchStep):
            if step.phase in _PHASES:
                await self._report(LayerProgress(step.digest, _PHASES[step.phase], step.offset, step.total))
            if step.phase in _READY and self._resolved is not None:
                for layer in self._resolved.layers:
                    if layer.descriptor.digest == step.digest and layer.diff_id not in self._started:
                        self._started.add(layer.diff_id)
                        tasks.create_task(self._unpacking.apply(layer), name=f"apply {layer.diff_id}")


async def _release(images: Images, lease: str, *, abandon: bool) -> None:
    """Give back what a failed fetch held, or leave it to the next one, even while being cancelled."""
    try:
        async with asyncio.timeout(_RELEASE_S):
            await images.release(lease, abandon=abandon)  # imaged may be what was killed
    except (SampanError, TimeoutError):
        return


def check_push(reference: Reference) -> None:
    """Refuse a digest, by which the builder alone pushes. Raises InvalidArgumentError, in Docker's words."""
    if reference.digest is not None:
        raise InvalidArgumentError("cannot push a digest reference")


async def push(
    services: Pushing, reference: str, platform: str, credentials: Credentials | None
) -> AsyncGenerator[PushProgress, None]:
    """See ``Engine.push``."""
    check_push(parse_reference(reference))
    wanted = wanted_platform(platform) if platform else None
    await complete_named(services, [str(parse_reference(reference).with_default_tag())])
    pushed = False
    async with aclosing(services.images.push(reference, credentials, wanted)) as steps:
        async for step in steps:
            pushed = pushed or isinstance(step, Pushed)
            yield step
    if pushed:
        name = parse_reference(reference).with_default_tag().familiar
        known = await publish.known_labels(services.images, name)
        await publish.moved(services.events, "push", reference, next(iter(known.values()), {}))


async def complete(services: Completing, image: ImageDetails) -> None:
    """Give an image the blobs that it lacks; it has no deferred layer then. Safe to repeat.

    The snapshotter packs the layers, and compares each tar with its diff ID; imaged gives the image a manifest that
    names the blobs. A kill in between leaves a lease that ends by itself, and an image that is as it was.

    Raises:
        NotFoundError: it was removed meanwhile, or the snapshotter has lost a layer.
        DataLossError: a stored layer is not what it was.
        ResourceExhaustedError: the disk is full.
    """
    if not image.deferred:
        return
    deferred = tuple(dict.fromkeys(image.deferred))
    known = await services.images.forms(deferred)
    try:
        await _complete(services, image, deferred, known)
    except NotFoundError:
        if not known:
            raise
        await _complete(services, image, deferred, ())  # a blob went with the image that had it


async def _complete(
    services: Completing, image: ImageDetails, deferred: Collection[Digest], known: Sequence[Layer]
) -> None:
    forms = {layer.diff_id: layer for layer in known}
    async with services.images.kept() as lease:
        for diff_id in deferred:
            if diff_id not in forms:
                forms[diff_id] = Layer(await services.differ.pack(diff_id, lease), diff_id)
        await services.images.complete(image.id, tuple(forms.values()), lease)


async def complete_named(services: Completing, names: Iterable[str]) -> Sequence[ImageDetails]:
    """Complete the images that names or IDs stand for, a repository's for all its tags; one that is not there is none.

    Return them, each once.

    Raises as ``complete``.
    """
    found = {image.id: image for name in names for image in await _named(services.images, name)}
    for image in found.values():
        await complete(services, image)
    return list(found.values())


async def _named(images: Images, name: str) -> Sequence[ImageDetails]:
    found = []
    with suppress(NotFoundError, InvalidArgumentError):
        found.append(await images.get(name))
    with suppress(InvalidArgumentError):
        reference = parse_reference(name)
        if reference.is_name_only:
            found += [
                image
                for image in await images.list(brief=True)
                if any(parse_reference(tag).name == reference.name for tag in image.repo_tags)
            ]
    return list({image.id: image for image in found}.values())


async def local_tags(images: ImageLookup, repository: Reference) -> list[Reference]:
    """Return the tags of a repository that are here, for a push of all of them.

    Raises:
        NotFoundError: there are none.
    """
    tags = [parse_reference(text) for image in await images.list(brief=True) for text in image.repo_tags]
    found = sorted((each for each in tags if each.name == repository.name), key=str)
    if not found:
        raise NotFoundError(f"An image does not exist locally with the tag: {repository.familiar_name}")
    return found


class Unpacking:
    """Layers on their way into the snapshotter."""

    def __init__(self, layers: Layers, report: Report) -> None:
        self._layers = layers
        self._report = report
        self._turns = asyncio.Semaphore(_APPLIED_AT_ONCE)

    async def apply(self, layer: Layer) -> None:
        """Have one layer unpacked, and report how it goes."""
        async with self._turns:
            await self._apply(layer)

    async def _apply(self, layer: Layer) -> None:
        digest, total = layer.descriptor.digest, layer.descriptor.size
        existed = False
        async with aclosing(self._layers.apply(layer.descriptor, layer.diff_id)) as steps:
            async for step in steps:
                existed = step.existed
                if not step.existed:
                    await self._report(LayerProgress(digest, Phase.EXTRACTING, step.read_bytes, total))
        await self._report(LayerProgress(digest, Phase.EXISTS if existed else Phase.COMPLETE, total, total))

    async def stack(self, layers: Iterable[Layer]) -> None:
        """Make the committed snapshots; all layers have been applied."""
        await self._layers.stack([layer.diff_id for layer in layers])


def _goes_on_later(error: BaseException) -> bool:
    """Say whether the next pull may go on: the client left, the registry's line broke, or a service went away.

    imaged keeps what such a fetch brought, for a while. What was refused is given back.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(_goes_on_later(one) for one in error.exceptions)
    return isinstance(error, asyncio.CancelledError | RemoteError | UnavailableError)


async def watched(work: Callable[[Report], Awaitable[None]]) -> AsyncGenerator[Progress, None]:
    """Run ``work`` and yield what it reports; closing the iterator cancels it and waits until it has cleaned up."""
    events: asyncio.Queue[Progress | None] = asyncio.Queue(_BACKLOG)

    async def run() -> None:
        try:
            await work(events.put)
        finally:
            # A full queue means that somebody is still reading; a closed iterator reads nothing any more.
            if not events.full():
                events.put_nowait(None)

    task = asyncio.create_task(run(), name="image")
    try:
        while True:
            get = asyncio.create_task(events.get(), name="next event")
            await asyncio.wait({get, task}, return_when=asyncio.FIRST_COMPLETED)
            if not get.done():
                get.cancel()
                break
            event = get.result()
            if event is None:
                break
            yield event
        await _outcome(task)
        while not events.empty():
            if (event := events.get_nowait()) is not None:
                yield event
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _outcome(task: "asyncio.Task[None]") -> None:
    """Raise what the work raised: of several failures at once, the first that is not just a consequence."""
    try:
        await task
    except BaseExceptionGroup as group:
        expected = group.subgroup(SampanError)
        raise _first(expected if expected is not None else group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaves = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, DataLossError)), leaves[0])


def wanted_platform(text: str) -> Platform:
    """Return the platform that a user names, this host's if none. Raises InvalidArgumentError."""
    return parse_platform(text) if text else host_platform()
