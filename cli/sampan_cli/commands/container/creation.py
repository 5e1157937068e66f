"""What ``run`` and ``create`` have in common: bring the image if it is missing, create the container, say its ID."""

import sys
from pathlib import Path

import click

from sampan.api.image.v1 import images_pb2
from sampan.api.runtime.v1 import containers_pb2, spec_pb2
from sampan.engine.engine import Engine
from sampan.errors import AlreadyExistsError, NotFoundError
from sampan.oci.reference import parse_reference
from sampan.wire.channel import rpc_errors
from sampan_cli.options.container import ContainerOptions
from sampan_cli.output.pulling import pull


async def create(engine: Engine, options: ContainerOptions, spec: spec_pb2.ContainerSpec) -> str:
    """Create the container and return its ID; warnings go to stderr.

    Raises:
        AlreadyExistsError: the cidfile is there; nothing was done.
        SampanError: see ``Engine.create_container`` and ``Engine.pull``.
    """
    cidfile = Path(options.cidfile) if options.cidfile else None
    if cidfile is not None and cidfile.exists():
        raise AlreadyExistsError(
            f"container ID file found, make sure the other container isn't running or delete {cidfile}"
        )
    for source in options.volumes_from:
        await _add_volumes_from(engine, spec, source)
    if options.pull == "always":
        await pull(engine, options.image, platform=options.platform, quiet=options.quiet, stream=sys.stderr)
    try:
        container, warnings = await engine.create_container(spec, platform=options.platform)
    except NotFoundError:
        if options.pull != "missing" or await _image_is_here(engine, options.image):
            raise
        reference = parse_reference(options.image).with_default_tag()
        if not options.quiet:
            click.echo(f"Unable to find image '{reference.familiar}' locally", err=True)
        await pull(engine, options.image, platform=options.platform, quiet=options.quiet, stream=sys.stderr)
        container, warnings = await engine.create_container(spec, platform=options.platform)
    for warning in warnings:
        click.echo(f"WARNING: {warning}", err=True)
    if cidfile is not None:
        cidfile.write_text(container)
    return container


async def _image_is_here(engine: Engine, image: str) -> bool:
    try:
        with rpc_errors():
            found = await engine.images.Get(images_pb2.GetRequest(image=image))
    except NotFoundError:
        return False
    return bool(found.id)


async def _add_volumes_from(engine: Engine, spec: spec_pb2.ContainerSpec, source: str) -> None:
    """Add another container's mounts, except where this one has its own; ``source`` may end in ``:ro``."""
    name, _, mode = source.partition(":")
    with rpc_errors():
        other = await engine.containers.Get(containers_pb2.GetContainerRequest(container=name))
    taken = {mount.target for mount in spec.mounts}
    for point in other.mounts:
        if point.target in taken or point.type == spec_pb2.Mount.TMPFS:
            continue
        spec.mounts.add(
            type=point.type,
            source=point.name if point.type == spec_pb2.Mount.VOLUME else point.source,
            target=point.target,
            read_only=mode == "ro" or not point.read_write,
            propagation=point.propagation if point.type == spec_pb2.Mount.BIND else "",
            no_copy=point.type == spec_pb2.Mount.VOLUME,
        )
