"""The groups of commands, as the docker command has them."""

import click

from sampan_cli.app import table
from sampan_cli.app.lazy import LazyGroup


@click.group("container", cls=LazyGroup, entries=table.CONTAINER)
def container() -> None:
    """Manage containers."""


@click.group("image", cls=LazyGroup, entries=table.IMAGE)
def image() -> None:
    """Manage images."""


@click.group("builder", cls=LazyGroup, entries=table.BUILDER)
def builder() -> None:
    """Manage builds."""


@click.group("network", cls=LazyGroup, entries=table.NETWORK)
def network() -> None:
    """Manage networks."""


@click.group("volume", cls=LazyGroup, entries=table.VOLUME)
def volume() -> None:
    """Manage volumes."""


@click.group("registry", cls=LazyGroup, entries=table.REGISTRY)
def registry() -> None:
    """Serve the engine's images to others."""


@click.group("cri", cls=LazyGroup, entries=table.CRI)
def cri() -> None:
    """Run Kubernetes' pods."""


@click.group("context", cls=LazyGroup, entries=table.CONTEXT)
def context() -> None:
    """Manage contexts."""


@click.group("manifest", cls=LazyGroup, entries=table.MANIFEST)
def manifest() -> None:
    """Manage image manifests and manifest lists."""


@click.group("system", cls=LazyGroup, entries=table.SYSTEM)
def system() -> None:
    """Manage the engine."""
