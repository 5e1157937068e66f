"""``sampan up``: start the engine."""

import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from sampan.errors import ConflictError, SampanError
from sampan.layout import Layout
from sampan.service.config import CONFIG_DIRECTORY, check_files
from sampan.sys.closed import RUN_ROOT, make_closed
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import CommandError, Session
from sampan_cli.supervisor.environment import ENVIRONMENT

_LOG_BYTES = 4096


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The command line of ``sampan up``."""

    layout: Layout
    detach: bool
    start_timeout_s: float
    cri: bool = False

    def arguments(self) -> list[str]:
        """The supervisor's command line."""
        # -P: the directory in which someone typed this is no place to import from.
        module = [sys.executable, "-P", "-m", "sampan_cli.supervisor"]
        also = "crid" if self.cri else ""
        return [*module, str(self.layout.data_root), str(self.layout.run_root), f"{self.start_timeout_s:g}", also]


@sampan_command(
    "up",
    examples="""
    sampan up --detach
    sampan --data-root /srv/two --run-root /run/two up --detach
    sampan up --detach --cri
    """,
)
@click.option("--detach", "-d", is_flag=True, help="Return when every service is ready; the engine goes on.")
@click.option(
    "--config-dir",
    type=click.Path(file_okay=False, exists=True, resolve_path=True),
    help="Read <service>.toml from this directory. [env: SAMPAN_CONFIG_DIR; default: /etc/sampan]",
)
@click.option(
    "--timeout", "start_timeout_s", type=click.FloatRange(min=0.1), default=60.0, show_default=True,
    help="Give up if a service is not ready after this many seconds.",
)  # fmt: skip
@click.option("--cri", is_flag=True, help="Serve Kubernetes' Container Runtime Interface, too.")
@click.pass_obj
def command(session: Session, detach: bool, config_dir: str | None, start_timeout_s: float, cri: bool) -> None:
    """Start the engine: all its services, each a process of its own.

    In the foreground it shows what the services log, and stops them on Ctrl-C or SIGTERM. A service that dies is
    started again. Containers do not depend on the engine's processes: they run on when it stops.
    """
    options = UpOptions(session.here("up"), detach, start_timeout_s, cri)
    environ = {**os.environ, **ENVIRONMENT}
    if config_dir is not None:
        environ["SAMPAN_CONFIG_DIR"] = config_dir
    try:
        options.layout.check()
        check_files(Path(environ.get("SAMPAN_CONFIG_DIR", CONFIG_DIRECTORY)))
        if not detach:
            os.execve(sys.executable, options.arguments(), environ)  # noqa: S606 - no shell is meant
        start_in_background(options, environ)
    except SampanError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"cannot start the engine: {error}") from error


def start_in_background(options: UpOptions, environ: Mapping[str, str]) -> None:
    """Start a supervisor and return when the engine is ready.

    Raises:
        SampanError: it is not going to be; everything that was started is stopped.
    """
    log = options.layout.run_root / "logs" / "sampan.log"
    make_closed(options.layout.run_root, RUN_ROOT)
    make_closed(log.parent)
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    pid = os.posix_spawn(
        sys.executable,
        [*options.arguments(), str(theirs)],
        environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    os.close(theirs)
    try:
        with open(ours, "rb") as pipe:
            report = pipe.read().decode("utf-8", "replace")
    except KeyboardInterrupt:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        raise
    if report == "ok":
        return
    os.waitpid(pid, 0)
    raise ConflictError(report or f"the supervisor died; last lines of {log}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_BYTES))
        return file.read().decode("utf-8", "replace")
    return ""
