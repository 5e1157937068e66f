"""What every command is given: which engine it is about, and the way to talk to it."""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sampan.errors import SampanError
from sampan.layout import DEFAULT_DATA_ROOT, DEFAULT_RUN_ROOT, Layout

if TYPE_CHECKING:  # gRPC takes 140 ms to import, and half of the commands' lives are `--help`
    from sampan.engine.engine import Engine


@dataclass(slots=True)
class Session:
    """The engine that the command line names. Flags after a subcommand change it before the command runs."""

    layout: Layout

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Session":
        """Return the session for ``$SAMPAN_DATA_ROOT`` and ``$SAMPAN_RUN_ROOT``, or the default roots."""
        data_root = environ.get("SAMPAN_DATA_ROOT") or DEFAULT_DATA_ROOT
        run_root = environ.get("SAMPAN_RUN_ROOT") or DEFAULT_RUN_ROOT
        return cls(Layout(Path(data_root).absolute(), Path(run_root).absolute()))

    def run(self, work: "Callable[[Engine], Awaitable[int | None]]", *, engine_exit_code: int = 1) -> None:
        """Run ``work`` with a connected engine and exit with its result.

        ``engine_exit_code`` is for what goes wrong at the engine, 125 for ``run``.
        """
        import asyncio

        from sampan.engine.engine import Engine
        from sampan.errors import UnavailableError
        from sampan.wire.status import wire_for

        async def connected() -> int:
            async with Engine.connect(self.layout) as engine:
                return await work(engine) or 0

        try:
            code = asyncio.run(connected())
        except SampanError as error:
            if isinstance(error, UnavailableError) and not self._is_up():
                raise EngineDownError(self.layout, engine_exit_code) from error
            own = wire_for(error).exit_code
            raise CommandError(str(error), own if own != 1 else engine_exit_code) from error
        except KeyboardInterrupt:
            code = 130
        if code:
            raise click.exceptions.Exit(code)

    def _is_up(self) -> bool:
        from sampan_cli.supervisor import roots

        process = roots.supervisor(self.layout)
        if process is not None:
            process.close()
        return process is not None


class CommandError(click.ClickException):
    """Something went wrong, said as ``sampan: <text>``."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Print the message on stderr."""
        click.echo(f"sampan: {self.message}", err=True)


class EngineDownError(CommandError):
    """No engine answers on this root."""

    def __init__(self, layout: Layout, exit_code: int = 1) -> None:
        super().__init__(
            f"Cannot connect to the Sampan engine at {layout.run_root}. Is it running? "
            "Start it with: sampan up --detach",
            exit_code,
        )


def _set_root(field: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def callback(context: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            session = context.ensure_object(Session)
            session.layout = replace(session.layout, **{field: Path(value).absolute()})

    return callback


def root_options(*, hidden: bool) -> list[click.Parameter]:
    """Return the flags that every command takes; a group's set the session before its subcommand's do."""
    return [
        click.Option(
            [f"--{name}-root"],
            metavar="DIRECTORY",
            expose_value=False,
            is_eager=True,
            hidden=hidden,
            callback=_set_root(f"{name}_root"),
            help=f"{text} [env: SAMPAN_{name.upper()}_ROOT; default: {default}]",
        )
        for name, text, default in (
            ("data", "The engine's durable directory.", DEFAULT_DATA_ROOT),
            ("run", "The engine's sockets and other volatile things.", DEFAULT_RUN_ROOT),
        )
    ]


def new_session() -> Session:
    """Return the session of this process's environment."""
    return Session.from_environment(os.environ)
