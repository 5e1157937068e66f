import asyncio
import contextlib
import gc
import os
from pathlib import Path

import pytest

from sampan.resource.streams import Frame, Stream
from sampan_cli.streams.console import Console
from sampan_cli.streams.output import OutputWriter

OUT, ERR = Stream.STDOUT, Stream.STDERR


async def test_frames_are_written_in_order_each_to_its_stream(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        async with OutputWriter(Console(0, out.fileno(), err.fileno())) as output:
            await output.write([Frame(stream=OUT, data=b"a"), Frame(stream=OUT, data=b"b")])
            await output.write([Frame(stream=ERR, data=b"c"), Frame(stream=OUT, data=b"d")])
            await output.write([])
    assert (tmp_path / "out").read_bytes() == b"abd"
    assert (tmp_path / "err").read_bytes() == b"c"


async def test_reader_that_has_left_is_an_error_for_the_next_write() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with pytest.raises(BrokenPipeError):
        async with OutputWriter(Console(0, theirs, theirs)) as output:
            await output.write([Frame(stream=OUT, data=b"a")])
    os.close(theirs)


async def test_a_write_that_fails_while_the_command_ends_otherwise_is_not_complained_of() -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    ours, theirs = os.pipe()
    with contextlib.suppress(InterruptedError):
        async with OutputWriter(Console(0, theirs, theirs)) as output:
            await output.write([Frame(stream=OUT, data=b"a" * (1 << 20))])  # more than the pipe takes
            raise InterruptedError
    os.close(ours)  # the thread's write fails
    del output
    await asyncio.sleep(0.1)
    gc.collect()
    assert complaints == []
    os.close(theirs)


async def test_slow_reader_gets_everything() -> None:
    ours, theirs = os.pipe()
    data = os.urandom(1 << 20)  # sixteen times what fits into the pipe
    received = b""
    async with OutputWriter(Console(0, theirs, theirs)) as output:
        await output.write([Frame(stream=OUT, data=data)])
        while len(received) < len(data):
            received += os.read(ours, 1 << 16)
    assert received == data
    os.close(ours)
    os.close(theirs)
