"""A service that does nothing but what a supervisor sees: locks its data, says that it is ready, stops on SIGTERM.

It tells in ``history`` what it does, and in ``how-<name>`` whether it was forked or started by exec. Files in the
data root change how it behaves: ``fail-<name>`` holds the status it exits with at once, ``mute-<name>`` makes it never
ready, ``deaf-<name>`` makes it ignore SIGTERM, ``slow-<name>`` holds the seconds that it asks for and takes to stop.
One that is started when it is asked answers each client with its pid, and ends in order after one that has sent a byte.
"""

import fcntl
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType

from sampan.layout import Layout
from sampan.service.notify import EXTEND_TIMEOUT, kept, notify
from sampan.services import WHEN_ASKED


def main(name: str) -> None:
    """Run until SIGTERM."""
    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    layout = Layout(Path(arguments["--data-root"]), Path(arguments["--run-root"]))
    directory = layout.data(name)
    directory.mkdir(exist_ok=True)
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def say(what: str) -> None:
        print(f"{name} {what}", flush=True)
        with (layout.data_root / "history").open("a") as history:
            history.write(f"{name} {what}\n")

    def stop(_number: int, _frame: FrameType | None) -> None:
        slow = layout.data_root / f"slow-{name}"
        if slow.exists():
            notify(f"{EXTEND_TIMEOUT}={round((float(slow.read_text()) + 30) * 1e6)}")
            time.sleep(float(slow.read_text()))
        if not (layout.data_root / f"deaf-{name}").exists():
            say("stopped")
            sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    how = "by exec" if name in sys.orig_argv else "forked"  # the words of the exec that this interpreter came with
    (layout.data_root / f"how-{name}").write_text(how)
    say("started")
    failure = layout.data_root / f"fail-{name}"
    if failure.exists():
        print("the reason why", flush=True)
        sys.exit(int(failure.read_text()))
    facts = {"service": name, "pid": os.getpid(), "socket": str(layout.socket(name)), "metrics": ""}
    layout.state_file(name).write_text(json.dumps(facts))
    if not (layout.data_root / f"mute-{name}").exists():
        notify("READY=1")
    if name in WHEN_ASKED:
        answer(layout, name)
        stop(0, None)
    while True:
        signal.pause()


def answer(layout: Layout, name: str) -> None:
    """Answer clients until one sends a byte."""
    layout.unfinished(name).touch()
    entrance = kept(os.environ["NOTIFY_SOCKET"])["entrance"]
    entrance.setblocking(True)
    asked = b""
    while not asked:
        connection, _ = entrance.accept()
        with connection:
            connection.sendall(str(os.getpid()).encode())
            connection.shutdown(socket.SHUT_WR)
            asked = connection.recv(1)
    layout.unfinished(name).unlink()
