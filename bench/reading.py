"""How fast a container reads the files of its image."""

import os
from pathlib import Path

from bench.engines import Engine
from bench.measure import Bench

# The least that all of Debian's files hold.
_TREE_BYTES = 180_000_000

# Piped, since tar that sees /dev/null leaves out the reading.
_READ = "begin=$(date +%s%N); bytes=$(tar -cf - --one-file-system / | wc -c); echo $bytes $(($(date +%s%N) - begin))"


def read_cold(engine: Engine, bench: Bench) -> float:
    """Read all of Debian's files, none of which is in memory."""
    return _read(engine, bench, cold=True)


def read_warm(engine: Engine, bench: Bench) -> float:
    """Read all of Debian's files just after they were read."""
    return _read(engine, bench, cold=False)


def _read(engine: Engine, bench: Bench, *, cold: bool) -> float:
    """Return what a clock in the container says."""
    container = f"read-{bench.round}"
    engine("run", "--detach", "--name", container, "--network=none", bench.debian(engine), "sleep", "3600")
    try:
        if cold:
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3")
        else:
            engine("exec", container, "sh", "-c", _READ)
        read_bytes, took_ns = map(int, engine("exec", container, "sh", "-c", _READ).split())
    finally:
        engine.remove(container)
    if read_bytes < _TREE_BYTES:
        raise RuntimeError(f"{engine.name}: {read_bytes:,} bytes are not all of Debian")
    return took_ns / 1e9
