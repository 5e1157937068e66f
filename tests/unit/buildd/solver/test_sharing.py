"""Each step once, however many want it; cancelled with the last of them."""

import asyncio

import pytest

from buildd.llb.graph import Change, change_files
from buildd.llb.ops import Copy, ExecOp, Metadata, Mount, NetMode, Node, Process
from buildd.protocol import StepError
from sampan.build.progress import Position
from sampan.errors import NoSpaceError, PermissionDeniedError, ServiceGoneError, UnavailableError
from tests.fakes.buildd import FakeFileWorker, Gate, failing, image, run
from tests.unit.buildd.solver.solving import Bench


async def test_steps_run_in_the_order_of_the_graph(solving: Bench) -> None:
    files, _ = await solving.solve(run(run(image(), "first"), "second"))
    assert solving.executor.ran == ["first", "second"]
    assert files == {"bin/sh": b"shell", "out/first": b"first", "out/second": b"second"}


async def test_two_builds_of_equal_graphs_share_what_runs(solving: Bench) -> None:
    gate = solving.executor.behaviours["slow"] = Gate({"made": b"1"})
    async with solving.build("a") as (one, shown_one), solving.build("b") as (other, shown_other):
        first = asyncio.create_task(one.solve(run(image(), "slow")))
        await gate.running.wait()
        second = asyncio.create_task(other.solve(run(image(), "slow")))
        await shown_other.said.wait()
        gate.go.set()
        assert await first == await second
    assert solving.executor.ran == ["slow"]
    # The one that came later sees what was said before.
    assert shown_one.logs == shown_other.logs == b"working\n"
    assert not shown_one.last["RUN slow"].cached
    assert shown_other.last["RUN slow"].completed_ns


async def test_different_graphs_share_an_equal_step(solving: Bench) -> None:
    gate = solving.executor.behaviours["slow"] = Gate({"made": b"1"})
    async with solving.build("a") as (one, _), solving.build("b") as (other, shown):
        first = asyncio.create_task(one.solve(run(run(image(), "slow"), "x")))
        await gate.running.wait()
        second = asyncio.create_task(other.solve(run(run(image(), "slow"), "y")))
        await shown.said.wait()
        gate.go.set()
        await asyncio.gather(first, second)
    assert sorted(solving.executor.ran) == ["slow", "x", "y"]


async def test_a_step_that_stages_share_runs_once(solving: Bench) -> None:
    common = run(image(), "common")
    left, right = run(common, "left"), run(common, "right")
    join = change_files(left, [Change(Copy("out", "/"), right)], Metadata("COPY --from=right"))
    files, _ = await solving.solve(join)
    assert sorted(solving.executor.ran) == ["common", "left", "right"]
    assert "out/left" in files


async def test_equal_steps_of_one_graph_are_one_vertex(solving: Bench) -> None:
    left, right = run(image(), "same"), run(image(), "same")
    _, shown = await solving.solve(change_files(left, [Change(Copy("out", "/copy"), right)], Metadata("COPY")))
    assert solving.executor.ran == ["same"]
    assert len(shown.last) == 3


async def test_independent_stages_run_at_the_same_time(solving: Bench) -> None:
    left, right = Gate({"left": b""}), Gate({"right": b""})
    solving.executor.behaviours |= {"left": left, "right": right}
    join = change_files(
        run(image(), "left"), [Change(Copy("right", "/"), run(image(), "right"))], Metadata("COPY --from=right")
    )
    async with solving.build() as (build, _):
        solved = asyncio.create_task(build.solve(join))
        await asyncio.gather(left.running.wait(), right.running.wait())
        left.go.set()
        right.go.set()
        await solved
    assert solving.executor.most == 2


async def test_stages_that_nobody_needs_do_not_run(solving: Bench) -> None:
    stage = run(image(), "needed")
    run(stage, "not needed")
    await solving.solve(stage)
    assert solving.executor.ran == ["needed"]


async def test_the_last_who_leaves_cancels_the_step(solving: Bench) -> None:
    gate = solving.executor.behaviours["slow"] = Gate({})
    async with solving.build("a") as (one, shown), solving.build("b") as (other, shown_other):
        first = asyncio.create_task(one.solve(run(image(), "slow")))
        await gate.running.wait()
        second = asyncio.create_task(other.solve(run(image(), "slow")))
        await shown_other.said.wait()
        first.cancel()
        await asyncio.wait([first])
        assert solving.executor.running == 1
        assert shown.last["RUN slow"].error == "context canceled"
        second.cancel()
        await asyncio.wait([second])
    assert solving.executor.cancelled == ["slow"]
    assert solving.executor.running == 0


async def test_one_of_two_leaves_and_the_other_gets_the_result(solving: Bench) -> None:
    gate = solving.executor.behaviours["slow"] = Gate({"made": b"1"})
    async with solving.build("b") as (other, shown_other):
        async with solving.build("a") as (one, _):
            first = asyncio.create_task(one.solve(run(image(), "slow")))
            await gate.running.wait()
            second = asyncio.create_task(other.solve(run(image(), "slow")))
            await shown_other.said.wait()
            first.cancel()
        gate.go.set()
        assert solving.world.files(await second)["made"] == b"1"
    assert solving.executor.cancelled == []


async def test_a_step_that_was_cancelled_runs_for_the_next_build(solving: Bench) -> None:
    gate = solving.executor.behaviours["slow"] = Gate({"made": b"1"})
    async with solving.build("a") as (one, _):
        first = asyncio.create_task(one.solve(run(image(), "slow")))
        await gate.running.wait()
        first.cancel()
    gate.go.set()
    files, shown = await solving.solve(run(image(), "slow"))
    assert files["made"] == b"1"
    assert not shown.last["RUN slow"].cached


@pytest.mark.parametrize("again", [0, 1, 3])
@pytest.mark.parametrize("pauses", range(0, 40, 2))
@pytest.mark.parametrize("solved", [False, True])
async def test_a_client_that_leaves_at_any_moment_leaves_nothing_in_use(
    solving: Bench, solved: bool, pauses: int, again: int
) -> None:
    """Also one that leaves while its build is closed, and a builder that stops soon after."""
    at = asyncio.Event()

    async def build() -> None:
        async with solving.build() as (made, _):
            await made.solve(run(image(), "first"))
            if not solved:
                at.set()
            await made.solve(run(run(image(), "first"), "second"))
            at.set()

    building = asyncio.create_task(build())
    await at.wait()
    for count in (pauses, again):
        for _ in range(count):
            await asyncio.sleep(0)
        building.cancel()
    await asyncio.wait([building])
    records = await solving.results.records()
    assert not [each for each in records if each.in_use]
    assert set(solving.keeper.leases) == {each.id for each in records if each.layers}


async def test_what_cannot_be_noted_at_the_end_is_not_in_use_for_that(
    solving: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise NoSpaceError("write cache.db: no space left on device")

    async with solving.build() as (build, _):
        await build.solve(run(run(image(), "first"), "second"))
        monkeypatch.setattr(solving.store, "write", full)
    monkeypatch.undo()
    records = await solving.results.records()
    assert len(records) > 1
    assert not [each for each in records if each.in_use]


async def test_closing_a_build_ends_its_steps(solving: Bench) -> None:
    gate = solving.executor.behaviours["slow"] = Gate({})
    async with solving.build() as (build, _):
        solved = asyncio.create_task(build.solve(run(image(), "slow")))
        await gate.running.wait()
    assert solving.executor.cancelled == ["slow"]
    with pytest.raises(UnavailableError, match="the builder stops"):
        await solved


async def test_a_failure_reaches_all_who_wait_with_their_own_vertex(solving: Bench) -> None:
    gate = Gate({})

    async def slow_failure(files, context):  # type: ignore[no-untyped-def]
        await gate(files, context)
        return await failing(files, context)

    solving.executor.behaviours["exit 7"] = slow_failure
    async with solving.build("a") as (one, shown), solving.build("b") as (other, shown_other):
        first = asyncio.create_task(one.solve(run(image(), "exit 7")))
        await gate.running.wait()
        second = asyncio.create_task(other.solve(run(run(image(), "exit 7"), "after")))
        await shown_other.said.wait()
        gate.go.set()
        failures = await asyncio.gather(first, second, return_exceptions=True)
    for failure in failures:
        assert isinstance(failure, StepError)
        assert failure.exit_code == 7
        assert failure.name == "RUN exit 7"
        assert failure.vertex == shown.last["RUN exit 7"].digest
        assert str(failure) == 'process "/bin/sh -c exit 7" did not complete successfully: exit code: 7'
    assert shown.last["RUN exit 7"].error == str(failures[0])
    assert not shown_other.last["RUN after"].started_ns
    assert solving.executor.ran == ["exit 7"]


async def test_a_failed_step_runs_again_in_the_next_build_and_not_in_the_same(solving: Bench) -> None:
    solving.executor.behaviours["exit 7"] = failing
    async with solving.build() as (build, _):
        for _ in range(2):
            with pytest.raises(StepError):
                await build.solve(run(image(), "exit 7"))
    assert solving.executor.ran == ["exit 7"]
    with pytest.raises(StepError):
        await solving.solve(run(image(), "exit 7"))
    assert solving.executor.ran == ["exit 7", "exit 7"]


async def test_what_runs_beside_a_failed_step_is_cancelled(solving: Bench) -> None:
    gate = solving.executor.behaviours["slow"] = Gate({})

    async def fail_later(files, context):  # type: ignore[no-untyped-def]
        await gate.running.wait()
        return await failing(files, context)

    solving.executor.behaviours["exit 7"] = fail_later
    join = change_files(run(image(), "slow"), [Change(Copy("x", "/"), run(image(), "exit 7"))], Metadata("COPY"))
    with pytest.raises(StepError, match="exit code: 7"):
        await solving.solve(join)
    assert solving.executor.cancelled == ["slow"]


async def test_a_missing_file_names_the_step_that_reads_it(solving: Bench) -> None:
    copy = change_files(image(), [Change(Copy("nothing", "/"), image("local://context"))], Metadata("COPY nothing /"))
    with pytest.raises(StepError, match='"nothing": not found') as caught:
        await solving.solve(copy)
    assert caught.value.name == "COPY nothing /"


async def test_what_the_client_has_not_granted_is_refused_before_anything_runs(solving: Bench) -> None:
    base = run(image(), "before")
    op = ExecOp(Process(("true",)), (Mount("/", input=0, output=0),), network=NetMode.HOST)
    edge = Node(op, (base,), metadata=Metadata("RUN true", positions=(Position(3, 3),))).output()
    with pytest.raises(StepError, match=r"^failed to load LLB: network\.host is not allowed$") as caught:
        await solving.solve(edge)
    assert isinstance(caught.value.cause, PermissionDeniedError)
    assert caught.value.positions == (Position(3, 3),)
    assert solving.executor.ran == []
    await solving.solve(edge, entitlements=["network.host"])
    assert solving.executor.ran == ["before", "true"]


async def test_a_directory_is_held_until_the_build_is_over(solving: Bench) -> None:
    async with solving.build() as (build, _):
        await build.solve(image("local://context"))
        assert solving.sources.held == ["local://context"]
        await build.solve(image("local://context"))
        assert solving.sources.calls.count("fetch local://context") == 1
    assert solving.sources.held == []


async def test_a_graph_may_be_deeper_than_the_stack(solving: Bench) -> None:
    async def nothing(files, context):  # type: ignore[no-untyped-def]
        return {}

    edge = image()
    for number in range(1500):
        solving.executor.behaviours[f"step {number}"] = nothing
        edge = run(edge, f"step {number}")
    await solving.solve(edge)
    assert len(solving.executor.ran) == 1500


async def test_a_step_of_no_graph_is_shown(solving: Bench) -> None:
    async with solving.build() as (build, shown):
        async with build.step("exporting to image") as context:
            context.status("writing", current=1, total=2)
        with pytest.raises(RuntimeError):
            async with build.step("exporting to moon"):
                raise RuntimeError("too far")
    assert shown.last["exporting to image"].completed_ns
    assert shown.last["exporting to moon"].error == "too far"


async def test_sessions_are_those_of_who_waits(solving: Bench) -> None:
    seen: list[list[str]] = []
    gate = Gate({})

    async def looking(files, context):  # type: ignore[no-untyped-def]
        seen.append(list(context.sessions()))
        made = await gate(files, context)
        seen.append(list(context.sessions()))
        return made

    solving.executor.behaviours["look"] = looking
    async with solving.build("b") as (other, shown_other):
        async with solving.build("a") as (one, _):
            first = asyncio.create_task(one.solve(run(image(), "look")))
            await gate.running.wait()
            second = asyncio.create_task(other.solve(run(image(), "look")))
            await shown_other.said.wait()
            first.cancel()
        gate.go.set()
        await second
    assert seen == [["session of a"], ["session of b"]]


async def test_a_copy_is_made_again_when_a_service_was_killed_under_it(
    solving: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, kills = FakeFileWorker.change, iter((True, False))

    async def killed(files: FakeFileWorker, *arguments: object) -> object:
        if next(kills, False):
            raise ServiceGoneError("the snapshotter went away")
        return await change(files, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(FakeFileWorker, "change", killed)
    copy = change_files(image(), [Change(Copy("app", "/"), image("local://context"))], Metadata("COPY app /"))
    files, shown = await solving.solve(copy)
    assert "app/main.py" in files
    assert solving.reached == 1
    assert not shown.last["COPY app /"].error


async def test_a_process_is_not_run_again_when_a_service_was_killed_under_it(solving: Bench) -> None:
    async def killed(files, context):  # type: ignore[no-untyped-def]
        raise ServiceGoneError("runtimed went away")

    solving.executor.behaviours["push"] = killed
    with pytest.raises(StepError, match="runtimed went away"):
        await solving.solve(run(image(), "push"))
    assert solving.executor.ran == ["push"]
