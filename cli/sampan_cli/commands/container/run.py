"""``sampan run``: create a container and start it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sampan.errors import InvalidArgumentError
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.container import ContainerOptions, container_options
from sampan_cli.options.flags import from_flags

if TYPE_CHECKING:
    from sampan_cli.backend import ContainerBackend
    from sampan_cli.streams.console import Console

# Docker's exit code for what went wrong before the container's own process ran.
ENGINE_ERROR = 125


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The flags of ``run`` alone."""

    detach: bool
    sig_proxy: bool
    detach_keys: str
    timing: bool = False


@dataclass(slots=True)
class Timing:
    """How long each phase of a start took, for ``--timing``."""

    phases: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure one."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.phases.append((name, time.monotonic() - begin))

    def client(self) -> None:
        """Measure the time from the process's start until now: Python, its modules, the connection."""
        from sampan.sys.processes import age_s

        self.phases.append(("client", age_s()))

    def __str__(self) -> str:
        rows = [*self.phases, ("in all", sum(seconds for _, seconds in self.phases))]
        return "timing: " + ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in rows)


@sampan_command(
    "run",
    context_settings={"allow_interspersed_args": False},
    examples="""
    sampan run --rm -it debian:12 bash
    sampan run -d --name web -p 127.0.0.1:8080:80 nginx
    echo hi | sampan run --rm -i busybox cat
    sampan run --rm -v "$PWD":/src -w /src --memory 512m --cpus 1.5 python:3.12 python build.py
    """,
)
@container_options
@click.option("--detach", "-d", is_flag=True, help="Run the container in the background and print its ID.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on to the process.")
@click.option("--detach-keys", default="", help="Override the key sequence for detaching the container.")
@click.option(
    "--timing", is_flag=True,
    help="Say on stderr how long each phase took: client, create (image and snapshot), start, and the process's run.",
)  # fmt: skip
@click.pass_obj
def command(
    session: Session, /, detach: bool, sig_proxy: bool, detach_keys: str, timing: bool, **flags: object
) -> None:
    """Create and run a new container from an image.

    Exits with the container's exit code; 125 if the engine fails, 126 if the command cannot be executed, 127 if it is
    not there.
    """
    options, run = from_flags(ContainerOptions, flags), RunOptions(detach, sig_proxy, detach_keys, timing)

    async def work(engine: "ContainerBackend") -> int:
        from sampan_cli.streams.console import Console

        return await run_container(engine, options, run, Console())

    session.run(work, engine_exit_code=ENGINE_ERROR)


async def run_container(
    engine: "ContainerBackend", options: ContainerOptions, run: RunOptions, console: "Console"
) -> int:
    """Create, start and stand for the container; return the exit code.

    Raises:
        SampanError: it could not be created or started. One with --rm is gone then.
    """
    from sampan_cli.commands.container.creation import create
    from sampan_cli.options.spec import attached_streams, build_spec
    from sampan_cli.streams.attached import Foreground, in_foreground

    if run.detach and options.attach:
        raise InvalidArgumentError("conflicting options: cannot specify both --attach and --detach")
    spec = build_spec(options, os.environ, Path.cwd())
    streams = () if run.detach else attached_streams(options)
    process = spec.process
    if run.detach:
        process = replace(process, attach_stdin=False, attach_stdout=False, attach_stderr=False, stdin_once=False)
    foreground = Foreground(
        container="",
        stdin="stdin" in streams and options.interactive,
        stdout="stdout" in streams,
        stderr="stderr" in streams,
        tty=options.tty,
        sig_proxy=run.sig_proxy,
        detach_keys=run.detach_keys,
        removed=options.rm,
    )
    foreground.check(console)
    if options.tty:
        process = replace(process, console_size=console.size())
    timing = Timing()
    if run.timing:
        timing.client()
    with timing.phase("create"):
        container = await create(engine, options, replace(spec, process=process))
    started = 0.0

    async def start() -> None:
        nonlocal started
        with timing.phase("start"):
            await engine.containers.start(container)
        started = time.monotonic()

    code = 0
    try:
        if run.detach:
            await start()
        else:
            code = await in_foreground(engine, foreground.of(container), console, start)
            timing.phases.append(("run", time.monotonic() - started))
    except BaseException:
        if options.rm:
            await _remove_if_not_started(engine, container)
        raise
    if run.detach:
        click.echo(container)
    if run.timing:
        click.echo(str(timing), err=True)
    return code


async def _remove_if_not_started(engine: "ContainerBackend", container: str) -> None:
    """Remove what --rm can no longer remove because it never ran."""
    from sampan.errors import SampanError

    try:
        # Without force: a container that does run after all is left alone.
        await engine.containers.remove(container, volumes=True)
    except SampanError:
        return  # the engine was faster, or is gone; the first error is the one to tell
