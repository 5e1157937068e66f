"""Flags that many commands have."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import click

T = TypeVar("T")

Decorator = Callable[[Callable[..., object]], Callable[..., object]]

format_option: Decorator = click.option(
    "--format",
    "template",
    default="",
    metavar="FORMAT",
    help="table, 'table TEMPLATE', json, or a Go template such as '{{.ID}}'.",
)

inspect_format_option: Decorator = click.option(
    "--format", "-f", "template", default="", metavar="FORMAT", help="json, or a Go template such as '{{.Id}}'."
)

force_prune_option: Decorator = click.option("--force", "-f", is_flag=True, help="Do not ask.")

no_trunc_option: Decorator = click.option("--no-trunc", is_flag=True, help="Don't truncate output.")

filter_option: Decorator = click.option(
    "--filter", "-f", "filters", multiple=True, metavar="KEY=VALUE", help="Show only what matches."
)

# `prune` has -f for --force.
prune_filter_option: Decorator = click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Remove only what matches."
)


def confirm(warning: str, *, force: bool) -> None:
    """Ask before removing things, unless told not to; leaves the program if the answer is no."""
    if not force and not click.confirm(f"WARNING! {warning}\nAre you sure you want to continue?"):
        raise click.exceptions.Exit(1)


def from_flags(kind: Callable[..., T], flags: Mapping[str, object]) -> T:
    """Make an options value of the flags that click has parsed: a field for each, named as its parameter."""
    return kind(**flags)


def platforms_option(help: str) -> Decorator:
    """Return ``--platform``, which may be there several times, or name several by commas."""

    def split(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(part for value in values for part in value.split(",") if part)

    return click.option("--platform", "platforms", multiple=True, metavar="PLATFORM", callback=split, help=help)
