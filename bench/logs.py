"""What it costs to write a log, and to read it again through the docker client."""

import os
import subprocess
import time

from bench.engines import Engine
from bench.measure import Bench

LINE_BYTES = 72
READ_BYTES = 100_000_000
TAIL_BYTES = 1_000_000_000
TAIL_LINES = 10


def _talk(engine: Engine, bench: Bench, name: str, size_bytes: int) -> float:
    """Have a container that nobody is attached to write lines; return how long its process took."""
    script = f"yes {'x' * (LINE_BYTES - 1)} | head -c {size_bytes}"
    begin = time.monotonic()
    engine("run", "--detach", "--name", name, "--network=none", bench.image, "sh", "-c", script)
    engine("wait", name)
    return time.monotonic() - begin


def write(engine: Engine, bench: Bench) -> float:
    """From the start of a container that writes 100 MB, and that nobody listens to, to its end."""
    name = f"written-{bench.round}"
    try:
        return _talk(engine, bench, name, READ_BYTES)
    finally:
        engine.remove(name, check=False)


def read(engine: Engine, bench: Bench) -> float:
    """``logs`` of 100 MB; every byte is counted."""
    name = f"read-{bench.round}"
    try:
        _talk(engine, bench, name, READ_BYTES)
        _count(engine, name)  # once what was written is where it stays
        begin = time.monotonic()
        received = _count(engine, name)
        took = time.monotonic() - begin
    finally:
        engine.remove(name, check=False)
    if received != READ_BYTES:
        raise RuntimeError(f"{engine.name}: {received} of {READ_BYTES} bytes")
    return took


def _count(engine: Engine, name: str) -> int:
    with subprocess.Popen(engine.command("logs", name), env=engine.env(), stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        received = 0
        while piece := os.read(client.stdout.fileno(), 1 << 20):
            received += len(piece)
    return received


def tail(engine: Engine, bench: Bench) -> float:
    """``logs --tail 10`` of 1 GB."""
    name = f"tail-{bench.round}"
    try:
        _talk(engine, bench, name, TAIL_BYTES)
        engine("logs", "--tail", str(TAIL_LINES), name)
        begin = time.monotonic()
        lines = engine("logs", "--tail", str(TAIL_LINES), name).splitlines()
        took = time.monotonic() - begin
    finally:
        engine.remove(name, check=False)
    if len(lines) != TAIL_LINES:
        raise RuntimeError(f"{engine.name}: {len(lines)} of {TAIL_LINES} lines")
    return took
