"""Write a man page for ``sampan`` and for each of its commands, from what they say of themselves.

python tools/man_pages.py DIRECTORY    # sampan.1, sampan-run.1, sampan-image-ls.1, …
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from sampan.version import VERSION
from sampan_cli.app.app import app
from sampan_cli.app.lazy import LazyGroup, SampanCommand

_CODE = re.compile(r"``?([^`]+)``?")
_FILES = (
    ("/etc/sampan/<service>.toml", "what each service is told; see docs/configuration.md"),
    ("/run/sampan/docker.sock", "the Docker Engine API"),
    ("/var/lib/sampan", "images, containers, volumes"),
)


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each page, those of groups before those of their commands."""
    yield from _pages(app, ("sampan",))


def _pages(command: click.Command, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield "-".join(words), _page(command, words)
    if isinstance(command, LazyGroup):
        context = click.Context(command, info_name=words[-1])
        for name, entry in command.entries.items():
            found = command.get_command(context, name)
            if not entry.hidden and found is not None:
                yield from _pages(found, (*words, name))


def _page(command: click.Command, words: Sequence[str]) -> str:
    context = click.Context(command, info_name=" ".join(words))
    name, usage = "-".join(words), " ".join(command.collect_usage_pieces(context))
    about = [_plain(paragraph) for paragraph in (command.help or "").split("\n\n")]
    summary = about[0].rstrip(".").partition(". ")[0] or name
    lines = [
        f'.TH "{_name(name).upper()}" 1 "" "Sampan {VERSION}" "Sampan"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(summary)}",
        ".SH SYNOPSIS",
        f"\\fB{_text(' '.join(words))}\\fR {_text(usage)}",
        ".SH DESCRIPTION",
        *(line for paragraph in about for line in (_text(paragraph), ".PP")),
    ]
    options = [record for param in command.get_params(context) if (record := param.get_help_record(context))]
    if options:
        lines += [".SH OPTIONS", *_list(options)]
    if isinstance(command, LazyGroup):
        shown = [(f"{name}-{each}(1)", entry.help) for each, entry in command.entries.items() if not entry.hidden]
        lines += [".SH COMMANDS", *_list(shown)]
    if isinstance(command, SampanCommand) and command.examples:
        lines += [
            ".SH EXAMPLES",
            ".nf",
            *(_text(each.strip()) for each in command.examples.strip().splitlines()),
            ".fi",
        ]
    if len(words) == 1:
        lines += [".SH FILES", *_list(_FILES)]
    else:
        lines += [".SH SEE ALSO", f"\\fB{_text('-'.join(words[:-1]))}\\fR(1)"]
    return "\n".join(lines) + "\n"


def _list(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    for term, meaning in rows:
        yield ".TP"
        yield f"\\fB{_text(term)}\\fR"
        yield _text(_plain(meaning)) or "\\&"


def _plain(text: str) -> str:
    """Return a paragraph in one line, without the marks of code."""
    return " ".join(_CODE.sub(r"\1", text.replace("\b", "")).split())


def _name(text: str) -> str:
    return text.replace('"', "")


def _text(text: str) -> str:
    """Write a line so that roff reads it as it is: no request, no escape, and hyphens that can be copied."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


def main(arguments: Sequence[str]) -> int:
    """Write all pages into a directory; anything else than its name, --help among it, is answered with the usage."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    target = Path(arguments[0])
    target.mkdir(parents=True, exist_ok=True)
    for name, text in pages():
        (target / f"{name}.1").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
