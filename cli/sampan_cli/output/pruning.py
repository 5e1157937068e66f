"""What all commands that prune say at their end."""

from collections.abc import Awaitable

import click


async def print_total(removal: Awaitable[int]) -> None:
    """Print how many bytes a removal came to, once it is done."""
    from sampan.docker.sizes import human_size

    click.echo(f"Total reclaimed space: {human_size(await removal)}")
