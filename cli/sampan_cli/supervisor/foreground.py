"""A service that somebody runs in their own terminal, beside an engine: the command becomes the service."""

import fcntl
import os
import sys
from collections.abc import Iterable, Mapping
from typing import NoReturn

from sampan.layout import Layout
from sampan_cli.app.session import CommandError, EngineDownError


def command_line(service: str, layout: Layout, options: Mapping[str, object]) -> list[str]:
    """Return a service's command line; what ``options`` do not say is left to its configuration."""
    # -P: the directory in which someone typed this is no place to import from.
    arguments = [sys.executable, "-P", "-m", service, "--log-format", "text"]
    arguments += ["--data-root", str(layout.data_root), "--run-root", str(layout.run_root)]
    for name, value in options.items():
        if value not in (None, False, ()):
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            arguments += [f"--{name.replace('_', '-')}", text]
    return arguments


def become(service: str, layout: Layout, arguments: Iterable[str], what: str) -> NoReturn:
    """Run a service in the place of this process.

    Raises:
        EngineDownError: there is no engine for it.
        CommandError: the engine's ``what`` is served already.
    """
    if not layout.socket("imaged").exists():
        raise EngineDownError(layout)
    _refuse_second(service, layout, what)
    sys.stdout.flush()
    os.execve(sys.executable, list(arguments), os.environ)  # noqa: S606 - no shell is meant


def _refuse_second(service: str, layout: Layout, what: str) -> None:
    """Say that it is served already: the service itself speaks of engines."""
    try:
        fd = os.open(layout.data(service) / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # the first one, or nobody who may serve one
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        raise CommandError(f"this engine's {what} is served already, by process {pid}") from None
    finally:
        os.close(fd)
