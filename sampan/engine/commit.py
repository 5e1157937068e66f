"""Make an image of what a container has changed."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sampan.api.image.v1 import images_pb2
from sampan.api.snapshot.v1 import layers_pb2
from sampan.client.convert.codec import to_duration
from sampan.engine import publish
from sampan.engine.changes import MOUNT_POINTS
from sampan.engine.leases import kept
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from sampan.oci.reference import parse_reference
from sampan.resource.container import Container, Status
from sampan.wire.channel import rpc_errors

if TYPE_CHECKING:
    from sampan.engine.services import Services


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """What whoever commits says."""

    reference: str = ""  # empty: no name
    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()  # Dockerfile instructions
    pause: bool = True  # while its files are read
    config: images_pb2.ImageConfig | None = None  # what is set in it replaces the container's


async def commit(engine: "Services", container: str, options: CommitOptions) -> str:
    """See ``Engine.commit_container``."""
    if options.reference and parse_reference(options.reference).digest is not None:
        raise InvalidArgumentError("refusing to create a tag with a digest reference")
    found = await engine.runtime.containers.get(container)
    if not found.spec.image_id:
        raise NotFoundError(f"container {found.spec.name} was not made from an image")
    if found.state.status in (Status.REMOVING, Status.DEAD):
        raise ConflictError(f"You cannot commit container {found.id} which is {found.state.status.value.title()}")
    async with kept(engine) as lease:
        committed = await _commit(engine, found, options, lease)
        await _name(engine, committed, options.reference, found.spec.image_id)
    attributes = {"comment": options.message, "imageID": committed.image_id, "imageRef": options.reference}
    await publish.container(engine.runtime.events, "commit", found, **attributes)
    return committed.image_id


async def _commit(
    engine: "Services", found: Container, options: CommitOptions, lease: str
) -> images_pb2.ImportResponse:
    """Make the image; ``lease`` keeps its layer until it is held by one of the image's own."""
    diff = layers_pb2.DiffLayerRequest(key=found.id, exclude=MOUNT_POINTS, lease=lease)
    async with engine.runtime.containers.held(found.id) if options.pause else nullcontext():
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


async def _name(engine: "Services", committed: images_pb2.ImportResponse, reference: str, parent: str) -> None:
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


def _config(container: Container, replaced: images_pb2.ImageConfig | None) -> images_pb2.ImageConfig:
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
    if (check := spec.health_check) is not None:
        config.health_check.test.extend(check.test)
        config.health_check.retries = check.retries
        for name in ("interval", "timeout", "start_period", "start_interval"):
            if seconds := getattr(check, f"{name}_s"):
                getattr(config.health_check, name).CopyFrom(to_duration(seconds))
    for field, value in (replaced or images_pb2.ImageConfig()).ListFields():
        config.ClearField(field.name)  # type: ignore[arg-type]  # the names of its own fields
        config.MergeFrom(images_pb2.ImageConfig(**{field.name: value}))
    return config
