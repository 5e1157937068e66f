"""What the handlers work with: of the engine's sequences those that they ask for, and no more, room by room."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dockerapi.build.underway import Underway
from dockerapi.http.hangup import HangupWatch
from dockerapi.metrics import ApiMetrics
from sampan.build.protocols import Builder
from sampan.build.request import PruneOptions
from sampan.docker.info_view import EngineFacts
from sampan.engine.commit import CommitOptions
from sampan.engine.df import DiskUse
from sampan.engine.garbage import PrunedCache, PrunedImages
from sampan.engine.parts import ImageLookup, LayerFacts
from sampan.engine.progress import Progress
from sampan.engine.remove import Step
from sampan.engine.transfer import Results
from sampan.resource.container import Change, ContainerDetails, Created
from sampan.resource.container_spec import ContainerSpec
from sampan.resource.image import Credentials, RemoteImage
from sampan.resource.listing import Filters, Selection
from sampan.resource.protocols import Archives, Containers, Events, Execs, Host, Networks, Volumes
from sampan.resource.transfer import PushProgress


class RuntimeBackend(Protocol):
    """What handlers ask of the service of containers, networks and volumes."""

    @property
    def containers(self) -> Containers:
        """Containers."""

    @property
    def archives(self) -> Archives:
        """Their files."""

    @property
    def execs(self) -> Execs:
        """Further processes in them."""

    @property
    def events(self) -> Events:
        """What happened."""

    @property
    def networks(self) -> Networks:
        """Networks."""

    @property
    def volumes(self) -> Volumes:
        """Volumes."""

    @property
    def host(self) -> Host:
        """What the host can do."""

    @property
    def reconnected(self) -> Callable[[], Awaitable[None]]:
        """Returns when the service is back; UnavailableError if it does not come back."""


class ImagesAndRegistries(ImageLookup, Protocol):
    """Images, and what registries say; parts of ``resource.storage.Images``."""

    async def login(self, registry: str, credentials: Credentials) -> str:
        """Have a registry check credentials."""

    async def inspect(self, reference: str, credentials: Credentials | None = None) -> RemoteImage:
        """Ask a registry what a name points to."""


class ImageBackend(Protocol):
    """What handlers of images ask for; ``engine.Engine`` says what each promises."""

    @property
    def images(self) -> ImagesAndRegistries:
        """Images."""

    @property
    def layers(self) -> LayerFacts:
        """Their layers."""

    def pull(
        self, reference: str, *, platform: str = "", credentials: Credentials | None = None
    ) -> AsyncGenerator[Progress, None]:
        """Pull an image."""

    async def remote_tags(self, repository: str, *, credentials: Credentials | None = None) -> tuple[str, ...]:
        """Return the tags of a repository at its registry."""

    def import_image(
        self,
        chunks: AsyncIterator[bytes],
        *,
        reference: str = "",
        message: str = "",
        changes: tuple[str, ...] = (),
        platform: str = "",
    ) -> AsyncGenerator[Progress, None]:
        """Make an image of a root file system."""

    def push(
        self, reference: str, *, platform: str = "", credentials: Credentials | None = None
    ) -> AsyncGenerator[PushProgress, None]:
        """Push an image."""

    async def search_images(
        self,
        term: str,
        *,
        limit: int = 0,
        filters: Mapping[str, Sequence[str]] | None = None,
        credentials: Credentials | None = None,
    ) -> Results:
        """Search at a registry."""

    def save_images(self, images: Iterable[str], *, platform: str = "") -> AsyncGenerator[bytes, None]:
        """Yield an archive of images."""

    def load_images(self, chunks: AsyncIterator[bytes], *, platform: str = "") -> AsyncGenerator[Progress, None]:
        """Load an archive of images."""

    def export_container(self, container: str) -> AsyncGenerator[bytes, None]:
        """Yield an archive of a container's files."""

    async def commit_container(self, container: str, options: CommitOptions) -> str:
        """Make an image of what a container has changed."""

    async def tag_image(self, image: str, reference: str) -> None:
        """Add a name."""

    async def remove_image(
        self, image: str, *, force: bool = False, no_prune: bool = False, platform: str = ""
    ) -> tuple[Step, ...]:
        """Remove a name or an image."""

    async def prune_images(self, filters: Mapping[str, Sequence[str]]) -> PrunedImages:
        """Remove images that nothing uses."""


class ContainerBackend(Protocol):
    """What handlers of containers ask for beside runtimed; ``engine.Engine`` says what each promises."""

    @property
    def layers(self) -> LayerFacts:
        """What containers' files stand on."""

    async def create_container(self, spec: ContainerSpec, *, platform: str = "") -> Created:
        """Create a container of an image."""

    def select_containers(
        self, selection: Selection, filters: Filters, *, size: bool = False
    ) -> AsyncGenerator[Sequence[ContainerDetails], None]:
        """Yield the containers that are asked for."""

    async def container_changes(self, container: str) -> list[Change]:
        """Return what a container has changed."""


class SystemBackend(Protocol):
    """What handlers of the engine as a whole ask for; ``engine.Engine`` says what each promises."""

    @property
    def images(self) -> ImageLookup:
        """Images."""

    async def reach(self, deadline_s: float) -> None:
        """Return when all services can be called."""

    async def facts(self) -> EngineFacts:
        """Return what the services say about themselves."""

    async def disk_use(self, *, images: bool = True, containers: bool = True, volumes: bool = True) -> DiskUse:
        """Return how much disk is used by what."""

    async def prune_build_cache(self, options: PruneOptions, *, leftovers: bool = False) -> PrunedCache:
        """Remove records of the build cache, and what broken pulls left."""


class EngineBackend(ImageBackend, ContainerBackend, SystemBackend, Protocol):
    """All of it, which is a part of ``engine.Engine``."""

    @property
    def images(self) -> ImagesAndRegistries:
        """Images."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The services, and what belongs to this process."""

    engine: EngineBackend
    runtime: RuntimeBackend
    metrics: ApiMetrics
    hangups: HangupWatch
    builder: Builder
    underway: Underway
