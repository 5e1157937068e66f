"""Complete the names of containers and images; silent when the engine cannot be asked."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem

from sampan.errors import SampanError
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import ConnectedEngine

# Whoever presses the tab key is not going to wait longer.
_DEADLINE_S: Final = 2.0


def containers(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of containers that begin with what was typed."""
    return _ask(context, _container_names, incomplete)


def images(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of images that begin with what was typed."""
    return _ask(context, _image_names, incomplete)


def _ask(
    context: click.Context, names: "Callable[[ConnectedEngine], Awaitable[list[str]]]", incomplete: str
) -> list[CompletionItem]:
    session = context.find_object(Session)
    if session is None:
        return []

    async def ask() -> list[str]:
        async with asyncio.timeout(_DEADLINE_S), session.connect() as engine:
            return await names(engine)

    try:
        found = asyncio.run(ask())
    except (SampanError, TimeoutError):
        return []  # nothing may be printed here: it would end up in the command line
    return [CompletionItem(name) for name in found if name.startswith(incomplete)]


async def _container_names(engine: "ConnectedEngine") -> list[str]:
    from sampan.resource.listing import ALL

    return [container.name for container in await engine.containers.list(ALL)]


async def _image_names(engine: "ConnectedEngine") -> list[str]:
    return [name for image in await engine.images.list(brief=True) for name in image.repo_tags]
