import asyncio
import os
from pathlib import Path

from sampan_cli.streams.pump import read_input


async def test_pipe_is_read_as_it_is_written_until_it_is_closed() -> None:
    ours, theirs = os.pipe()
    pieces = read_input(ours)
    os.write(theirs, b"one")
    assert await anext(pieces) == b"one"
    waiting = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0)
    assert not waiting.done()
    os.write(theirs, b"two")
    assert await waiting == b"two"
    os.close(theirs)
    assert [piece async for piece in pieces] == []
    os.close(ours)


async def test_regular_file_which_epoll_does_not_know_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    with (tmp_path / "file").open("rb") as file:
        assert b"".join([piece async for piece in read_input(file.fileno())]) == b"x" * 100_000


async def test_reading_leaves_the_descriptor_blocking() -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"x")
    await anext(read_input(ours))
    assert os.get_blocking(ours), "it is the shell's, too"
    os.close(ours)
    os.close(theirs)
