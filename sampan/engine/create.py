"""Create a container: what the user leaves open comes from the image."""

from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import replace
from typing import Final, Protocol

from sampan.docker.options.binds import inherited, parse_volumes_from
from sampan.docker.options.namespaces import CONTAINER
from sampan.engine.parts import ContainerLookup, HasContainers, HasImages, HasLayers, HasSnapshots
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.image_config import RunConfig
from sampan.oci.platform import Platform, host_platform, parse_platform
from sampan.resource.container import Created
from sampan.resource.container_spec import ContainerSpec, HealthCheck, ImageManifest, Mount, MountType, Process
from sampan.resource.image import ImageDetails
from sampan.resource.storage.snapshots import Layers, Snapshots

_SECOND_NS: Final = 1_000_000_000

# --entrypoint "" arrives as one empty word: "none, and not the image's either".
_NO_ENTRYPOINT: Final = ("",)


class Creating(HasImages, HasLayers, HasSnapshots, HasContainers, Protocol):
    """What containers are made of, and where."""


async def create_container(
    services: Creating, spec: ContainerSpec, platform: str, image: ImageDetails | None = None, stack: str = ""
) -> Created:
    """See ``Engine.create_container``.

    ``image`` is what ``spec`` names and ``stack`` the chain ID that its layers stand at, if the caller has just looked.
    """
    if spec.exposed_ports and spec.namespaces.network.startswith(CONTAINER):  # an image's ports are its own affair
        raise InvalidArgumentError("conflicting options: port exposing and the container type network mode")
    wanted = parse_platform(platform) if platform else None
    image = await _image_for(services, spec.image, wanted, image)
    warnings = () if wanted is not None else _platform_warning(image.platform)
    complete = await _with_stacks(services, merge(spec, image), image, stack)
    try:
        created = await services.containers.create(complete)
    except NotFoundError:
        needed = (complete.chain_id, *(mount.chain_id for mount in complete.mounts))
        if all([not chain or await _stands(services.snapshots, chain) for chain in needed]):
            raise
        # It was removed between the two, with its image, or with another one of the same layers.
        image = await _image_for(services, spec.image, wanted)
        created = await services.containers.create(await _with_stacks(services, merge(spec, image), image))
    return Created(created.id, (*warnings, *created.warnings))


async def _with_stacks(services: Creating, spec: ContainerSpec, image: ImageDetails, stack: str = "") -> ContainerSpec:
    """Return ``spec`` with the snapshots that its root, and the images that it mounts, stand on."""
    mounts = tuple([await _with_image(services, mount) for mount in spec.mounts])
    return replace(spec, mounts=mounts, chain_id=stack or await ensure_stack(services.layers, image))


async def _with_image(services: Creating, mount: Mount) -> Mount:
    if mount.type is not MountType.IMAGE or not mount.source:
        return mount
    try:
        found = await services.images.get(mount.source)
    except NotFoundError as error:  # of which clients would think that the container's own image is missing
        raise InvalidArgumentError(f'invalid mount config for type "image": {error}') from error
    return replace(mount, image_id=found.id, chain_id=await ensure_stack(services.layers, found))


async def with_volumes_of(containers: ContainerLookup, spec: ContainerSpec, sources: Iterable[str]) -> ContainerSpec:
    """Return ``spec`` with the mounts of other containers, each ``container[:ro|rw…]``; its own targets win.

    Raises:
        InvalidArgumentError: in Docker's words, an unknown mode, or there is no such container: a 404 would say that
            the image is missing.
    """
    for text in sources:
        name, read_only = parse_volumes_from(text)
        try:
            source = await containers.get(name)
        except NotFoundError as error:
            raise InvalidArgumentError(str(error)) from error
        spec = replace(spec, mounts=(*spec.mounts, *inherited(source, spec.mounts, read_only=read_only)))
    return spec


async def _stands(snapshots: Snapshots, chain_id: str) -> bool:
    try:
        await snapshots.stat(chain_id)
    except NotFoundError:
        return False
    return True


def merge(spec: ContainerSpec, image: ImageDetails) -> ContainerSpec:
    """Return ``spec`` with the gaps filled from the image's config.

    The rules are Docker's: a command of the user's own comes without the image's entrypoint only if the user has set
    one too; variables and labels of the user's win one by one; ports and volumes add up.

    Raises:
        InvalidArgumentError: neither of them says what to run.
    """
    config, process = image.config, spec.process
    entrypoint, cmd = _command(process, config)
    taken = {entry.partition("=")[0] for entry in process.env}
    return replace(
        spec,
        image_id=image.id,
        platform=image.platform.os or "linux",
        image_manifest=_manifest(image),
        process=replace(
            process,
            entrypoint=entrypoint,
            cmd=cmd,
            user=process.user or config.user,
            working_dir=process.working_dir or config.working_dir,
            env=(*process.env, *(entry for entry in config.env if entry.partition("=")[0] not in taken)),
        ),
        labels={**config.labels, **spec.labels},
        exposed_ports=_with_missing(spec.exposed_ports, config.exposed_ports),
        anonymous_volumes=_with_missing(spec.anonymous_volumes, config.volumes),
        stop_signal=spec.stop_signal or config.stop_signal,
        health_check=_health_check(spec.health_check, config),
    )


def _manifest(image: ImageDetails) -> ImageManifest | None:
    """Return what the container's root comes from; None for an image that has no manifest."""
    manifest, platform = image.manifest, image.platform
    if not manifest.digest:
        return None
    return ImageManifest(
        manifest.media_type, manifest.digest, manifest.size, platform.os, platform.architecture, platform.variant
    )


def _command(process: Process, config: RunConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    entrypoint, cmd = process.entrypoint, process.cmd
    if not entrypoint:
        entrypoint, cmd = () if process.own_entrypoint else config.entrypoint, cmd or config.cmd
    if entrypoint == _NO_ENTRYPOINT:  # the user's, or what the image says
        entrypoint = ()
    if not entrypoint and not cmd:
        raise InvalidArgumentError("no command specified")
    return entrypoint, cmd


def _health_check(ours: HealthCheck | None, config: RunConfig) -> HealthCheck | None:
    """Return the image's health check where ours leaves something open, whole or field by field."""
    theirs = config.health_check
    if theirs is None:
        return ours
    ours = ours or HealthCheck()
    return HealthCheck(
        ours.test or theirs.test,
        ours.interval_s or theirs.interval_ns / _SECOND_NS,
        ours.timeout_s or theirs.timeout_ns / _SECOND_NS,
        ours.start_period_s or theirs.start_period_ns / _SECOND_NS,
        ours.start_interval_s or theirs.start_interval_ns / _SECOND_NS,
        ours.retries or theirs.retries,
    )


def _with_missing(values: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    return (*values, *(value for value in more if value not in values))


async def _image_for(
    services: Creating, name: str, wanted: Platform | None, known: ImageDetails | None = None
) -> ImageDetails:
    """Return the image or, if it is not for the platform that is asked for, what its index has for that.

    Raises:
        NotFoundError: there is no such image, or nothing for the platform is here; in Docker's words.
    """
    image = known if known is not None else await services.images.get(name)
    if wanted is None or wanted.runs(image.platform):
        return image
    try:
        return await services.images.get(name, platform=wanted)
    except NotFoundError as error:
        raise NotFoundError(
            f"image with reference {name} was found but does not provide the specified platform "
            f"(wanted {wanted}, actual: {image.platform})"
        ) from error


def _platform_warning(actual: Platform) -> tuple[str, ...]:
    """Say, in Docker's words, that an image is probably not for this host."""
    host, found = host_platform(), actual
    if not found.architecture or host.runs(found):
        return ()
    return (
        f"The requested image's platform ({found}) does not match the detected host platform ({host}) "
        "and no specific platform was requested",
    )


async def ensure_stack(layers: Layers, image: ImageDetails) -> str:
    """Return the chain ID of the image's snapshots; layers that were lost are unpacked again from their blobs."""
    diff_ids = [layer.diff_id for layer in image.layers]
    try:
        return await layers.stack(diff_ids)
    except NotFoundError:
        for layer in {layer.diff_id: layer for layer in image.layers}.values():
            async with aclosing(layers.apply(layer.descriptor, layer.diff_id)) as steps:
                async for _ in steps:
                    pass
        return await layers.stack(diff_ids)
