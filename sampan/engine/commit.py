"""What a container has changed in its file system, and an image of it."""

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from typing import Final, Protocol

from sampan.docker.durations import duration_ns
from sampan.engine import publish
from sampan.engine.parts import HasContainers, HasDiffer, HasEvents, HasImages, HasLayers
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from sampan.oci.image_config import HealthCheck, RunConfig
from sampan.oci.reference import parse_reference
from sampan.resource import container_spec
from sampan.resource.container import Change, ChangeKind, Container, Status
from sampan.resource.image import ImageCommit, ImageDetails, Imported, Layer

# Places that the engine makes for what it mounts into every container; they are no change of the user's.
MOUNT_POINTS: Final = (
    "/.dockerenv",
    "/dev/console",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",  # noqa: S108 - a name to compare with
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
)
_PARENTS: Final = frozenset({"/dev", "/etc"})  # of these: changed by them alone


class Changing(HasContainers, HasLayers, Protocol):
    """Containers, and what their files are kept in."""


async def container_changes(services: Changing, container: str) -> list[Change]:
    """Return what ``container``, an ID or a name, has changed, by path.

    Raises:
        NotFoundError: no such container.
    """
    found = await services.containers.get(container)
    changes = await services.layers.changes(found.id)
    return of_the_user(Change(f"/{one.path.decode(errors='replace')}", ChangeKind[one.kind.name]) for one in changes)


def of_the_user(found: Iterable[Change]) -> list[Change]:
    """Leave out the places that the engine makes for what it mounts; Docker has them in a layer of their own."""
    left = [one for one in found if one.path not in MOUNT_POINTS]
    paths = [one.path for one in left]
    return [one for one in left if one.path not in _PARENTS or any(path.startswith(f"{one.path}/") for path in paths)]


class Committing(Changing, HasImages, HasDiffer, HasEvents, Protocol):
    """What containers are read from, what images are made in, and those who are told."""


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """What whoever commits says."""

    reference: str = ""  # empty: no name
    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()  # Dockerfile instructions
    pause: bool = True  # while its files are read
    config: RunConfig | None = None  # what is set in it replaces the container's


async def commit(services: Committing, container: str, options: CommitOptions) -> str:
    """See ``Engine.commit_container``."""
    if options.reference and parse_reference(options.reference).digest is not None:
        raise InvalidArgumentError("refusing to create a tag with a digest reference")
    found = await services.containers.get(container)
    if not found.spec.image_id:
        raise NotFoundError(f"container {found.spec.name} was not made from an image")
    if found.state.status in (Status.REMOVING, Status.DEAD):
        raise ConflictError(f"You cannot commit container {found.id} which is {found.state.status.value.title()}")
    async with services.images.kept() as lease:
        committed = await _commit(services, found, options, lease)
        image = await _name(services, committed, options.reference, found.spec.image_id)
    names = [parse_reference(options.reference).with_default_tag().familiar] if options.reference else []
    await publish.built(services.events, image, names)
    attributes = {"comment": options.message, "imageID": committed.image_id, "imageRef": "".join(names)}
    await publish.container(services.events, "commit", found, **attributes)
    return committed.image_id


async def _commit(services: Committing, found: Container, options: CommitOptions, lease: str) -> Imported:
    """Make the image; ``lease`` keeps its layer until it is held by one of the image's own."""
    async with services.containers.held(found.id) if options.pause else nullcontext():
        made = await services.differ.layer_of(found.id, MOUNT_POINTS, lease)
    said = ImageCommit(
        config=_config(found, options.config),
        changes=options.changes,
        author=options.author,
        message=options.message,
        created_by=" ".join((*found.spec.process.entrypoint, *found.spec.process.cmd)),
    )
    layer = None if made is None else Layer(made.descriptor, made.diff_id)
    return await services.images.commit(found.spec.image_id, layer, said, options.reference)


async def _name(services: Committing, committed: Imported, reference: str, parent: str) -> ImageDetails:
    """Name the image, and have its new layer unpacked while nobody waits for it."""
    async with services.images.kept(committed.lease):
        named = await services.images.create(reference, committed.target, committed.lease, parent=parent)
    await services.layers.unpack([(layer.descriptor, layer.diff_id) for layer in committed.layers])
    return named.image


def for_image(check: container_spec.HealthCheck | None) -> HealthCheck | None:
    """Return a container's health check as an image has it."""
    if check is None:
        return None
    return HealthCheck(
        check.test,
        duration_ns(check.interval_s),
        duration_ns(check.timeout_s),
        duration_ns(check.start_period_s),
        duration_ns(check.start_interval_s),
        check.retries,
    )


def _config(container: Container, replaced: RunConfig | None) -> RunConfig:
    """Return what containers of the new image run as: what this one does, unless it is replaced."""
    spec, process = container.spec, container.spec.process
    config = RunConfig(
        user=process.user,
        env=process.env,
        entrypoint=process.entrypoint,
        cmd=process.cmd,
        working_dir=process.working_dir,
        labels=spec.labels,
        exposed_ports=spec.exposed_ports,
        volumes=spec.anonymous_volumes,
        stop_signal=spec.stop_signal,
        health_check=for_image(spec.health_check),
    )
    if replaced is None:
        return config
    given = {field.name: value for field in fields(replaced) if (value := getattr(replaced, field.name))}
    return replace(config, **given)
