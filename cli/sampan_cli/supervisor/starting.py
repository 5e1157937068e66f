"""How a service becomes a process: forked from the supervisor, or by exec of ``python -m <name>``.

The supervisor has loaded what all services have in common, so that one that is forked begins where an interpreter of
its own would be after some hundred milliseconds, and its memory is the others' too for as long as nobody writes to it.
By exec it goes when the code on disk is another than what was loaded: a service that dies after an upgrade comes back
as the new one and never as half of each.
"""

import contextlib
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Self

from sampan.layout import Layout
from sampan.service.lean import lean_imports
from sampan.services import WHEN_ASKED
from sampan.sys.command_line import show_command_line
from sampan_cli.supervisor.child import Child
from sampan_cli.supervisor.environment import ENVIRONMENT

# What most services import, and all that these import. None makes an object of gRPC's, which would not outlive a fork.
_COMMON: Final = ("sampan.service.harness", "sampan.store.database", "sampan.resource.protocols", "sampan.client.calls")

# Python ignores these and exec passes that on; a container must not inherit it.
_DEFAULT_SIGNALS: Final = (signal.SIGPIPE, signal.SIGXFSZ)

# What the supervisor catches. A service that is forked has the defaults again before it can be told anything.
_CAUGHT: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_HIGHEST_DESCRIPTOR: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class CommonCode:
    """The code that is loaded in this process, as it was on disk then: mtime in ns and size of each file."""

    files: Mapping[str, tuple[int, int]]

    @classmethod
    def load(cls) -> Self:
        """Load it. To be called while there is one thread, before anything that a fork must not take along."""
        with lean_imports():
            for module in (*_COMMON, *(f"{name}.configuration" for name in WHEN_ASKED)):
                importlib.import_module(module)
        gc.collect()
        gc.freeze()  # what nobody touches stays the same memory in all processes
        return cls.of_now()

    @classmethod
    def of_now(cls) -> Self:
        """Take what is loaded as it is on disk now."""
        paths = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        return cls({path: _stamp(path) for path in paths if path is not None})

    def is_current(self) -> bool:
        """Whether it is what an interpreter that started now would load. Takes some milliseconds."""
        with contextlib.suppress(OSError):
            return all(_stamp(path) == stamp for path, stamp in self.files.items())
        return False


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116  # hundreds for each command: a Path costs more than the call
    return status.st_mtime_ns, status.st_size


# What sd_listen_fds(3) goes by. Only who the descriptors are passed to is told.
LISTEN_VARIABLES: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")

# The first descriptor of those that are passed.
FIRST_LISTENER: Final = 3


def start(name: str, layout: Layout, notify: Path, log: Path, code: CommonCode, listeners: Sequence[int] = ()) -> Child:
    """Start the service ``name`` on the engine's roots.

    It gets a session of its own, so that Ctrl-C reaches the supervisor alone, which then stops the services in order.
    It keeps ``listeners``, descriptors of ours from ``FIRST_LISTENER`` on. It writes to ``log`` directly: were there a
    pipe to the supervisor, a service could not outlive it.
    """
    words = [sys.executable, "-m", name, "--data-root", str(layout.data_root), "--run-root", str(layout.run_root)]
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if ENVIRONMENT.items() <= os.environ.items() and code.is_current():
            pid = _fork(name, words, notify, fd, listeners)
        else:
            pid = _spawn(words, notify, fd, listeners)
    finally:
        os.close(fd)
    return Child(name, pid, os.pidfd_open(pid))


def _spawn(words: Sequence[str], notify: Path, log_fd: int, listeners: Sequence[int]) -> int:
    inherited = {key: value for key, value in os.environ.items() if listeners or key not in LISTEN_VARIABLES}
    return os.posix_spawn(
        words[0],
        list(words),
        {**inherited, **ENVIRONMENT, "NOTIFY_SOCKET": str(notify)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log_fd, 1),
            (os.POSIX_SPAWN_DUP2, log_fd, 2),
            *((os.POSIX_SPAWN_DUP2, each, each) for each in listeners),  # takes "close on exec" from it
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULT_SIGNALS,
    )


def _fork(name: str, words: Sequence[str], notify: Path, log_fd: int, listeners: Sequence[int]) -> int:
    # A signal for the child would be written to our wakeup descriptor by the handler that it begins with.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _CAUGHT)
    try:
        pid = os.fork()
        if pid == 0:
            _become(name, words, notify, log_fd, listeners)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _become(name: str, words: Sequence[str], notify: Path, log_fd: int, listeners: Sequence[int]) -> NoReturn:
    """Be the service, in a process that was just forked. Nothing of the supervisor's runs on in here."""
    code = 1
    try:
        os.setsid()
        _be_nobody_s_child(log_fd, len(listeners))
        for variable in () if listeners else LISTEN_VARIABLES:
            os.environ.pop(variable, None)
        os.environ["NOTIFY_SOCKET"] = str(notify)
        sys.argv[:] = [name, *words[3:]]
        with contextlib.suppress(OSError):  # it is called like the supervisor, then
            show_command_line(words)
        with lean_imports():
            main = importlib.import_module(f"{name}.main").main
        code = main()
    except SystemExit as end:
        code = _code_of(end)
    except BaseException:  # noqa: BLE001  # as the interpreter would
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _be_nobody_s_child(log_fd: int, listeners: int) -> None:
    """Let go of what the supervisor holds: its handlers, and its descriptors, the roots' locks among them.

    The objects of these descriptors stay, never to be closed: the supervisor's frames are below ours.
    """
    signal.set_wakeup_fd(-1)
    for number in _CAUGHT:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.closerange(FIRST_LISTENER + listeners, _HIGHEST_DESCRIPTOR)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _code_of(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    sys.stderr.write(f"{end.code}\n")
    return 1
