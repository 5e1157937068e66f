"""Values of flags that click does not know."""

from collections.abc import Callable

import click

from sampan.errors import InvalidArgumentError


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
