"""Print lists: as a table, as JSON, one object a line, or by a template."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from sampan_cli.template.functions import to_json
from sampan_cli.template.template import Template

Echo = Callable[[str], object]

# Go's tabwriter as Docker sets it up: no column narrower than this, this much space between two.
_NARROWEST: Final = 10
_GAP: Final = 3

# In a shell, '{{.ID}}\t{{.Names}}' has a backslash and a t.
_ESCAPES: Final = {r"\t": "\t", r"\n": "\n"}


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return ``rows``, the first of which is the header, as aligned lines."""
    columns = max((len(row) for row in rows), default=0)
    widths = [
        max(_NARROWEST, *(len(row[column]) + _GAP for row in rows if column < len(row) - 1), 0)
        for column in range(columns)
    ]
    return ["".join(f"{cell:<{widths[i]}}" for i, cell in enumerate(row[:-1])) + row[-1] for row in rows]


def print_list(
    rows: Iterable[Mapping[str, object]], template: str, headers: Mapping[str, str], default: str, echo: Echo
) -> None:
    """Print ``rows`` by ``template``: empty or ``table``, ``json``, ``table <template>``, or a template.

    Args:
        rows: one mapping per line; every field that a template may name is a key. A function is a field that takes
            arguments.
        template: what the user asked for.
        headers: the titles of the fields that a table may have.
        default: the template of the plain table, without ``table``.
        echo: prints a line.

    Raises:
        TemplateError: the template does not parse, or names a field that is not there.
    """
    if template == "json":
        for row in rows:
            echo(to_json(row))
        return
    template = re.sub(r"\\[tn]", lambda match: _ESCAPES[match.group()], template)
    if template in ("", "table") or template.startswith("table "):
        body = template.removeprefix("table").strip(" ") or default
        shown = Template(body)
        titles = {**dict.fromkeys(_fields(rows := list(rows)), ""), "Label": _label_title, **headers}
        lines = [Template(_titled(body)).render(titles), *(shown.render(row) for row in rows)]
        for line in table([line.split("\t") for line in lines]):
            echo(line.rstrip())
        return
    shown = Template(template)
    for row in rows:
        echo(shown.render(row))


def _titled(template: str) -> str:
    """Strip the functions: a header is the title alone, whatever is done with the values."""
    return re.sub(r"\{\{\s*(?:json|upper|lower|title)\s+(\.\w+)\s*\}\}", r"{{\1}}", template)


def _label_title(key: str) -> str:
    """Return what stands above a column of one label: the last part of its name, as words."""
    return re.sub("[-_]", " ", key.rpartition(".")[2])


def _fields(rows: Sequence[Mapping[str, object]]) -> Iterable[str]:
    return rows[0] if rows else ()
