"""Create a container: what the user leaves open comes from the image."""

from collections.abc import Iterable, MutableSequence
from typing import TYPE_CHECKING, Final

from sampan import limits
from sampan.api.containerd.snapshots.v1 import snapshots_pb2
from sampan.api.image.v1 import images_pb2
from sampan.api.runtime.v1 import containers_pb2, spec_pb2
from sampan.api.snapshot.v1 import layers_pb2
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.platform import Platform, host_platform, parse_platform
from sampan.wire.channel import rpc_errors

if TYPE_CHECKING:
    from sampan.engine.engine import Engine

# In a message, frames cost a little.
_MAX_SPEC_BYTES: Final = 2 * limits.RECORD_BYTES

# --entrypoint "" arrives as one empty word: "none, and not the image's either".
_NO_ENTRYPOINT: Final = [""]


async def create_container(
    engine: "Engine", spec: spec_pb2.ContainerSpec, platform: str
) -> tuple[str, tuple[str, ...]]:
    """See ``Engine.create_container``."""
    wanted = parse_platform(platform) if platform else None
    with rpc_errors():
        image = await engine.images.Get(images_pb2.GetRequest(image=spec.image))
    if wanted is not None:
        _check_platform(spec.image, wanted, image.platform)
    warnings = () if wanted is not None else _platform_warning(image.platform)
    complete = merge(spec, image)
    complete.chain_id = await ensure_stack(engine, image)
    try:
        container, others = await _create(engine, complete)
        return container, (*warnings, *others)
    except NotFoundError:
        if not complete.chain_id or await _stands(engine, complete.chain_id):
            raise
    # It was removed between the two, with its image, or with another one of the same layers.
    with rpc_errors():
        image = await engine.images.Get(images_pb2.GetRequest(image=spec.image))
    complete = merge(spec, image)
    complete.chain_id = await ensure_stack(engine, image)
    container, others = await _create(engine, complete)
    return container, (*warnings, *others)


async def _create(engine: "Engine", spec: spec_pb2.ContainerSpec) -> tuple[str, tuple[str, ...]]:
    _check_size(spec)
    with rpc_errors():
        created = await engine.containers.Create(containers_pb2.CreateContainerRequest(spec=spec))
    return created.id, tuple(created.warnings)


def _check_size(spec: spec_pb2.ContainerSpec) -> None:
    """Refuse what is more than a message to runtimed can hold, which would refuse it for its size anyway."""
    if spec.ByteSize() <= _MAX_SPEC_BYTES:
        return

    def alone(name: str) -> int:
        part = spec_pb2.ContainerSpec()
        part.CopyFrom(spec)
        for field, _ in spec.ListFields():
            if field.name != name:
                part.ClearField(field.name)  # type: ignore[arg-type]  # the stub lists the names
        return part.ByteSize()

    longest = max((field.name for field, _ in spec.ListFields() if field.name != limits.SENT), key=alone)
    raise InvalidArgumentError(
        f"container, most of it in {longest.replace('_', ' ')}: {spec.ByteSize()} bytes in all, "
        f"the most is {limits.RECORD_BYTES}"
    )


async def _stands(engine: "Engine", chain_id: str) -> bool:
    try:
        with rpc_errors():
            await engine.snapshots.Stat(snapshots_pb2.StatSnapshotRequest(key=chain_id))
    except NotFoundError:
        return False
    return True


def merge(spec: spec_pb2.ContainerSpec, image: images_pb2.Image) -> spec_pb2.ContainerSpec:
    """Return ``spec`` with the gaps filled from the image's config.

    The rules are Docker's: a command of the user's own comes without the image's entrypoint only if the user has set
    one too; variables and labels of the user's win one by one; ports and volumes add up.

    Raises:
        InvalidArgumentError: neither of them says what to run.
    """
    config = image.config
    merged = spec_pb2.ContainerSpec()
    merged.CopyFrom(spec)
    merged.image_id = image.id
    merged.platform = image.platform.os or "linux"
    process = merged.process
    process.user = process.user or config.user
    process.working_dir = process.working_dir or config.working_dir
    _merge_command(process, config)
    taken = {entry.partition("=")[0] for entry in process.env}
    process.env.extend(entry for entry in config.env if entry.partition("=")[0] not in taken)
    for key, value in config.labels.items():
        if key not in spec.labels:
            merged.labels[key] = value
    _add_missing(merged.exposed_ports, config.exposed_ports)
    _add_missing(merged.anonymous_volumes, config.volumes)
    merged.stop_signal = merged.stop_signal or config.stop_signal
    _merge_health_check(merged, config)
    return merged


def _merge_command(process: spec_pb2.Process, config: images_pb2.ImageConfig) -> None:
    if not process.entrypoint:
        if not process.cmd:
            process.cmd.extend(config.cmd)
        process.entrypoint.extend(config.entrypoint)
    if list(process.entrypoint) == _NO_ENTRYPOINT:  # the user's, or what the image says
        del process.entrypoint[:]
    if not process.entrypoint and not process.cmd:
        raise InvalidArgumentError("no command specified")


def _merge_health_check(merged: spec_pb2.ContainerSpec, config: images_pb2.ImageConfig) -> None:
    """Fill in the image's health check, whole or field by field."""
    if not config.HasField("health_check"):
        return
    ours, theirs = merged.health_check, config.health_check
    if not ours.test:
        ours.test.extend(theirs.test)
    for name in ("interval", "timeout", "start_period", "start_interval"):
        if not ours.HasField(name) and theirs.HasField(name):
            getattr(ours, name).CopyFrom(getattr(theirs, name))
    ours.retries = ours.retries or theirs.retries


def _add_missing(values: MutableSequence[str], more: Iterable[str]) -> None:
    values.extend(value for value in more if value not in values)


def _check_platform(name: str, wanted: Platform, actual: images_pb2.Platform) -> None:
    found = Platform(actual.os, actual.architecture, actual.variant)
    if not wanted.accepts(found):
        raise NotFoundError(
            f"image with reference {name} was found but does not provide the specified platform "
            f"(wanted {wanted}, actual: {found})"
        )


def _platform_warning(actual: images_pb2.Platform) -> tuple[str, ...]:
    """Say, in Docker's words, that an image is probably not for this host."""
    host, found = host_platform(), Platform(actual.os, actual.architecture, actual.variant)
    if not found.architecture or host.accepts(found):
        return ()
    return (
        f"The requested image's platform ({found}) does not match the detected host platform ({host}) "
        "and no specific platform was requested",
    )


async def ensure_stack(engine: "Engine", image: images_pb2.Image) -> str:
    """Return the chain ID of the image's snapshots; layers that were lost are unpacked again from their blobs."""
    request = layers_pb2.StackRequest(diff_ids=[layer.diff_id for layer in image.layers])
    try:
        with rpc_errors():
            return (await engine.layers.Stack(request)).chain_id
    except NotFoundError:
        for layer in image.layers:
            apply = layers_pb2.ApplyLayerRequest(descriptor=layer.descriptor, diff_id=layer.diff_id)
            with rpc_errors():
                async for _ in engine.layers.Apply(apply):
                    pass
        with rpc_errors():
            return (await engine.layers.Stack(request)).chain_id
