"""Where archives go to, and come from: a file, or a standard stream that is no terminal."""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Final

from sampan.errors import InvalidArgumentError, ResourceExhaustedError

_PIECE_BYTES: Final = 1 << 20


async def write(pieces: AsyncGenerator[bytes, None], output: str, what: str) -> None:
    """Write an archive to ``output``, or to stdout if that is empty. A file is there in full or not at all.

    Raises:
        InvalidArgumentError: the file cannot be made, or stdout is a terminal.
        ResourceExhaustedError: the file cannot be written: the disk is full.
    """
    if not output and sys.stdout.isatty():
        raise InvalidArgumentError(f"cowardly refusing to {what} to a terminal. Use the -o flag or redirect")
    target = _new_file(Path(output)) if output else contextlib.nullcontext(sys.stdout.buffer)
    async with contextlib.aclosing(pieces):
        with target as file:
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)
            await asyncio.to_thread(file.flush)


@contextlib.contextmanager
def _new_file(target: Path) -> Iterator[IO[bytes]]:
    """Yield a file that takes the name ``target`` at the end of the block; if that fails, nothing is left."""
    if target.exists() and not target.is_file():  # /dev/null, a pipe
        with _opened(target, "wb") as file:
            yield file
        return
    try:
        fd, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise InvalidArgumentError(f"{target}: {(error.strerror or str(error)).lower()}") from error
    try:
        with open(fd, "wb") as file:
            yield file
        Path(name).rename(target)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ResourceExhaustedError(f"write {target}: {(error.strerror or str(error)).lower()}") from error
        raise


async def read(source: str) -> AsyncIterator[bytes]:
    """Yield an archive from a file, or from stdin if ``source`` is empty.

    Raises:
        InvalidArgumentError: the file cannot be read, or stdin is a terminal.
    """
    if not source and sys.stdin.isatty():
        raise InvalidArgumentError("requested load from stdin, but stdin is empty")
    opened = _opened(Path(source), "rb") if source else contextlib.nullcontext(sys.stdin.buffer)
    with opened as file:
        while piece := await asyncio.to_thread(os.read, file.fileno(), _PIECE_BYTES):
            yield piece


def _opened(path: Path, mode: str) -> IO[bytes]:
    try:
        file: IO[bytes] = path.open(mode)
    except OSError as error:
        raise InvalidArgumentError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    return file
