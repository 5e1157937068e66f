"""Commands whose modules are imported when they are used, and whose one-line helps are known before."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from sampan_cli.app.docker_flags import as_click_writes
from sampan_cli.app.session import root_options

# Docker's exit code for a flag that it does not know, and for too few or too many arguments.
USAGE_ERROR: Final = 125
_ARGUMENT_ERROR: Final = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A command and its one-line help."""

    place: str  # "module" or "module:name" in ``sampan_cli.commands``; without a name it is ``command`` there
    help: str
    hidden: bool = False


class SampanCommand(click.Command):
    """A command that also takes the engine's roots, shows examples as they are written, and says ``--help`` alone."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.params += root_options(hidden=True)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the command line; a mistake in it has Docker's exit code."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            error.exit_code = _exit_code(error)  # type: ignore[misc]  # click reads it from the instance
            raise

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line, in which flags may be written as Docker's may."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        return super().parse_args(ctx, list(as_click_writes(args, options, mixed=ctx.allow_interspersed_args)))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples below the options."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")


def _exit_code(error: click.UsageError) -> int:
    too_few = isinstance(error, click.MissingParameter) and isinstance(error.param, click.Argument)
    too_many = error.message.startswith("Got unexpected extra argument")
    return _ARGUMENT_ERROR if too_few or too_many else USAGE_ERROR


class LazyGroup(click.Group):
    """A group that imports a subcommand's module when it is called."""

    def __init__(self, *args: Any, entries: Mapping[str, Entry], show_roots: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.entries = entries
        self.params += root_options(hidden=not show_roots)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names, in the order of the table, plain commands first."""
        return list(self.entries)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a subcommand."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.place.partition(":")
        command = getattr(importlib.import_module(f"sampan_cli.commands.{module}"), name or "command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' helps without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.entries.items() if not entry.hidden])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of subcommands without importing them."""
        items = [
            CompletionItem(name, help=entry.help)
            for name, entry in self.entries.items()
            if name.startswith(incomplete) and not entry.hidden
        ]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand, naming the nearest one if there is none."""
        if args and args[0] not in self.entries and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], self.entries, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            error = click.UsageError(f"'{args[0]}' is not a {ctx.command_path} command.{hint}", ctx)
            error.exit_code = 1  # type: ignore[misc]  # Docker's, unlike that of a wrong flag
            raise error
        return super().resolve_command(ctx, args)


def sampan_command(
    name: str, *, examples: str = "", **attributes: object
) -> Callable[[Callable[..., object]], SampanCommand]:
    """Make a SampanCommand of a function, as ``click.command`` does."""
    return click.command(name, cls=SampanCommand, examples=examples, **attributes)
