"""Make an image of what a container has changed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from sampan.api.image.v1 import images_pb2
from sampan.api.runtime.v1 import containers_pb2
from sampan.api.snapshot.v1 import layers_pb2
from sampan.engine import publish
from sampan.engine.changes import MOUNT_POINTS
from sampan.engine.leases import kept
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, UnavailableError
from sampan.oci.reference import parse_reference
from sampan.wire.channel import rpc_errors

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """What whoever commits says."""

    reference: str = ""  # empty: no name
    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()  # Dockerfile instructions
    pause: bool = True  # while its files are read
    config: images_pb2.ImageConfig | None = None  # what is set in it replaces the container's


async def commit(engine: "Engine", container: str, options: CommitOptions) -> str:
    """See ``Engine.commit_container``."""
    if options.reference and parse_reference(options.reference).digest is not None:
        raise InvalidArgumentError("refusing to create a tag with a digest reference")
    with rpc_errors():
        found = await engine.containers.Get(containers_pb2.GetContainerRequest(container=container))
    if not found.spec.image_id:
        raise NotFoundError(f"container {found.spec.name} was not made from an image")
    if found.state.status in (containers_pb2.ContainerState.REMOVING, containers_pb2.ContainerState.DEAD):
        raise ConflictError(f"You cannot commit container {found.id} which is {_word(found)}")
    async with kept(engine) as lease:
        committed = await _commit(engine, found, options, lease)
        await _name(engine, committed, options.reference, found.spec.image_id)
    attributes = {"comment": options.message, "imageID": committed.image_id, "imageRef": options.reference}
    await publish.container(engine, "commit", found, **attributes)
    return committed.image_id


async def _commit(
    engine: "Engine", found: containers_pb2.Container, options: CommitOptions, lease: str
) -> images_pb2.ImportResponse:
    """Make the image; ``lease`` keeps its layer until it is held by one of the image's own."""
    diff = layers_pb2.DiffLayerRequest(key=found.id, exclude=MOUNT_POINTS, lease=lease)
    async with _held(engine, found.id, wanted=options.pause):
        with rpc_errors():
            made = await engine.layers.Diff(diff)
    layer = None if made.empty else images_pb2.LayerContent(descriptor=made.descriptor, diff_id=made.diff_id)
    request = images_pb2.CommitRequest(
        base=found.spec.image_id,
        layer=layer,
        config=_config(found, options.config),
        changes=options.changes,
        author=options.author,
        message=options.message,
        created_by=" ".join((*found.spec.process.entrypoint, *found.spec.process.cmd)),
        reference=options.reference,
    )
    with rpc_errors():
        return await engine.images.Commit(request)


async def _name(engine: "Engine", committed: images_pb2.ImportResponse, reference: str, parent: str) -> None:
    """Name the image, and have its new layer unpacked while nobody waits for it."""
    request = images_pb2.CreateRequest(
        reference=reference, target=committed.target, lease=committed.lease, parent=parent
    )
    async with kept(engine, committed.lease):
        with rpc_errors():
            await engine.images.Create(request)
    layers = [
        layers_pb2.ApplyLayerRequest(descriptor=layer.descriptor, diff_id=layer.diff_id) for layer in committed.layers
    ]
    with rpc_errors():
        await engine.layers.Unpack(layers_pb2.UnpackRequest(layers=layers))


@asynccontextmanager
async def _held(engine: "Engine", container: str, *, wanted: bool) -> AsyncIterator[None]:
    """Hold a running container still, so that its files belong together.

    The container's service does so for as long as this call is open: nobody has to live to let it go on.
    """
    if not wanted:
        yield
        return
    call = engine.containers.Hold()
    try:
        with rpc_errors():
            await call.write(containers_pb2.HoldContainerRequest(container=container))
            if await call.read() is grpc.aio.EOF:
                raise UnavailableError("runtimed has let the container go while it was committed")
        yield
        with rpc_errors():
            await call.done_writing()
            await call.read()  # raises how it ended
    finally:
        call.cancel()


def _config(container: containers_pb2.Container, replaced: images_pb2.ImageConfig | None) -> images_pb2.ImageConfig:
    """Return what containers of the new image run as: what this one does, unless it is replaced."""
    spec, process = container.spec, container.spec.process
    config = images_pb2.ImageConfig(
        user=process.user,
        env=process.env,
        entrypoint=process.entrypoint,
        cmd=process.cmd,
        working_dir=process.working_dir,
        labels=spec.labels,
        exposed_ports=spec.exposed_ports,
        volumes=spec.anonymous_volumes,
        stop_signal=spec.stop_signal,
    )
    if spec.HasField("health_check"):
        check = spec.health_check
        config.health_check.test.extend(check.test)
        config.health_check.retries = check.retries
        for name in ("interval", "timeout", "start_period", "start_interval"):
            if check.HasField(name):
                getattr(config.health_check, name).CopyFrom(getattr(check, name))
    for field, value in (replaced or images_pb2.ImageConfig()).ListFields():
        config.ClearField(field.name)  # type: ignore[arg-type]  # the names of its own fields
        config.MergeFrom(images_pb2.ImageConfig(**{field.name: value}))
    return config


def _word(container: containers_pb2.Container) -> str:
    return containers_pb2.ContainerState.Status.Name(container.state.status).title()
