"""What the commands work with: of the engine what they ask for, and no more, a protocol for each group of commands.

``app.session`` connects an engine, and alone knows who it is. Nothing of this is imported when a command runs.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from sampan.build.filters import PruneLimits
from sampan.build.protocols import Builder
from sampan.disk import Collected, StoredObject
from sampan.docker.views.info_view import EngineFacts
from sampan.engine.check import Logins, Options
from sampan.engine.check import Step as CheckStep
from sampan.engine.commit import CommitOptions
from sampan.engine.df import CacheUse, DiskUse
from sampan.engine.following import FollowedContainers, FollowedEvents
from sampan.engine.garbage import PrunedCache, PrunedImages
from sampan.engine.parts import ContainerLookup, ImageLookup, LayerFacts
from sampan.engine.progress import Progress
from sampan.engine.remove import Step
from sampan.engine.transfer import Results
from sampan.layout import Layout
from sampan.resource.container import Change, ContainerDetails, Created, PathStat
from sampan.resource.container_spec import ConsoleSize, ContainerSpec, Endpoint, Resources, RestartPolicy
from sampan.resource.exec import Exec, ExecSpec
from sampan.resource.image import Credentials
from sampan.resource.listing import NO_FILTERS, RUNNING_ONES, Filters, Pruned, Selection
from sampan.resource.network import Network, NetworkRequest
from sampan.resource.stats import HostInfo, Top
from sampan.resource.streams import Accepted, AttachOptions, ExecStart, Input, Output
from sampan.resource.transfer import PushProgress
from sampan.resource.volume import Volume, VolumeRequest
from sampan_cli.manifests.lists import RemoteManifests


class Containers(FollowedContainers, Protocol):
    """What commands ask of containers; ``resource.protocols.Containers`` says what each promises."""

    async def list(self, selection: Selection = RUNNING_ONES) -> Sequence[ContainerDetails]:
        """Return those asked for."""

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

    async def unlink(self, container: str, alias: str) -> None:
        """Take a legacy link from it."""

    async def rename(self, container: str, name: str) -> None:
        """Give it another name."""

    async def update(
        self, container: str, resources: Resources | None = None, restart_policy: RestartPolicy | None = None
    ) -> tuple[str, ...]:
        """Change limits and the restart policy; return warnings."""

    def attach(self, container: str, options: AttachOptions, input: Input) -> AsyncGenerator[Output, None]:
        """Connect this terminal with its streams."""

    async def resize(self, container: str, size: ConsoleSize) -> None:
        """Set its terminal's size."""

    async def top(self, container: str, ps_args: str = "") -> Top:
        """Return its processes."""

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        """Remove all that do not run."""


class Archives(Protocol):
    """What is asked of files in containers and volumes; ``resource.protocols.Archives`` says what each promises."""

    async def stat(self, container: str, path: str) -> PathStat:
        """Return what a path is."""

    def read(self, container: str, path: str) -> AsyncGenerator[PathStat | bytes, None]:
        """Yield what a path is, and then its tar."""

    async def write(self, container: str, path: str, chunks: AsyncIterator[bytes], *, keep_kinds: bool = False) -> None:
        """Unpack a tar into a directory."""

    def read_volume(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield all that is in a volume as a tar."""

    async def write_volume(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Unpack a tar into a volume."""


class Execs(Protocol):
    """What ``exec`` asks for; ``resource.protocols.Execs`` says what each promises."""

    async def create(self, container: str, spec: ExecSpec) -> str:
        """Record a process to run."""

    async def get(self, id: str) -> Exec:
        """Return one."""

    def start(self, id: str, options: ExecStart, input: Input) -> AsyncGenerator[Accepted | Output, None]:
        """Run it."""


class Networks(Protocol):
    """What commands ask of networks; ``resource.protocols.Networks`` says what each promises."""

    async def create(self, request: NetworkRequest) -> str:
        """Make one."""

    async def get(self, network: str) -> Network:
        """Return one."""

    async def list(self, filters: Filters = NO_FILTERS) -> Sequence[Network]:
        """Return those that match."""

    async def remove(self, network: str) -> None:
        """Remove one."""

    async def connect(self, network: str, container: str, endpoint: Endpoint) -> None:
        """Connect a container."""

    async def disconnect(self, network: str, container: str, *, force: bool = False) -> None:
        """Disconnect a container."""

    async def prune(self, filters: Filters = NO_FILTERS) -> tuple[str, ...]:
        """Remove every one that no container is on."""


class Volumes(Protocol):
    """What commands ask of volumes; ``resource.protocols.Volumes`` says what each promises."""

    async def create(self, request: VolumeRequest) -> Volume:
        """Make one."""

    async def get(self, name: str) -> Volume:
        """Return one."""

    async def list(self, filters: Filters = NO_FILTERS) -> Sequence[Volume]:
        """Return those that match."""

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove one."""

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        """Remove what no container uses."""


class Host(Protocol):
    """What ``version`` asks of the machine."""

    async def info(self) -> HostInfo:
        """Say what there is."""


class Registries(ImageLookup, RemoteManifests, Protocol):
    """Images, and who may pull them; parts of ``resource.storage.images.Images``."""

    async def login(self, registry: str, credentials: Credentials) -> str:
        """Have a registry check credentials."""


class ManifestBackend(Protocol):
    """What ``sampan manifest`` works with."""

    @property
    def images(self) -> RemoteManifests:
        """What reads and writes manifests at registries."""


class PullBackend(Protocol):
    """What pulls an image, for whichever command needs one."""

    @property
    def images(self) -> ImageLookup:
        """Images."""

    def pull(
        self, reference: str, *, platform: str = "", credentials: Credentials | None = None
    ) -> AsyncGenerator[Progress, None]:
        """Pull an image."""


class PushBackend(Protocol):
    """What pushes an image."""

    @property
    def images(self) -> ImageLookup:
        """Images."""

    def push(
        self, reference: str, *, platform: str = "", credentials: Credentials | None = None
    ) -> AsyncGenerator[PushProgress, None]:
        """Push an image to its registry."""


class ContainerBackend(PullBackend, Protocol):
    """What ``sampan container`` works with; ``engine.Engine`` says what each promises."""

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
    def events(self) -> FollowedEvents:
        """What happened to them."""

    @property
    def reconnected(self) -> Callable[[], Awaitable[None]]:
        """Returns when their service is back; UnavailableError if it does not come back."""

    @property
    def layers(self) -> LayerFacts:
        """What their files stand on."""

    async def create_container(self, spec: ContainerSpec, *, platform: str = "") -> Created:
        """Create a container of an image."""

    def select_containers(
        self, selection: Selection, filters: Filters, *, size: bool = False
    ) -> AsyncGenerator[Sequence[ContainerDetails], None]:
        """Yield the containers that are asked for."""

    async def container_changes(self, container: str) -> Sequence[Change]:
        """Return what a container has changed."""

    async def commit_container(self, container: str, options: CommitOptions) -> str:
        """Make an image of what a container has changed."""

    def export_container(self, container: str) -> AsyncGenerator[bytes, None]:
        """Yield an archive of a container's files."""


class ImageBackend(PullBackend, PushBackend, Protocol):
    """What ``sampan image`` works with; ``engine.Engine`` says what each promises."""

    @property
    def layers(self) -> LayerFacts:
        """The layers of images."""

    @property
    def containers(self) -> ContainerLookup:
        """Containers, of which some are made of images."""

    async def remote_tags(self, repository: str, *, credentials: Credentials | None = None) -> tuple[str, ...]:
        """Return the tags of a repository at its registry."""

    def import_image(
        self, chunks: AsyncIterator[bytes], *, reference: str = "", message: str = "", changes: tuple[str, ...] = (),
        platform: str = "",
    ) -> AsyncGenerator[Progress, None]:  # fmt: skip
        """Make an image of a root file system."""

    def save_images(self, images: Iterable[str], *, platforms: Sequence[str] = ()) -> AsyncGenerator[bytes, None]:
        """Yield an archive of images."""

    def load_images(
        self, chunks: AsyncIterator[bytes], *, platforms: Sequence[str] = ()
    ) -> AsyncGenerator[Progress, None]:
        """Load an archive of images."""

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


class NetworkBackend(Protocol):
    """What ``sampan network`` works with."""

    @property
    def networks(self) -> Networks:
        """Networks."""


class VolumeBackend(Protocol):
    """What ``sampan volume`` works with."""

    @property
    def volumes(self) -> Volumes:
        """Volumes."""


class VolumeContentBackend(VolumeBackend, Protocol):
    """What ``sampan volume export`` and ``import`` work with."""

    @property
    def archives(self) -> Archives:
        """What is in volumes."""


class BuilderBackend(Protocol):
    """What ``sampan build`` and ``sampan builder`` work with."""

    @property
    def builds(self) -> Builder:
        """What builds."""

    async def prune_build_cache(
        self, filters: Mapping[str, Sequence[str]], limits: PruneLimits, *, dates: bool = False
    ) -> PrunedCache:
        """Remove records of the build cache, and what broken pulls left."""


class RegistryBackend(Protocol):
    """What ``sampan login`` and ``sampan search`` work with; ``engine.Engine`` says what each promises."""

    @property
    def images(self) -> Registries:
        """What asks registries."""

    async def search_images(
        self, term: str, *, limit: int = 0, filters: Mapping[str, Sequence[str]] | None = None,
        credentials: Credentials | None = None,
    ) -> Results:  # fmt: skip
        """Search at a registry."""


class DiskBackend(Protocol):
    """What ``sampan system df`` and ``gc`` work with; ``engine.Engine`` says what each promises."""

    async def disk_use(self) -> DiskUse:
        """Return how much disk is used by what."""

    async def cache_use(self) -> CacheUse:
        """Return the build cache's records, or why they are missing."""

    async def stored_content(self) -> tuple[StoredObject, ...]:
        """Return all blobs, and who holds each."""

    async def explain_disk(self) -> tuple[StoredObject, ...]:
        """Return all that is on disk, and who holds each of it."""

    async def collect_garbage(self, *, leftovers: bool = False) -> Collected:
        """Remove what nothing needs."""


class CheckBackend(Protocol):
    """What ``sampan system check`` works with."""

    def check(self, options: Options, logins: Logins) -> AsyncGenerator[CheckStep, None]:
        """Compare what the services keep with what it should be."""


class FactsBackend(Protocol):
    """What ``sampan info`` and ``version`` work with."""

    @property
    def layout(self) -> Layout:
        """Where the engine is."""

    @property
    def host(self) -> Host:
        """The machine."""

    async def facts(self) -> EngineFacts:
        """Return what the services say about themselves."""


class ObjectsBackend(ContainerBackend, ImageBackend, NetworkBackend, VolumeBackend, Protocol):
    """What works on objects of any kind: ``sampan inspect``."""


class PruneBackend(ObjectsBackend, BuilderBackend, Protocol):
    """What ``sampan system prune`` works with."""


class ConnectedEngine(PruneBackend, RegistryBackend, DiskBackend, CheckBackend, FactsBackend, Protocol):
    """All of it, which is a part of ``engine.Engine``; a command takes the protocol of its group."""

    @property
    def images(self) -> Registries:
        """Images."""
