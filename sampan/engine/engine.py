"""The engine as its clients see it: the services' stubs, and the sequences that need several of them.

It holds no state: everything it knows is in the services, and any number of engines may be connected at once.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sampan.api.containerd.content.v1.content_pb2_grpc import ContentStub
from sampan.api.containerd.snapshots.v1.snapshots_pb2_grpc import SnapshotsStub
from sampan.api.image.v1 import images_pb2
from sampan.api.image.v1.images_pb2_grpc import ImagesStub
from sampan.api.runtime.v1 import spec_pb2
from sampan.api.runtime.v1.containers_pb2_grpc import ContainersStub
from sampan.api.runtime.v1.events_pb2_grpc import EventsStub
from sampan.api.runtime.v1.execs_pb2_grpc import ExecsStub
from sampan.api.runtime.v1.host_pb2_grpc import HostStub
from sampan.api.runtime.v1.networks_pb2_grpc import NetworksStub
from sampan.api.runtime.v1.volumes_pb2_grpc import VolumesStub
from sampan.api.snapshot.v1.layers_pb2_grpc import LayersStub
from sampan.engine import bring, create, remove
from sampan.engine.progress import Progress
from sampan.layout import Layout
from sampan.wire.channel import open_channel

if TYPE_CHECKING:  # the stubs' asynchronous types exist only for type checkers
    from sampan.api.containerd.content.v1.content_pb2_grpc import ContentAsyncStub
    from sampan.api.containerd.snapshots.v1.snapshots_pb2_grpc import SnapshotsAsyncStub
    from sampan.api.image.v1.images_pb2_grpc import ImagesAsyncStub
    from sampan.api.runtime.v1.containers_pb2_grpc import ContainersAsyncStub
    from sampan.api.runtime.v1.events_pb2_grpc import EventsAsyncStub
    from sampan.api.runtime.v1.execs_pb2_grpc import ExecsAsyncStub
    from sampan.api.runtime.v1.host_pb2_grpc import HostAsyncStub
    from sampan.api.runtime.v1.networks_pb2_grpc import NetworksAsyncStub
    from sampan.api.runtime.v1.volumes_pb2_grpc import VolumesAsyncStub
    from sampan.api.snapshot.v1.layers_pb2_grpc import LayersAsyncStub


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine's services. Calls on the stubs belong in ``with rpc_errors():``; the methods have done that."""

    layout: Layout
    images: "ImagesAsyncStub"
    content: "ContentAsyncStub"
    layers: "LayersAsyncStub"
    snapshots: "SnapshotsAsyncStub"
    containers: "ContainersAsyncStub"
    execs: "ExecsAsyncStub"
    events: "EventsAsyncStub"
    networks: "NetworksAsyncStub"
    volumes: "VolumesAsyncStub"
    host: "HostAsyncStub"

    @classmethod
    @asynccontextmanager
    async def connect(cls, layout: Layout, *, patient: bool = False) -> "AsyncIterator[Engine]":
        """Open channels to the services of ``layout``; see ``open_channel``. Nothing is sent before the first call."""
        async with AsyncExitStack() as stack:
            imaged, snapshotter, runtimed = [
                await stack.enter_async_context(open_channel(layout.socket(name), patient=patient))
                for name in ("imaged", "snapshotter", "runtimed")
            ]
            yield cls(
                layout=layout,
                images=ImagesStub(imaged),
                content=ContentStub(imaged),
                layers=LayersStub(snapshotter),
                snapshots=SnapshotsStub(snapshotter),
                containers=ContainersStub(runtimed),
                execs=ExecsStub(runtimed),
                events=EventsStub(runtimed),
                networks=NetworksStub(runtimed),
                volumes=VolumesStub(runtimed),
                host=HostStub(runtimed),
            )

    def pull(
        self, reference: str, *, platform: str = "", credentials: images_pb2.Credentials | None = None
    ) -> AsyncGenerator[Progress, None]:
        """Bring an image and unpack it; the last event is ``Done``.

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
        return bring.pull(self, reference, platform, credentials)

    def import_image(
        self,
        chunks: AsyncIterator[bytes],
        *,
        reference: str = "",
        message: str = "",
        changes: tuple[str, ...] = (),
        platform: str = "",
    ) -> AsyncGenerator[Progress, None]:
        """Make an image from the tar of a root file system; the last event is ``Done``.

        Raises:
            InvalidArgumentError: a bad reference, a bad Dockerfile instruction in ``changes``, or not a tar.
            ResourceExhaustedError: the disk is full.
        """
        return bring.import_image(self, chunks, reference, message, changes, platform)

    async def create_container(
        self, spec: spec_pb2.ContainerSpec, *, platform: str = ""
    ) -> tuple[str, tuple[str, ...]]:
        """Create a container from an image that is here; return its ID and warnings.

        Whatever ``spec`` leaves open is filled in from the image's config, as Docker does.

        Raises:
            NotFoundError: ``No such image: …``, or an unknown network.
            InvalidArgumentError: something in ``spec`` is not possible.
            ConflictError, AlreadyExistsError: the name is in use.
        """
        return await create.create_container(self, spec, platform)

    async def tag_image(self, image: str, reference: str) -> None:
        """Add a name to an image. NotFoundError, InvalidArgumentError."""
        await remove.tag_image(self, image, reference)

    async def remove_image(
        self, image: str, *, force: bool = False, no_prune: bool = False
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Remove a name, and the image with its last one; return what was untagged and what was deleted.

        Raises:
            NotFoundError: ``No such image: …``.
            ConflictError: in Docker's words, a container uses it, or it has several names.
        """
        return await remove.remove_image(self, image, force=force, no_prune=no_prune)

    async def prune_images(self, *, dangling: bool = True) -> tuple[tuple[str, ...], tuple[str, ...], int]:
        """Remove images that nothing uses: untagged ones, or all of them; return untagged, deleted, bytes reclaimed."""
        return await remove.prune_images(self, dangling=dangling)
