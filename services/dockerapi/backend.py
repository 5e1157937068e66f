"""What the handlers work with: of the engine's sequences those that they ask for, and no more, room by room."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dockerapi.build.underway import Underway
from dockerapi.container.rows import ContainerRows
from dockerapi.http.connection import Entrance
from dockerapi.http.hangup import HangupWatch
from dockerapi.image.rows import ImageRows
from dockerapi.metrics import ApiMetrics
from dockerapi.rights.peer import Peer
from sampan.build.filters import PruneLimits
from sampan.build.protocols import Builder
from sampan.docker.views.info_view import EngineFacts
from sampan.engine.commit import CommitOptions
from sampan.engine.df import CacheUse, DiskUse
from sampan.engine.following import FollowedContainers, FollowedEvents
from sampan.engine.garbage import PrunedCache, PrunedImages
from sampan.engine.parts import ContainerLookup, ImageLookup, LayerFacts
from sampan.engine.progress import Progress
from sampan.engine.remove import Step
from sampan.engine.transfer import Results
from sampan.json_types import JsonObject
from sampan.resource.container import Change, ContainerDetails, Created, PathStat
from sampan.resource.container_spec import ConsoleSize, ContainerSpec, Endpoint, Resources, RestartPolicy
from sampan.resource.exec import Exec, ExecSpec
from sampan.resource.image import Credentials, RemoteImage
from sampan.resource.listing import NO_FILTERS, Filters, Pruned, Selection
from sampan.resource.network import Network, NetworkRequest
from sampan.resource.stats import HostInfo, Top
from sampan.resource.streams import Accepted, AttachOptions, ExecStart, Input, OpenBody, Outlet, Output
from sampan.resource.transfer import PushProgress
from sampan.resource.volume import Volume, VolumeRequest


class ContainerControl(ContainerLookup, Protocol):
    """What handlers ask of one container; ``resource.protocols.Containers`` says what each promises."""

    async def stop(self, container: str, timeout_s: float | None = None, signal: str = "") -> None:
        """Signal, wait, kill."""

    async def restart(self, container: str, timeout_s: float | None = None, signal: str = "") -> None:
        """Stop it if it runs, and start it."""

    async def kill(self, container: str, signal: str = "") -> None:
        """Send a signal."""

    async def pause(self, container: str) -> None:
        """Freeze it."""

    async def unpause(self, container: str) -> None:
        """Thaw it."""

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it."""

    async def unlink(self, container: str, alias: str) -> None:
        """Take a legacy link from it."""

    async def rename(self, container: str, name: str) -> None:
        """Give it another name."""

    async def update(
        self, container: str, resources: Resources | None = None, restart_policy: RestartPolicy | None = None
    ) -> tuple[str, ...]:
        """Change limits and the restart policy; return warnings."""

    def attach(self, container: str, options: AttachOptions, input: Input) -> AsyncGenerator[Output, None]:
        """Connect a client with its streams."""

    async def resize(self, container: str, size: ConsoleSize) -> None:
        """Set its terminal's size."""

    async def top(self, container: str, ps_args: str = "") -> Top:
        """Return its processes."""

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        """Remove all that do not run."""


class FileBackend(Protocol):
    """What handlers ask for of containers' files; ``resource.protocols.Archives`` says what each promises."""

    @property
    def takes_descriptors(self) -> bool:
        """Whether ``OpenBody`` and ``Outlet`` can be had."""

    async def stat(self, container: str, path: str) -> PathStat:
        """Return what a path is."""

    def read(self, container: str, path: str, to: Outlet | None = None) -> AsyncGenerator[PathStat | bytes, None]:
        """Yield what a path is, and then its tar, or have that sent ``to`` somewhere."""

    async def write(
        self, container: str, path: str, chunks: AsyncIterator[bytes] | OpenBody, *, keep_kinds: bool = False
    ) -> None:
        """Unpack a tar into a directory."""


class ExecBackend(Protocol):
    """What handlers of execs ask for; ``resource.protocols.Execs`` says what each promises."""

    async def create(self, container: str, spec: ExecSpec) -> str:
        """Record a process to run."""

    async def get(self, id: str) -> Exec:
        """Return one."""

    def start(self, id: str, options: ExecStart, input: Input) -> AsyncGenerator[Accepted | Output, None]:
        """Run it."""

    async def resize(self, id: str, size: ConsoleSize) -> None:
        """Set its terminal's size."""


class NetworkBackend(Protocol):
    """What handlers of networks ask for; ``resource.protocols.Networks`` says what each promises."""

    async def create(self, request: NetworkRequest) -> str:
        """Make a network."""

    async def get(self, network: str) -> Network:
        """Return one."""

    def pages(self, filters: Filters = NO_FILTERS) -> AsyncGenerator[Sequence[Network], None]:
        """Yield those that match."""

    async def remove(self, network: str) -> None:
        """Remove it."""

    async def connect(self, network: str, container: str, endpoint: Endpoint) -> None:
        """Connect a container."""

    async def disconnect(self, network: str, container: str, *, force: bool = False) -> None:
        """Disconnect a container."""

    async def prune(self, filters: Filters = NO_FILTERS) -> tuple[str, ...]:
        """Remove every network that no container is on."""


class VolumeBackend(Protocol):
    """What handlers of volumes ask for; ``resource.protocols.Volumes`` says what each promises."""

    async def create(self, request: VolumeRequest) -> Volume:
        """Make a volume."""

    async def get(self, name: str) -> Volume:
        """Return one."""

    def pages(self, filters: Filters = NO_FILTERS) -> AsyncGenerator[Sequence[Volume], None]:
        """Yield those that match."""

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove it."""

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        """Remove what no container uses."""


class HostBackend(Protocol):
    """What handlers ask of the machine."""

    async def info(self) -> HostInfo:
        """Say what there is."""


class HandledContainers(ContainerControl, FollowedContainers, Protocol):
    """Containers, whoever asks for them."""


class RuntimeBackend(Protocol):
    """The service of containers, networks and volumes, as the rooms of handlers share it out among them."""

    @property
    def containers(self) -> HandledContainers:
        """Containers."""

    @property
    def archives(self) -> FileBackend:
        """Their files."""

    @property
    def execs(self) -> ExecBackend:
        """Further processes in them."""

    @property
    def events(self) -> FollowedEvents:
        """What happened."""

    @property
    def networks(self) -> NetworkBackend:
        """Networks."""

    @property
    def volumes(self) -> VolumeBackend:
        """Volumes."""

    @property
    def host(self) -> HostBackend:
        """What the host can do."""

    @property
    def reconnected(self) -> Callable[[], Awaitable[None]]:
        """Returns when the service is back; UnavailableError if it does not come back."""


class ImagesAndRegistries(ImageLookup, Protocol):
    """Images, and what registries say; parts of ``resource.storage.images.Images``."""

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

    def save_images(self, images: Iterable[str], *, platforms: Sequence[str] = ()) -> AsyncGenerator[bytes, None]:
        """Yield an archive of images."""

    def load_images(
        self, chunks: AsyncIterator[bytes], *, platforms: Sequence[str] = ()
    ) -> AsyncGenerator[Progress, None]:
        """Load an archive of images."""

    def export_container(self, container: str) -> AsyncGenerator[bytes, None]:
        """Yield an archive of a container's files."""

    async def commit_container(self, container: str, options: CommitOptions) -> str:
        """Make an image of what a container has changed."""

    async def tag_image(self, image: str, reference: str) -> None:
        """Add a name."""

    async def remove_image(
        self, image: str, *, force: bool = False, no_prune: bool = False, platforms: Sequence[str] = ()
    ) -> tuple[Step, ...]:
        """Remove a name or an image."""

    async def read_until(self, filters: Mapping[str, Sequence[str]]) -> int | None:
        """Return the moment that ``until`` names."""

    async def prune_images(self, filters: Mapping[str, Sequence[str]]) -> PrunedImages:
        """Remove images that nothing uses."""


class ContainerBackend(Protocol):
    """What handlers of containers ask for that takes several services; ``engine.Engine`` says what each promises."""

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

    async def cache_use(self) -> CacheUse:
        """Return the build cache's records, or why they are missing."""

    async def prune_build_cache(self, filters: Mapping[str, Sequence[str]], limits: PruneLimits) -> PrunedCache:
        """Remove records of the build cache, and what broken pulls left."""


class EngineBackend(ImageBackend, ContainerBackend, SystemBackend, Protocol):
    """All of it, which is a part of ``engine.Engine``."""

    @property
    def images(self) -> ImagesAndRegistries:
        """Images."""


class ByteStream(Protocol):
    """A connection that was taken over."""

    async def read(self) -> bytes:
        """Return the next bytes; none at the end."""

    async def write(self, data: bytes) -> None:
        """Send, as fast as the client takes it."""

    async def close(self) -> None:
        """Close it; safe to repeat."""


class GrpcGate(Protocol):
    """By which gRPC comes in from elsewhere."""

    @property
    def watches(self) -> bool:
        """Whether calls are written down, or plugins are asked about them."""

    def check(self, service: str) -> None:
        """Raise NotFoundError if there is no such service."""

    async def carry(self, service: str, stream: ByteStream, who: Peer, entrance: Entrance) -> None:
        """Answer what comes on ``stream``, which is HTTP/2, with what ``service`` says. Returns when it has ended."""

    def engine(self) -> JsonObject:
        """Say what the engine's directories tell of it, as ``sampan.service.elsewhere`` has it; blocks."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The services, and what belongs to this process."""

    engine: EngineBackend
    runtime: RuntimeBackend
    metrics: ApiMetrics
    hangups: HangupWatch
    builder: Builder
    underway: Underway
    gate: GrpcGate
    shown_owner: str = ""  # whose containers lists and events are of, as ``Selection.owner`` says
    rows: ContainerRows = field(default_factory=ContainerRows)
    image_rows: ImageRows = field(default_factory=ImageRows)
