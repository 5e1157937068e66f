"""Print objects in full: as a JSON list, or each by a template."""

import json
from collections.abc import Awaitable, Callable, Iterable

import click

from sampan.errors import NotFoundError
from sampan.json_types import JsonObject
from sampan_cli.template.functions import plain, to_json
from sampan_cli.template.template import Template

Find = Callable[[str], Awaitable[JsonObject]]


async def inspect(names: Iterable[str], find: Find, template: str) -> int:
    """Print what ``find`` returns for each name; return 1 if one was not found, which is said on stderr.

    Raises:
        TemplateError: the template does not parse or does not fit.
    """
    shown = Template(template) if template not in ("", "json") else None
    found, missing = [], []
    for name in names:
        try:
            found.append(await find(name))
        except NotFoundError as error:
            missing.append(str(error))
    if shown is not None:
        for each in found:
            click.echo(shown.render(each))
    elif template == "json":
        click.echo(to_json(found))
    else:
        click.echo(json.dumps(plain(found), indent=4, ensure_ascii=False))
    for text in missing:
        click.echo(f"sampan: {text}", err=True)
    return 1 if missing else 0
