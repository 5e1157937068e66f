"""What ``run`` and ``create`` have in common: bring the image if it is missing, create the container, say its ID."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sampan.docker.options.check import warnings
from sampan.engine.create import with_volumes_of
from sampan.errors import AlreadyExistsError, NotFoundError
from sampan.oci.reference import parse_reference
from sampan.resource.container_spec import ContainerSpec
from sampan_cli.options.container import ContainerOptions
from sampan_cli.output.pulling import pull

if TYPE_CHECKING:
    from sampan_cli.backend import ContainerBackend


async def create(engine: "ContainerBackend", options: ContainerOptions, spec: ContainerSpec) -> str:
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
    said = warnings(spec)
    spec = await with_volumes_of(engine.containers, spec, options.volumes_from)
    if options.pull == "always":
        await pull(engine, options.image, platform=options.platform, quiet=options.quiet, stream=sys.stderr)
    try:
        created = await engine.create_container(spec, platform=options.platform)
    except NotFoundError:
        if options.pull != "missing" or await _image_is_here(engine, options.image):
            raise
        reference = parse_reference(options.image).with_default_tag()
        if not options.quiet:
            click.echo(f"Unable to find image '{reference.familiar}' locally", err=True)
        await pull(engine, options.image, platform=options.platform, quiet=options.quiet, stream=sys.stderr)
        created = await engine.create_container(spec, platform=options.platform)
    for warning in (*said, *created.warnings):
        click.echo(f"WARNING: {warning}", err=True)
    if cidfile is not None:
        cidfile.write_text(created.id)
    return created.id


async def _image_is_here(engine: "ContainerBackend", image: str) -> bool:
    try:
        found = await engine.images.get(image)
    except NotFoundError:
        return False
    return bool(found.id)
