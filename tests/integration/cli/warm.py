"""Commands of an engine that are handed to a warm process, and how to look at that."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.engine import SAMPAN, Engine
from tests.support.tools import catches, eventually, status

# Runs until it is ended, and reads nothing.
LASTING = ("events",)


def warm_parent(engine: Engine) -> int | None:
    """Return the pid of the engine's warm parent, if there is one."""
    words = {b"sampan_cli.warm", os.fsencode(engine.layout.run_root)}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if words <= set((directory / "cmdline").read_bytes().split(b"\0")):
                return int(directory.name)
    return None


def workers(engine: Engine) -> list[int]:
    """Return the processes that run commands just now, or begin to; the one that waits for a command is none."""
    parent = warm_parent(engine)
    if parent is None:
        return []
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    with contextlib.suppress(OSError):
        living = [int(pid) for pid in listed.read_text().split() if status(int(pid), "State")[:1] != "Z"]
        waiting = [pid for pid in living if b"sampan_cli.warm.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return [pid for pid in living if pid not in waiting[-1:]]  # one that was told still looks as if it waited
    return []


def commands(engine: Engine) -> list[int]:
    """Return the workers that have become who called them and have begun: they are named for it."""
    return [pid for pid in workers(engine) if status(pid, "Name") == "sampan"]


def command(engine: Engine) -> int:
    """Return the worker of the only command, once it has begun."""
    found: list[int] = []

    def begun() -> bool:
        found[:] = commands(engine)
        return len(found) == 1

    eventually(begun, "a worker runs the command")
    return found[0]


@contextlib.contextmanager
def lasting(
    engine: Engine, *prefix: str, env: Mapping[str, str] | None = None, **given: object
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Run a command that lasts; yield its client and its worker. Whatever is left is killed when the block ends."""
    client = subprocess.Popen(  # type: ignore[call-overload]
        [*prefix, SAMPAN, *LASTING],
        **{"env": env or engine.env(), "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **given},
    )
    try:
        worker = command(engine)
        # It is the last that it gets a handler for.
        eventually(lambda: catches(worker, signal.SIGTERM), "the command is in its loop")
        yield client, worker
    finally:
        if client.poll() is None:
            client.kill()
        client.communicate()
