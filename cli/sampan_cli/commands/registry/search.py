"""``sampan search``: ask a registry for images."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from sampan.errors import InvalidArgumentError
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import filter_option, format_option, from_flags, no_trunc_option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.resource.image import SearchResult
    from sampan_cli.backend import RegistryBackend

_HEADERS: Final = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}
_TABLE: Final = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}"
_DESCRIPTION_WIDTH: Final = 45


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The command line of ``sampan search``."""

    term: str
    filters: tuple[str, ...]
    template: str
    limit: int
    no_trunc: bool


@sampan_command("search", examples="sampan search debian\nsampan search --filter is-official=true --limit 5 postgres")
@click.argument("term")
@filter_option
@format_option
@click.option("--limit", type=int, default=0, help="Max number of search results.")
@no_trunc_option
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """Search a registry for images, Docker's own if TERM does not begin with another one's name."""
    options = from_flags(SearchOptions, flags)
    session.run(lambda engine: search(engine, options))


async def search(engine: "RegistryBackend", options: SearchOptions) -> None:
    """Print one line per repository, as the registry orders them."""
    from sampan.oci.reference import split_term
    from sampan_cli.credentials.store import CredentialStore, config_path
    from sampan_cli.output.table import print_list

    filters: dict[str, list[str]] = {}
    for text in options.filters:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidArgumentError(f"invalid filter '{text}': expected key=value (bad format of filter)")
        filters.setdefault(key.strip().lower(), []).append(value.strip())
    registry, _ = split_term(options.term)
    credentials = await CredentialStore(config_path(os.environ)).get(registry)
    found = await engine.search_images(options.term, limit=options.limit, filters=filters, credentials=credentials)
    print_list(list(_rows(found, no_trunc=options.no_trunc)), options.template, _HEADERS, _TABLE, click.echo)


def _rows(found: "Iterable[SearchResult]", *, no_trunc: bool) -> Iterator[dict[str, object]]:
    for each in found:
        description = each.description.replace("\n", " ").replace("\r", " ")
        if not no_trunc and len(description) > _DESCRIPTION_WIDTH:
            description = f"{description[: _DESCRIPTION_WIDTH - 1]}…"
        yield {
            "Name": each.name,
            "Description": description,
            "StarCount": str(each.stars),
            "IsOfficial": "[OK]" if each.official else "",
            "IsAutomated": "",
        }
