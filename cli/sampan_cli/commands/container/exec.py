"""``sampan exec``: run a further process in a running container."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import from_flags

if TYPE_CHECKING:
    from sampan.resource.exec import ExecSpec
    from sampan_cli.backend import ContainerBackend
    from sampan_cli.streams.console import Console


@dataclass(frozen=True, slots=True)
class ExecOptions:
    """The command line of ``sampan exec``."""

    container: str
    command: tuple[str, ...]
    detach: bool
    detach_keys: str
    env: tuple[str, ...]
    env_file: tuple[str, ...]
    interactive: bool
    privileged: bool
    tty: bool
    user: str
    workdir: str


@sampan_command(
    "exec",
    context_settings={"allow_interspersed_args": False},
    examples="""
    sampan exec -it web sh
    sampan exec -u postgres db psql -c 'select 1'
    tar c . | sampan exec -i web tar x -C /srv
    """,
)
@click.argument("container", shell_complete=completing.containers)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--detach", "-d", is_flag=True, help="Run the command in the background.")
@click.option("--detach-keys", default="", help="Override the key sequence for detaching.")
@click.option("--env", "-e", multiple=True, help="Set environment variables.")
@click.option("--env-file", multiple=True, help="Read in a file of environment variables.")
@click.option("--interactive", "-i", is_flag=True, help="Keep STDIN open.")
@click.option("--privileged", is_flag=True, help="Give extended privileges to the command.")
@click.option("--tty", "-t", is_flag=True, help="Allocate a pseudo-TTY.")
@click.option("--user", "-u", default="", help="Username or UID (format: <name|uid>[:<group|gid>]).")
@click.option("--workdir", "-w", default="", help="Working directory inside the container.")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """Execute a command in a running container and exit with its exit code."""
    options = from_flags(ExecOptions, flags)

    async def work(engine: "ContainerBackend") -> int:
        from sampan_cli.streams.console import Console

        return await execute(engine, options, Console())

    session.run(work)


async def execute(engine: "ContainerBackend", options: ExecOptions, console: "Console") -> int:
    """Run the command and return its exit code; 0 at once if it is in the background.

    Raises:
        CommandNotFoundError, CommandNotExecutableError: it could not be started.
        ConflictError: the container does not run.
        DetachedError: the user detached; the command goes on.
        InvalidArgumentError: a terminal is needed and not there.
    """
    from contextlib import aclosing

    from sampan.errors import InvalidArgumentError
    from sampan.resource.streams import ExecStart
    from sampan_cli.streams.attached import DetachedError
    from sampan_cli.streams.pump import Pump

    stdin = options.interactive and not options.detach
    if options.tty and stdin and not console.stdin_is_terminal:
        raise InvalidArgumentError("the input device is not a TTY")
    execs = engine.execs
    identity = await execs.create(options.container, _spec(options, console))
    start = ExecStart(options.detach, console_size=console.size())
    async with aclosing(Pump(lambda given: execs.start(identity, start, given), console, stdin, options.tty)) as pump:
        await pump.open()
        if options.detach:
            return 0
        if await pump.run():
            raise DetachedError
    return (await execs.get(identity)).exit_code or 0


def _spec(options: ExecOptions, console: "Console") -> "ExecSpec":
    from sampan.resource.exec import ExecSpec
    from sampan_cli.options.variables import environment

    return ExecSpec(
        args=options.command,
        env=tuple(environment(options.env, options.env_file, os.environ)),
        working_dir=options.workdir,
        user=options.user,
        tty=options.tty,
        attach_stdin=options.interactive and not options.detach,
        attach_stdout=not options.detach,
        attach_stderr=not options.detach,
        privileged=options.privileged,
        detach_keys=options.detach_keys,
        console_size=console.size() if options.tty else None,
    )
