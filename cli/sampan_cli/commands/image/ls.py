"""``sampan images``: list images."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from sampan.errors import InvalidArgumentError
from sampan.json_types import JsonObject
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import filter_option, format_option, from_flags, no_trunc_option

if TYPE_CHECKING:
    from sampan.engine.df import Sizes
    from sampan.resource.image import ImageDetails
    from sampan_cli.backend import ImageBackend

_HEADERS: Final = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
}
_TABLE: Final = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
_DIGEST_TABLE: Final = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
_NONE: Final = "<none>"


@dataclass(frozen=True, slots=True)
class ImagesOptions:
    """The command line of ``sampan images``."""

    repository: str
    all: bool
    digests: bool
    filters: tuple[str, ...]
    template: str
    no_trunc: bool
    quiet: bool
    tree: bool


@sampan_command(
    "images",
    examples="sampan images\nsampan images debian\nsampan images -q --filter dangling=true\nsampan images --tree",
)
@click.argument("repository", default="")
@click.option("--all", "-a", is_flag=True, help="Show all images.")
@click.option("--digests", is_flag=True, help="Show digests.")
@filter_option
@format_option
@no_trunc_option
@click.option("--quiet", "-q", is_flag=True, help="Only show image IDs.")
@click.option("--tree", is_flag=True, help="Show the platforms of each image, also those that are not here.")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """List images, or those of one REPOSITORY[:TAG]."""
    options = from_flags(ImagesOptions, flags)
    if options.tree:
        session.run(lambda engine: show_tree(engine, options))
    else:
        session.run(lambda engine: list_images(engine, options, time.time()))


def _refuse_with_tree(options: ImagesOptions) -> None:
    for flag, given in (
        ("quiet", options.quiet),
        ("no-trunc", options.no_trunc),
        ("digests", options.digests),
        ("format", options.template),
    ):
        if given:
            raise InvalidArgumentError(f"--{flag} is not yet supported with --tree")


async def list_images(engine: "ImageBackend", options: ImagesOptions, now_s: float) -> None:
    """Print one line per name, newest image first."""
    from sampan.engine.df import sizes as image_sizes
    from sampan_cli.output.table import print_list

    sizes = await image_sizes(engine.layers)
    chosen = await _choose(engine, await engine.images.list(), options)
    rows = [row for image in chosen for row in _rows(image, sizes, options, now_s)]
    if options.quiet and not options.template:
        for row in rows:
            click.echo(row["ID"])
        return
    print_list(rows, options.template, _HEADERS, _DIGEST_TABLE if options.digests else _TABLE, click.echo)


async def show_tree(engine: "ImageBackend", options: ImagesOptions) -> None:
    """Print each image with its platforms below.

    Raises:
        InvalidArgumentError: a flag that says how lines of another form look.
    """
    from contextlib import aclosing

    from sampan.engine.df import sizes as image_sizes
    from sampan.engine.image_filters import users_by_image
    from sampan_cli.output.image_tree import Facts, tree

    _refuse_with_tree(options)
    images: list[ImageDetails] = []
    async with aclosing(engine.images.pages(manifests=True)) as pages:
        async for page in pages:
            images += page.items
    sizes = await image_sizes(engine.layers)
    facts = Facts(sizes.of, {image.id: image for image in images}, await users_by_image(engine.containers))
    for line in tree(await _choose(engine, images, options), facts):
        click.echo(line)


async def _choose(
    engine: "ImageBackend", images: "Sequence[ImageDetails]", options: ImagesOptions
) -> "list[ImageDetails]":
    from sampan.docker.filters import parse_filters
    from sampan.engine.image_filters import LISTED, choose, hidden

    filters = {key: list(values) for key, values in parse_filters(options.filters, LISTED).items()}
    if options.repository:
        filters.setdefault("reference", []).append(options.repository)
    left_out = hidden(images, filters, everything=options.all)
    until = await engine.read_until(filters)
    return [image for image in choose(images, filters, until) if image.id not in left_out]


def _rows(image: "ImageDetails", sizes: "Sizes", options: ImagesOptions, now_s: float) -> Iterator[JsonObject]:
    from sampan.docker.durations import ago
    from sampan.docker.sizes import human_size
    from sampan.docker.times import local_time
    from sampan.docker.views.image_view import seconds

    digests = dict(each.rpartition("@")[::2] for each in image.repo_digests)
    names: list[tuple[str, str]] = [(repository, tag) for repository, _, tag in
                                    (name.rpartition(":") for name in image.repo_tags)]  # fmt: skip
    tagged = {repository for repository, _ in names}
    names += [(repository, _NONE) for repository in digests if repository not in tagged]
    size = sizes.of(image)
    for repository, tag in names or [(_NONE, _NONE)]:
        yield {
            "Repository": repository,
            "Tag": tag,
            "Digest": digests.get(repository, _NONE),
            "ID": image.id if options.no_trunc else image.id.partition(":")[2][:12],
            "CreatedSince": ago(seconds(image.created_ns), now_s),
            "CreatedAt": local_time(seconds(image.created_ns)),
            "Size": human_size(size, 3),
            "VirtualSize": human_size(size),
            # What `system df -v` knows of an image.
            **dict.fromkeys(("Containers", "SharedSize", "UniqueSize"), "N/A"),
        }
