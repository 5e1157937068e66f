"""``sampan inspect``: everything about any object."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import click

from sampan.json_types import JsonObject
from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import inspect_format_option

if TYPE_CHECKING:
    from sampan_cli.backend import ObjectsBackend
    from sampan_cli.output.inspecting import Find

KINDS: Final = ("container", "image", "network", "volume")


@sampan_command(
    "inspect",
    examples="""
    sampan inspect web
    sampan inspect -f '{{.State.Status}}' web
    sampan inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web
    """,
)
@click.argument("names", shell_complete=completing.containers, nargs=-1, required=True)
@inspect_format_option
@click.option("--size", "-s", is_flag=True, help="Display total file sizes if it is a container.")
@click.option("--type", "kind", type=click.Choice(["", *KINDS]), default="", help="Only look for this kind of object.")
@click.pass_obj
def command(session: Session, /, names: tuple[str, ...], template: str, size: bool, kind: str) -> None:
    """Return low-level information on containers, images, networks and volumes."""

    async def work(engine: "ObjectsBackend") -> int:
        from sampan_cli.output.inspecting import inspect

        return await inspect(names, finder(engine, (kind,) if kind else KINDS, size=size), template)

    session.run(work)


def finder(engine: "ObjectsBackend", kinds: tuple[str, ...], *, size: bool = False, platform: str = "") -> "Find":
    """Return a function that finds an object of the first of ``kinds`` that has one of that name.

    It raises NotFoundError. ``size`` measures containers; ``platform`` chooses among an index's images.
    """
    from sampan.errors import InvalidArgumentError, NotFoundError

    finders: dict[str, Callable[[str], Awaitable[JsonObject]]] = {
        "container": lambda name: _container(engine, name, size),
        "image": lambda name: _image(engine, name, platform),
        "network": lambda name: _network(engine, name),
        "volume": lambda name: _volume(engine, name),
    }

    async def find(name: str) -> JsonObject:
        last: Exception | None = None
        for kind in kinds:
            try:
                found: JsonObject = await finders[kind](name)
                return found
            except NotFoundError as error:
                last = error
            except InvalidArgumentError as error:  # a name that one kind of object cannot have may be another's
                if len(kinds) == 1:
                    raise
                last = error
        if len(kinds) == 1 and last is not None:
            raise last
        raise NotFoundError(f"No such object: {name}") from last

    return find


async def _container(engine: "ObjectsBackend", name: str, size: bool) -> JsonObject:
    from sampan.engine.df import sizes as image_sizes
    from sampan_cli.shape.go import shape_container

    container = await engine.containers.get(name, size=size)
    return shape_container(container, (await image_sizes(engine.layers)).root_bytes(container) if size else None)


async def _image(engine: "ObjectsBackend", name: str, platform: str) -> JsonObject:
    from sampan.engine.df import sizes as image_sizes
    from sampan.engine.image_filters import of_platform
    from sampan_cli.shape.go import shape_image

    image = await (of_platform(engine.images, name, platform) if platform else engine.images.get(name))
    sizes = await image_sizes(engine.layers)
    drivers = await engine.layers.drivers()
    return shape_image(image, sizes.of(image), drivers.driver)


async def _network(engine: "ObjectsBackend", name: str) -> JsonObject:
    from sampan.docker.views.network_view import network_json
    from sampan_cli.shape.go import go_value

    return go_value(network_json(await engine.networks.get(name), members=True))


async def _volume(engine: "ObjectsBackend", name: str) -> JsonObject:
    from sampan.docker.views.volume_view import volume_json
    from sampan_cli.shape.go import go_value

    return go_value(volume_json(await engine.volumes.get(name)))
