"""``cp`` of a large file, into a container and out of it again."""

from pathlib import Path
from typing import Final

from bench.engines import Engine
from bench.measure import Bench, settled_seconds

COPIED_BYTES: Final = 200_000_000
_PIECE: Final = bytes(range(256)) * 4096  # neither a hole nor what compresses to nothing


def copy_in(engine: Engine, bench: Bench) -> float:
    """``cp`` of a file into a container that runs."""
    return _copied(engine, bench, out=False)


def copy_out(engine: Engine, bench: Bench) -> float:
    """``cp`` of the same file to the host."""
    return _copied(engine, bench, out=True)


def _copied(engine: Engine, bench: Bench, *, out: bool) -> float:
    source, target = _source(bench), bench.directory / "copied"
    name = f"copy-{bench.round}"
    engine("run", "--detach", "--name", name, "--network=none", bench.image, "sleep", "3600")
    try:
        took = settled_seconds(engine, "cp", str(source), f"{name}:/large")
        if out:
            took = settled_seconds(engine, "cp", f"{name}:/large", str(target))
            size = target.stat().st_size
        else:
            size = int(engine("exec", name, "stat", "-c", "%s", "/large"))
    finally:
        target.unlink(missing_ok=True)
        engine.remove(name, check=False)
    if size != COPIED_BYTES:
        raise RuntimeError(f"{engine.name} copied {size} of {COPIED_BYTES} bytes")
    return took


def _source(bench: Bench) -> Path:
    path = bench.directory / "large"
    if not path.exists():
        with path.open("wb") as file:
            for _ in range(COPIED_BYTES // len(_PIECE)):
                file.write(_PIECE)
            file.truncate(COPIED_BYTES)
    return path
