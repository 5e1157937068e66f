"""What ``resource.protocols.Execs`` promises, whoever keeps it."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from sampan.errors import CommandNotFoundError, ConflictError, NotFoundError
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.exec import ExecSpec
from sampan.resource.protocols import Execs
from sampan.resource.streams import Accepted, Attached, Detached, ExecStart, Stream


async def given(*pieces: bytes) -> AsyncIterator[bytes | ConsoleSize]:
    for piece in pieces:
        yield piece


async def output(execs: Execs, id: str, *pieces: bytes, options: ExecStart = ExecStart()) -> dict[Stream, bytes]:  # noqa: B008
    """Run an exec to its end and return what it wrote."""
    written: dict[Stream, bytes] = {}
    async with aclosing(execs.start(id, options, given(*pieces))) as items:
        assert isinstance(await anext(items), Accepted)
        assert await anext(items) == Attached()
        async for item in items:
            assert not isinstance(item, Accepted | Attached | Detached)
            for frame in item:
                written[frame.stream] = written.get(frame.stream, b"") + frame.data
    return written


class ExecsContract:
    """Subclass with fixtures ``execs``, ``running`` and ``created``: containers that do and do not run.

    Their image knows ``echo``, ``cat`` and ``sleep``.
    """

    promises: tuple[type, ...] = (Execs,)

    async def test_one_that_is_made_is_found_and_has_not_run(self, execs: Execs, running: str) -> None:
        spec = ExecSpec(("echo", "hello"), attach_stdout=True)
        found = await execs.get(await execs.create(running, spec))
        assert (found.container_id, found.spec.args, found.spec.attach_stdout) == (running, spec.args, True)
        assert (found.running, found.exit_code) == (False, None)

    async def test_what_is_not_there_is_not_found(self, execs: Execs) -> None:
        with pytest.raises(NotFoundError, match="No such exec instance: nosuch"):
            await execs.get("nosuch")
        with pytest.raises(NotFoundError, match="No such container: nosuch"):
            await execs.create("nosuch", ExecSpec(("true",)))

    async def test_a_container_that_does_not_run_has_none(self, execs: Execs, created: str) -> None:
        with pytest.raises(ConflictError, match="is not running"):
            await execs.create(created, ExecSpec(("true",)))

    async def test_what_it_writes_is_told_and_its_end_recorded(self, execs: Execs, running: str) -> None:
        made = await execs.create(running, ExecSpec(("echo", "hello"), attach_stdout=True))
        assert await output(execs, made) == {Stream.STDOUT: b"hello\n"}
        found = await execs.get(made)
        assert (found.running, found.exit_code) == (False, 0)

    async def test_what_goes_in_comes_out(self, execs: Execs, running: str) -> None:
        made = await execs.create(running, ExecSpec(("cat",), attach_stdin=True, attach_stdout=True))
        assert await output(execs, made, b"typed\n", b"more\n") == {Stream.STDOUT: b"typed\nmore\n"}

    async def test_it_runs_once(self, execs: Execs, running: str) -> None:
        made = await execs.create(running, ExecSpec(("echo",), attach_stdout=True))
        await output(execs, made)
        with pytest.raises(ConflictError, match="has already run"):
            await output(execs, made)

    async def test_one_that_is_detached_is_left_when_it_runs(self, execs: Execs, running: str) -> None:
        made = await execs.create(running, ExecSpec(("sleep", "60")))
        assert await output(execs, made, options=ExecStart(detach=True)) == {}
        assert (await execs.get(made)).running

    async def test_a_command_that_is_not_there_is_told_with_its_exit_code(self, execs: Execs, running: str) -> None:
        made = await execs.create(running, ExecSpec(("missing",)))
        with pytest.raises(CommandNotFoundError, match="executable file not found in \\$PATH"):
            await output(execs, made)
        assert (await execs.get(made)).exit_code == 127

    async def test_one_that_is_killed_has_ended_and_another_kill_changes_nothing(
        self, execs: Execs, running: str
    ) -> None:
        made = await execs.create(running, ExecSpec(("sleep", "60"), attach_stdout=True))
        await execs.kill(made)  # it has not begun
        async with aclosing(execs.start(made, ExecStart(), given())) as items:
            assert isinstance(await anext(items), Accepted)
            assert await anext(items) == Attached()
            await execs.kill(made)
            assert [item async for item in items] == []
        assert (await execs.get(made)).exit_code == 137
        await execs.kill(made)
        with pytest.raises(NotFoundError):
            await execs.kill("nosuch")
