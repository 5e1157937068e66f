"""The supervisor's part in warm starts of the command line: the socket, and a warm parent while there are callers.

Who may connect is who may use the engine's sockets. The warm parent is forked with the first connection, which waits
meanwhile for about as long as a process of its own would take to start, and ends when nobody has come for a while.
"""

import contextlib
import os
import signal
import socket
import sys
import traceback
from typing import Final, NoReturn

from sampan.layout import Layout
from sampan.sys.closed import share
from sampan.sys.command_line import forget_environment, show_command_line
from sampan.sys.processes import die_with_parent
from sampan_cli.supervisor.child import Child
from sampan_cli.supervisor.environment import ENVIRONMENT
from sampan_cli.supervisor.starting import CommonCode
from sampan_cli.warm.request import SOCKET, is_obeyed_at_start

_BACKLOG: Final = 128

_GROUP: Final = "sampan"


class WarmStarts:
    """The socket of an engine's command lines. Its owner waits for it while there is no warm parent, and for that."""

    def __init__(self, layout: Layout, code: CommonCode) -> None:
        """Take the socket over from a supervisor that was killed. OSError if it cannot be made."""
        self._layout = layout
        self._code = code
        self._path = layout.run_root / SOCKET
        self._path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o177)
        try:
            self.listener.bind(str(self._path))
        finally:
            os.umask(before)
        self.listener.listen(_BACKLOG)
        share(self._path, _GROUP)
        self.listener.setblocking(False)

    def fork(self) -> Child | None:
        """Fork a warm parent.

        None if there can be none, because this process is not what a new one would be: the code on disk is another by
        now, or variables have made it so. Whoever waits is let go then.
        """
        own = [name for name in os.environb if is_obeyed_at_start(name) and os.fsdecode(name) not in ENVIRONMENT]
        if own or not self._code.is_current():
            self.turn_away()
            return None
        ours = os.getpid()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                self._be_warm_parent(ours)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return Child("warm parent", pid, os.pidfd_open(pid))

    def turn_away(self) -> None:
        """Let go of all who have connected: they run their commands themselves."""
        with contextlib.suppress(OSError):
            while True:
                self.listener.accept()[0].close()

    def close(self) -> None:
        """Remove the socket."""
        self.listener.close()
        self._path.unlink(missing_ok=True)

    def _be_warm_parent(self, supervisor: int) -> NoReturn:
        code = 1
        try:
            os.setsid()
            die_with_parent(supervisor)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            _let_go_of_all_but(self.listener.fileno())
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            roots = ("--data-root", str(self._layout.data_root), "--run-root", str(self._layout.run_root))
            with contextlib.suppress(OSError):
                show_command_line([sys.executable, "-m", "sampan_cli.warm", *roots])
            from sampan_cli.warm.caller import Standing
            from sampan_cli.warm.parent import WarmParent, load, run
            from sampan_cli.warm.worker import Warm

            load()
            forget_environment()
            WarmParent(self.listener, Warm(Standing.own(), CommonCode.of_now().is_current, run)).serve()
            code = 0
        except BaseException:  # noqa: BLE001  # nothing of the supervisor's may run on in here
            traceback.print_exc()
        finally:
            os._exit(code)


def _let_go_of_all_but(listener: int) -> None:
    """Close what the supervisor holds, the roots' locks among it; errors still go to its log."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.closerange(3, listener)
    os.closerange(listener + 1, 1 << 20)
