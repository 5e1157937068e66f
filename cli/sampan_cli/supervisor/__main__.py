"""The supervisor's process: ``python -m sampan_cli.supervisor DATA_ROOT RUN_ROOT START_TIMEOUT_S ALSO [REPORT_FD]``.

``sampan up`` becomes this by exec, so that what parses its flags is not kept in memory for the life of the engine.
ALSO names services to keep besides, separated by commas. With REPORT_FD it is in the background: ``ok``, or why the
engine could not be started, is written there.
"""

import contextlib
import os
import sys
from pathlib import Path

from sampan.errors import SampanError
from sampan.layout import Layout
from sampan.service.notify import notify
from sampan.sys.closed import UMASK
from sampan_cli.supervisor.starting import FIRST_LISTENER, LISTEN_VARIABLES
from sampan_cli.supervisor.supervisor import Supervisor


def main(argv: list[str]) -> int:
    """Run the engine and return the exit code."""
    data_root, run_root, start_timeout_s, also, *rest = argv
    layout = Layout(Path(data_root), Path(run_root))
    background = bool(rest)
    report_fd = int(rest[0]) if background else sys.stderr.fileno()
    if background:
        os.set_inheritable(report_fd, False)  # the services must not keep it open
    listeners = _passed_by_systemd(background=background)
    _leave_where_it_was_typed(report_fd, len(listeners))

    def report(text: str) -> None:
        # Whoever started the engine may be gone; the engine goes on without it.
        with contextlib.suppress(OSError):
            os.write(report_fd, text.encode() if background else f"sampan: {text}\n".encode())
            if background:
                os.close(report_fd)

    def on_ready() -> None:
        notify("READY=1")
        report("ok" if background else f"the engine is ready: export DOCKER_HOST=unix://{layout.docker_socket}")

    engine = Supervisor(
        layout,
        start_timeout_s=float(start_timeout_s),
        terminal=None if background else report_fd,
        on_ready=on_ready,
        listeners=listeners,
        also=tuple(filter(None, also.split(","))),
    )
    try:
        engine.run()
    except (SampanError, OSError) as error:
        report(str(error))
        return 1
    return 0


def _passed_by_systemd(*, background: bool) -> range:
    """Return the descriptors of sd_listen_fds(3); nobody else is to have them by accident."""
    count = os.environ.get("LISTEN_FDS", "")
    mine = not background and os.environ.get("LISTEN_PID") == str(os.getpid())
    if not (mine and count.isdigit()):
        for name in LISTEN_VARIABLES:
            os.environ.pop(name, None)
        return range(0)
    passed = range(FIRST_LISTENER, FIRST_LISTENER + int(count))
    for fd in passed:
        os.set_inheritable(fd, False)
    return passed


def _leave_where_it_was_typed(report_fd: int, listeners: int) -> None:
    """Take nothing of whoever typed the command into the engine: neither its files nor its habits."""
    os.chdir("/")
    os.umask(UMASK)
    # A pipe that a shell or a test has left open in us would never end for its reader.
    first = FIRST_LISTENER + listeners
    os.closerange(first, report_fd)
    os.closerange(max(report_fd + 1, first), os.sysconf("SC_OPEN_MAX"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
