"""The engine as its clients see it: its services, and the sequences that need several of them.

Each sequence is imported when it is asked for: a command line needs one of them. None of them knows this
facade. It holds no state: everything it knows is in the services, and any number of engines may be connected at once.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sampan.client.services import Services

if TYPE_CHECKING:
    from sampan.build.filters import PruneLimits
    from sampan.disk import Collected, StoredObject
    from sampan.docker.views.info_view import EngineFacts
    from sampan.engine.check import Logins
    from sampan.engine.check import Options as CheckOptions
    from sampan.engine.check import Step as CheckStep
    from sampan.engine.commit import CommitOptions
    from sampan.engine.df import CacheUse, DiskUse
    from sampan.engine.garbage import PrunedCache, PrunedImages
    from sampan.engine.progress import Progress
    from sampan.engine.remove import Step
    from sampan.engine.transfer import Results
    from sampan.resource.container import Change, ContainerDetails, Created
    from sampan.resource.container_spec import ContainerSpec
    from sampan.resource.image import Credentials
    from sampan.resource.listing import Filters, Selection
    from sampan.resource.transfer import PushProgress


class Engine(Services):
    """One engine: its services, and what takes several of them."""

    def pull(
        self, reference: str, *, platform: str = "", credentials: "Credentials | None" = None
    ) -> "AsyncGenerator[Progress, None]":
        """Pull an image and unpack it; the last event is ``Done``.

        The name appears, or moves, only when everything is there and verified. Closing the iterator (use
        ``contextlib.aclosing``) cancels the pull; a pull that fails or is cancelled leaves nothing.

        Raises:
            InvalidArgumentError: a bad reference or platform.
            NotFoundError: in Docker's words, no such repository, tag or platform.
            UnauthenticatedError, PermissionDeniedError: the registry refuses the credentials.
            UnavailableError: the registry does not answer.
            DataLossError: a blob or a layer is not what its digest says; the message names it.
            ResourceExhaustedError: the disk is full.
        """
        from sampan.engine import transfer

        return transfer.pull(self, reference, platform, credentials)

    async def remote_tags(self, repository: str, *, credentials: "Credentials | None" = None) -> tuple[str, ...]:
        """Return the tags that a repository has at its registry. Raises as ``pull``."""
        return tuple(await self.images.tags(repository, credentials))

    def import_image(
        self,
        chunks: AsyncIterator[bytes],
        *,
        reference: str = "",
        message: str = "",
        changes: tuple[str, ...] = (),
        platform: str = "",
    ) -> "AsyncGenerator[Progress, None]":
        """Make an image from the tar of a root file system; the last event is ``Done``.

        Raises:
            InvalidArgumentError: a bad reference, a bad Dockerfile instruction in ``changes``, or not a tar.
            ResourceExhaustedError: the disk is full.
        """
        from sampan.engine import archives

        return archives.import_image(self, chunks, reference, message, changes, platform)

    def push(
        self, reference: str, *, platform: str = "", credentials: "Credentials | None" = None
    ) -> "AsyncGenerator[PushProgress, None]":
        """Push an image to its registry; the last step is ``Pushed``. Closing the iterator cancels the push.

        An index goes whole if all of it is here, or ``platform``'s manifest alone.

        Raises:
            InvalidArgumentError: a bad reference or platform.
            NotFoundError: ``An image does not exist locally with the tag: …``, or it has nothing for the platform.
            UnauthenticatedError, PermissionDeniedError: the registry says no, in its own words.
            RemoteError: the registry does not answer, or does not take it.
            DataLossError: content is damaged, or the registry says that it got something else.
        """
        from sampan.engine import transfer

        return transfer.push(self, reference, platform, credentials)

    async def search_images(
        self,
        term: str,
        *,
        limit: int = 0,
        filters: Mapping[str, Sequence[str]] | None = None,
        credentials: "Credentials | None" = None,
    ) -> "Results":
        """Return what the registry before the first slash of ``term`` finds; ``limit`` 0 means 25 of them.

        Raises:
            InvalidArgumentError: in Docker's words, a limit, a filter or a term that cannot be.
            RemoteError: ``Unexpected status code 404``, which is to say that the registry offers no search.
        """
        from sampan.engine import transfer

        return await transfer.search(self.images, term, limit, filters or {}, credentials)

    def save_images(self, images: Iterable[str], *, platforms: Sequence[str] = ()) -> AsyncGenerator[bytes, None]:
        """Yield an archive, docker-archive and OCI layout at once, of images by name or ID, in pieces.

        Of an index that is all that is here, or one platform's manifest alone, or the index with several platforms'.

        Raises:
            NotFoundError: ``No such image: …``, or it has nothing for one of the platforms; before the first piece.
            DataLossError: a blob is damaged; what has been yielded is not a whole archive then.
        """
        from sampan.engine import archives

        return archives.save(self, images, platforms)

    def load_images(
        self, chunks: AsyncIterator[bytes], *, platforms: Sequence[str] = ()
    ) -> "AsyncGenerator[Progress, None]":
        """Load the images of an archive, plain or packed; each ends in a ``Loaded``.

        Nothing gets a name before all of them are there. A load that fails or is cancelled leaves nothing.

        Raises:
            InvalidArgumentError: not an archive of images, or one that is damaged; the message names the culprit.
            DataLossError: content is not what its name or its image says.
            ResourceExhaustedError: the disk is full.
        """
        from sampan.engine import archives

        return archives.load(self, chunks, platforms)

    async def commit_container(self, container: str, options: "CommitOptions") -> str:
        """Make an image of what a container has changed; return its ID.

        Raises:
            NotFoundError: no such container, or its image is gone.
            InvalidArgumentError: a bad reference, or a bad Dockerfile instruction.
            ResourceExhaustedError: the disk is full.
        """
        from sampan.engine import commit

        return await commit.commit(self, container, options)

    def export_container(self, container: str) -> AsyncGenerator[bytes, None]:
        """Yield a container's file system, without its volumes, as a tar, in pieces. NotFoundError."""
        from sampan.engine import archives

        return archives.export(self, container)

    async def create_container(self, spec: "ContainerSpec", *, platform: str = "") -> "Created":
        """Create a container from an image that is here; return its ID and warnings.

        Whatever ``spec`` leaves open is filled in from the image's config, as Docker does.

        Raises:
            NotFoundError: ``No such image: …``, or an unknown network.
            InvalidArgumentError: something in ``spec`` is not possible.
            ConflictError, AlreadyExistsError: the name is in use.
        """
        from sampan.engine import create

        return await create.create_container(self, spec, platform)

    def select_containers(
        self, selection: "Selection", filters: "Filters", *, size: bool = False
    ) -> "AsyncGenerator[Sequence[ContainerDetails], None]":
        """Yield the containers that are asked for, some at a time, newest first, as Docker chooses them.

        Raises:
            InvalidArgumentError: an unknown filter, or a bad value.
        """
        from sampan.engine import listing

        return listing.select_containers(self, selection, filters, size=size)

    async def tag_image(self, image: str, reference: str) -> None:
        """Add a name to an image. NotFoundError, InvalidArgumentError."""
        from sampan.engine import remove

        await remove.tag_image(self, image, reference)

    async def remove_image(
        self, image: str, *, force: bool = False, no_prune: bool = False, platforms: Sequence[str] = ()
    ) -> "tuple[Step, ...]":
        """Remove a name, and the image and its layers with its last one; return what was untagged and deleted.

        With ``platforms``, ``os/architecture[/variant]`` each, those of an index go and the others stay.

        Raises:
            NotFoundError: ``No such image: …``.
            ConflictError: in Docker's words, a container uses it, or it has several names.
        """
        from sampan.engine import remove

        return (await remove.remove(self, image, force=force, no_prune=no_prune, platforms=platforms)).steps

    async def read_until(self, filters: Mapping[str, Sequence[str]]) -> int | None:
        """Return the moment that ``until`` names by the engine's clock and zone, in nanoseconds; None: it is not given.

        Raises:
            InvalidArgumentError: it is no moment, or there are several.
            UnavailableError: runtimed does not answer.
        """
        from sampan.engine import image_filters

        return await image_filters.read_until(self, filters)

    async def prune_images(self, filters: Mapping[str, Sequence[str]]) -> "PrunedImages":
        """Remove images that nothing uses: untagged ones, or with ``dangling=false`` all of them; then run a pass.

        Raises:
            InvalidArgumentError: an unknown filter (there are ``dangling``, ``label``, ``label!`` and ``until``), or a
                bad value.
        """
        from sampan.engine import garbage

        return await garbage.prune_images(self, filters)

    async def collect_garbage(self, *, leftovers: bool = False) -> "Collected":
        """Remove what nothing needs, content and layers; ``leftovers``: and what broken pulls left for the next try.

        Raises:
            UnavailableError: a service does not answer.
        """
        from sampan.engine import garbage

        return await garbage.collect(self, leftovers=leftovers)

    async def prune_build_cache(
        self, filters: Mapping[str, Sequence[str]], limits: "PruneLimits", *, dates: bool = False
    ) -> "PrunedCache":
        """Remove records of the build cache, and without filters what broken pulls left; tell whoever listens.

        With ``dates``, ``until`` is a moment as for images, and not only a duration.

        Raises:
            InvalidArgumentError: a filter that cannot be.
            UnavailableError: a service does not answer.
        """
        from sampan.engine import garbage

        return await garbage.prune_build_cache(self, filters, limits, dates=dates)

    async def facts(self) -> "EngineFacts":
        """Return what the services say about themselves, for ``info``."""
        from sampan.engine import df

        return await df.engine_facts(self, self.runtime.host, self.layout)

    async def container_changes(self, container: str) -> "list[Change]":
        """Return what a container, an ID or a name, has changed, by path. NotFoundError."""
        from sampan.engine import commit

        return await commit.container_changes(self, container)

    async def disk_use(self, *, images: bool = True, containers: bool = True, volumes: bool = True) -> "DiskUse":
        """Return how much disk is used by what, as far as it is asked for. Containers and volumes take a walk."""
        from sampan.engine import df

        return await df.disk_use(self, images=images, containers=containers, volumes=volumes)

    async def cache_use(self) -> "CacheUse":
        """Return the build cache's records; if the builder does not answer, what to say instead."""
        from sampan.engine import df

        return await df.cache_use(self)

    async def stored_content(self) -> "tuple[StoredObject, ...]":
        """Return all that the content store has on disk, and who holds each of it."""
        from sampan.engine import df

        return await df.stored_content(self.content_disk)

    async def explain_disk(self) -> "tuple[StoredObject, ...]":
        """Return all that the stores of content and layers have on disk, and who holds each of it."""
        from sampan.engine import df

        return await df.explain(self)

    def check(self, options: "CheckOptions", logins: "Logins") -> "AsyncGenerator[CheckStep, None]":
        """Compare what the services keep with what it should be, and with ``options.repair`` make it good.

        ``logins`` finds credentials for what has to be fetched again.

        Raises:
            UnavailableError: a service does not answer.
        """
        from sampan.engine import check

        return check.check(self, options, logins)
