"""Docker's ways to write flags that click does not know: ``--rm=false``, ``-t=1``, ``-p=80:80``."""

from collections.abc import Iterable, Iterator

import click

from sampan.docker.booleans import SPELLINGS


def as_click_writes(args: Iterable[str], options: Iterable[click.Option], *, mixed: bool) -> Iterator[str]:
    """Yield ``args`` in click's own spelling; what is no option of ``options`` is left as it is.

    ``mixed``: options may come behind operands. Else everything from the first operand on is somebody else's.

    Raises:
        click.UsageError: a boolean flag with another value than true and false.
    """
    known = {name: option for option in options for name in (*option.opts, *option.secondary_opts)}
    left = iter(args)
    for argument in left:
        if argument == "--" or (not mixed and not _is_option(argument)):
            yield argument
            yield from left
            return
        if not _is_option(argument):
            yield argument
            continue
        respell = _long if argument.startswith("--") else _short
        words, awaits_value = respell(argument, known)
        yield from words
        if awaits_value:
            yield from (value for value in (next(left, None),) if value is not None)


def _is_option(argument: str) -> bool:
    return argument.startswith("-") and len(argument) > 1


def _long(argument: str, known: dict[str, click.Option]) -> tuple[list[str], bool]:
    """Return the words for ``argument``, and whether the next one is its value."""
    name, equals, value = argument.partition("=")
    option = known.get(name)
    if option is None:
        return [argument], False
    if not _is_flag(option):
        return [argument], not equals
    return (_flag(option, name, value) if equals else [argument]), False


def _short(argument: str, known: dict[str, click.Option]) -> tuple[list[str], bool]:
    """The same for one-letter options, of which several can be written together."""
    words: list[str] = []
    for position in range(1, len(argument)):
        name, rest = f"-{argument[position]}", argument[position + 1 :]
        option = known.get(name)
        if option is None:
            return [*words, f"-{argument[position:]}"], False
        if not _is_flag(option):
            return [*words, name, *([rest.removeprefix("=")] if rest else [])], not rest
        if rest.startswith("="):
            return [*words, *_flag(option, name, rest[1:])], False
        words.append(name)
    return words, False


def _is_flag(option: click.Option) -> bool:
    return option.is_flag or option.count


def _flag(option: click.Option, name: str, value: str) -> list[str]:
    if value not in SPELLINGS:
        raise click.UsageError(f'invalid argument "{value}" for "{name}" flag: it is true or false')
    if SPELLINGS[value] == (name in option.opts):
        return [option.opts[0]]
    return [option.secondary_opts[0]] if option.secondary_opts else []
