"""What every command is given: which engine it is about, and the way to talk to it."""

import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sampan.errors import SampanError
from sampan.layout import DEFAULT_DATA_ROOT, DEFAULT_RUN_ROOT, Layout
from sampan.services import STARTED

if TYPE_CHECKING:  # gRPC takes 140 ms to import, and half of the commands' lives are `--help`
    from contextlib import AbstractAsyncContextManager

    from sampan_cli.backend import ConnectedEngine
    from sampan_cli.remote.bridge import Bridge
    from sampan_cli.remote.dialing import Dialer
    from sampan_cli.remote.hosts import Host

_FAILURE: Final = 1  # the exit code of what has none of its own

# The third Ctrl-C leaves without cleaning up.
_PATIENCE: Final = 3


# What writing our output fails with when there is no room for it.
_PROTOBUF_S_WORDS: Final = ("Value out of range", "Timestamp is not valid", "Duration is not valid")
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


@dataclass(slots=True)
class Session:
    """The engine that the command line names. Flags after a subcommand change it before the command runs."""

    layout: Layout
    default: Layout | None = None  # that of the roots alone, where a context or a host leads elsewhere
    context: str = "default"
    elsewhere: "Host | None" = None  # an engine that is reached by its Docker API's address; ``layout`` is not its own
    bridge: "Bridge | None" = None  # by which it is reached
    tells_calls: bool = False  # every call to a service is told on stderr

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Session":
        """Return the session for ``$SAMPAN_DATA_ROOT`` and ``$SAMPAN_RUN_ROOT``, or the default roots."""
        data_root = environ.get("SAMPAN_DATA_ROOT") or DEFAULT_DATA_ROOT
        run_root = environ.get("SAMPAN_RUN_ROOT") or DEFAULT_RUN_ROOT
        return cls(Layout(Path(data_root).absolute(), Path(run_root).absolute()))

    def here(self, what: str) -> Layout:
        """Return where the engine is, for a command that is about processes and files of this machine.

        Raises:
            CommandError: it is elsewhere; ``what`` names the command.
        """
        if self.elsewhere is not None:
            raise CommandError(
                f"`sampan {what}` is about an engine of the machine that it runs on, not about {self.elsewhere}"
            )
        return self.layout

    def connect(self) -> "AbstractAsyncContextManager[ConnectedEngine]":
        """Return the engine, connected within. Nothing is sent before the first call to one of this machine.

        Raises, on entering:
            SampanError: the engine is elsewhere, and cannot be reached; see ``remote.dialing.Dialer.ask``.
        """
        from sampan.engine.engine import Engine

        dialer = self._dialer()
        if dialer is None:
            return Engine.connect(self.layout, tell=_tell if self.tells_calls else None)
        from sampan_cli.remote.bridge import Bridge

        self.bridge = Bridge(dialer)
        return _over(self.bridge, _tell if self.tells_calls else None)

    def _dialer(self) -> "Dialer | None":
        """Return who connects to the engine; None: its sockets are here, and open."""
        if self.elsewhere is None and not self.layout.gate_marker.exists():
            return None
        from sampan_cli.remote.dialing import Dialer
        from sampan_cli.remote.hosts import UnixHost

        return Dialer(self.elsewhere or UnixHost(self.layout.docker_socket))

    def run(self, work: "Callable[[ConnectedEngine], Awaitable[int | None]]", *, engine_exit_code: int = 1) -> None:
        """Run ``work`` with a connected engine and leave the program with the exit code that it returns.

        ``engine_exit_code`` is for what goes wrong at the engine, 125 for ``run``. Signals that end a program cancel
        ``work``, so that it can clean up; a terminal must not stay in raw mode.
        """
        import asyncio

        stopped_by: list[int] = []

        async def connected() -> int:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None

            def stop(number: int) -> None:
                stopped_by.append(number)
                if len(stopped_by) == 1:
                    task.cancel()  # once: a second one would cut short what the first set in motion
                elif len(stopped_by) == _PATIENCE:
                    os._exit(128 + number)

            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup: it is nothing to us
                    loop.add_signal_handler(number, stop, number)
            async with self.connect() as engine:
                return await work(engine) or 0

        try:
            code = asyncio.run(connected())
        except asyncio.CancelledError:
            code = 128 + (stopped_by or [signal.SIGTERM])[0]
        except KeyboardInterrupt:
            code = 128 + signal.SIGINT
        except BrokenPipeError:
            code = 128 + signal.SIGPIPE  # nobody reads our output; what a C program would die of
            _drop_output()
        except Exception as error:
            raise self._error(error, engine_exit_code) from error
        if code:
            raise click.exceptions.Exit(code)

    def _error(self, error: BaseException, engine_exit_code: int) -> Exception:
        """Return what to tell the user, or the error itself if it is a bug of ours."""
        from sampan.errors import InternalError, ServiceGoneError
        from sampan.wire.status import wire_for

        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, ServiceGoneError):
            return self._connection_error(engine_exit_code)
        if isinstance(error, InternalError):
            log = self.elsewhere or self.layout.run_root / "logs"
            return CommandError(f"the engine failed, its logs in {log} say why: {error}", engine_exit_code)
        if isinstance(error, SampanError):
            own = wire_for(error).exit_code
            return CommandError(str(error), engine_exit_code if own == _FAILURE else own)
        assert isinstance(error, Exception)
        if (refusal := _unsayable(error)) is not None:
            return CommandError(refusal, engine_exit_code)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            # Python would try once more to write what it holds, and say so in words of its own.
            os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)
            return CommandError(f"write: {os.strerror(error.errno).lower()}")
        return error

    def _connection_error(self, exit_code: int) -> "CommandError":
        if self.bridge is not None and self.bridge.problem is not None:
            return CommandError(str(self.bridge.problem), exit_code)
        if self.elsewhere is not None:
            return CommandError(f"the connection to a service of the engine at {self.elsewhere} has ended", exit_code)
        if any(_is_closed_to_us(self.layout.socket(service)) for service in STARTED):
            return CommandError(
                f"permission denied while trying to connect to the Sampan engine at {self.layout.run_root}: "
                "members of the group 'sampan' and root may",
                exit_code,
            )
        if not self._is_up():
            return EngineDownError(self.layout, exit_code)
        return CommandError(
            f"A service of the engine at {self.layout.run_root} does not answer; see: sampan status", exit_code
        )

    def _is_up(self) -> bool:
        from sampan_cli.supervisor import roots

        process = roots.supervisor(self.layout)
        if process is not None:
            process.close()
        return process is not None


def _drop_output() -> None:
    """Let go of output that nobody took: the interpreter's end would try it once more, and tell that it cannot."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _tell(method: str, took_s: float) -> None:
    click.echo(f"debug: {method}: {took_s * 1000:.1f} ms", err=True)


@asynccontextmanager
async def _over(bridge: "Bridge", tell: Callable[[str, float], None] | None) -> "AsyncIterator[ConnectedEngine]":
    from sampan.engine.engine import Engine

    async with bridge.open() as layout, Engine.connect(layout, tell=tell) as engine:
        yield engine


def _is_closed_to_us(path: Path) -> bool:
    """Say whether the kernel forbids to connect, in one step: while an engine starts, sockets come and go."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except OSError as error:
            return isinstance(error, PermissionError)
    return False


class CommandError(click.ClickException):
    """Something went wrong, said as ``sampan: <text>``."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Print the message on stderr."""
        click.echo(f"sampan: {self.message}", err=True)


class Told:
    """Says what goes wrong within, as commands that talk to an engine do; for those that talk to none."""

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, SampanError | OSError):
            raise CommandError(str(error)) from error


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
            session.elsewhere = None
            path, now = Path(value).absolute(), session.layout
            session.layout = Layout(path, now.run_root) if field == "data_root" else Layout(now.data_root, path)

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


def _unsayable(error: Exception) -> str | None:
    """Return what to tell about an argument that no message to the engine can hold; None for other errors.

    Requests are made of what the user typed, so it is protobuf that finds a number too large for its field, or a text
    that is no UTF-8.
    """
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        shown = error.object.encode(errors="surrogateescape").decode(errors="replace")
        return f"{shown[:100]!r} is not UTF-8: the engine takes no other text"
    if isinstance(error, ValueError) and str(error).startswith(_PROTOBUF_S_WORDS):
        said = str(error)
        return f"{said[:1].lower()}{said[1:200]}"
    return None
