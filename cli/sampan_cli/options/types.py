"""Values of flags that click does not know."""

from collections.abc import Callable

import click

from sampan.docker.comma_fields import comma_fields
from sampan.docker.durations import quoted
from sampan.errors import InvalidArgumentError


def flag_fields(flag: str, text: str) -> tuple[str, ...]:
    """Return the comma-separated fields of a flag's value. InvalidArgumentError names the flag and the value."""
    try:
        return comma_fields(text)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f'invalid argument {quoted(text)} for "{flag}" flag: {error}') from error


class Parsed(click.ParamType[object]):
    """A value parsed by a function that raises InvalidArgumentError."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Parse text; a default is a value already."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except InvalidArgumentError as error:
            flags = ", ".join(reversed(param.opts)) if param else self.name
            raise click.BadParameter(f'invalid argument "{value}" for "{flags}" flag: {error}', ctx) from error
