"""runtimed is killed between any two of its steps; the next one finds a state that was to be, and nothing is left over.

Each case is done again and again, killed one step later each time, until it is through without being killed.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runtimed.containers.memory_store import Entry, MemoryStore
from runtimed.lifecycle import joins, runner
from sampan.errors import StartError
from sampan.resource.container import EndpointState, Status
from sampan.resource.container_spec import (
    ConsoleSize,
    ContainerSpec,
    Endpoint,
    IdMapping,
    Namespaces,
    Process,
    Resources,
    RestartPolicy,
)
from sampan.resource.exec import ExecSpec
from sampan.store.database import Store
from tests.fakes.runtime_host import Host
from tests.fakes.runtimed_engine import Engine, World, check_consistent, check_journal, patch_kernel

Act = Callable[[Engine], Awaitable[object]]

SPEC = ContainerSpec(name="web", chain_id="base", process=Process(cmd=("serve",)), anonymous_volumes=("/data",))
ALWAYS, UNLESS_STOPPED, ON_FAILURE = (
    RestartPolicy("always"),
    RestartPolicy("unless-stopped"),
    RestartPolicy("on-failure"),
)


class Cases:
    """Runs one case on as many machines as it has steps."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._hosts: list[Host] = []
        patch_kernel(monkeypatch, lambda: self._hosts[-1])

    async def run(self, before: Act, act: Act, allowed: Callable[[Engine, bool], None]) -> int:
        """Kill ``act`` at each of its steps; ``allowed`` is told whether it was. Return the number of steps."""
        step = 0
        while await self._killed_at(step, before, act, allowed):
            step += 1
        return step

    async def _killed_at(self, step: int, before: Act, act: Act, allowed: Callable[[Engine, bool], None]) -> bool:
        root = self._root / str(step)
        root.mkdir()
        async with Store(root / "metadata.db", "runtimed.schema", durable=False) as store:
            world = World(store, root)
            self._hosts.append(world.host)
            async with world.engine() as engine:
                await before(engine)
                await engine.settle()
                check_consistent(engine)
                killed = await world.killed_at(engine, step, act)
                last = engine.steps.taken[-1:]
            # One step further each time, and in the end through: a recovery may be killed like everything else.
            again = 0
            while killed and step % 3 == 0 and await world.killed_in_recovery(again):
                again += 1
            async with world.engine() as engine:
                await engine.settle()
                try:
                    check_consistent(engine)
                    await check_journal(engine)
                    allowed(engine, killed)
                except AssertionError as error:
                    raise AssertionError(f"killed at step {step}, after {last}: {error}") from error
            return killed


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cases:
    return Cases(tmp_path, monkeypatch)


def only(engine: Engine) -> Entry:
    entry = engine.one()
    assert entry is not None
    return entry


def made(spec: ContainerSpec = SPEC) -> Act:
    async def act(engine: Engine) -> None:
        await engine.containers.create(spec)

    return act


def running(spec: ContainerSpec = SPEC) -> Act:
    async def act(engine: Engine) -> None:
        await engine.containers.create(spec)
        await start(engine)

    return act


async def start(engine: Engine) -> None:
    await engine.lifecycle.start(only(engine))


async def nothing(engine: Engine) -> None:
    pass


def exits(code: int) -> Act:
    async def act(engine: Engine) -> None:
        entry = only(engine)
        run = entry.container.state.started_at
        engine.host.first(entry.id).end(code)
        await engine.until(
            lambda: engine.memory.by_id(entry.id) is None or entry.container.state.started_at != run
            or entry.status is Status.EXITED
        )  # fmt: skip

    return act


def status_of(engine: Engine) -> Status | None:
    entry = engine.one()
    return entry.status if entry is not None else None


def is_in(*statuses: Status | None) -> Callable[[Engine, bool], None]:
    """The last of them is what it is when nothing was killed."""

    def check(engine: Engine, killed: bool) -> None:
        assert status_of(engine) in (statuses if killed else statuses[-1:])

    return check


async def test_create(cases: Cases) -> None:
    def allowed(engine: Engine, killed: bool) -> None:
        is_in(None, Status.CREATED)(engine, killed)
        if engine.one() is None:
            assert engine.host.volumes == {}

    assert await cases.run(nothing, made(), allowed) > 4


async def test_start(cases: Cases) -> None:
    assert await cases.run(made(), start, is_in(Status.CREATED, Status.RUNNING)) > 9


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> ContainerSpec:
    """One with a user namespace, whose root is whoever runs the tests: its files belong to that user as it is."""
    monkeypatch.setattr(joins, "check_passage", lambda _: None)  # directories of tests let nobody pass
    monkeypatch.setattr(runner, "give_streams", lambda *_: None)  # its process is none
    uids, gids = (IdMapping(0, os.getuid(), 1),), (IdMapping(0, os.getgid(), 1),)
    return replace(SPEC, owner="cri", namespaces=Namespaces(uid_mappings=uids, gid_mappings=gids))


async def test_start_and_exit_with_a_user_namespace(cases: Cases, mapped: ContainerSpec) -> None:
    async def starts_and_ends(engine: Engine) -> None:
        await start(engine)
        steps = engine.steps.taken
        assert steps.index("hold users") < steps.index("show")
        await exits(0)(engine)

    states = (Status.CREATED, Status.RUNNING, Status.EXITED)
    assert await cases.run(made(mapped), starts_and_ends, is_in(*states)) > 15


async def test_start_again(cases: Cases) -> None:
    async def ended(engine: Engine) -> None:
        await running()(engine)
        await exits(3)(engine)

    def allowed(engine: Engine, killed: bool) -> None:
        is_in(Status.EXITED, Status.RUNNING)(engine, killed)
        if status_of(engine) is Status.EXITED:
            assert only(engine).container.state.exit_code == 3

    await cases.run(ended, start, allowed)


@pytest.mark.parametrize("step", ["attach network", "create in runtime", "start in runtime"])
async def test_start_that_fails(cases: Cases, step: str) -> None:
    async def fails(engine: Engine) -> None:
        engine.host.fails[step] = StartError("no")
        with pytest.raises(StartError):
            await start(engine)

    def allowed(engine: Engine, killed: bool) -> None:
        assert status_of(engine) is Status.CREATED
        assert only(engine).container.state.error or killed

    await cases.run(made(), fails, allowed)


@pytest.mark.parametrize("code", [0, 3])
async def test_exit(cases: Cases, code: int) -> None:
    def allowed(engine: Engine, killed: bool) -> None:
        assert (status_of(engine), only(engine).container.state.exit_code) == (Status.EXITED, code)

    await cases.run(running(), exits(code), allowed)


@pytest.mark.parametrize("policy", [ALWAYS, UNLESS_STOPPED, ON_FAILURE])
async def test_exit_with_a_policy_that_starts_it_again(cases: Cases, policy: RestartPolicy) -> None:
    spec = replace(SPEC, restart_policy=policy)
    assert await cases.run(running(spec), exits(3), is_in(Status.RUNNING)) > 10


async def test_one_that_its_policy_starts_again_never_shows_as_exited(
    cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: set[Status] = set()
    record = MemoryStore.set_state

    async def record_and_show(memory: MemoryStore, entry: Entry, *state: object, **fields: object) -> None:
        await record(memory, entry, *state, **fields)  # type: ignore[arg-type]  # handed on as they are
        shown.add(entry.status)

    monkeypatch.setattr(MemoryStore, "set_state", record_and_show)
    await cases.run(running(replace(SPEC, restart_policy=ALWAYS)), exits(3), is_in(Status.RUNNING))
    assert shown == {Status.CREATED, Status.RUNNING, Status.RESTARTING}


async def test_exit_of_one_that_is_removed_with_it(cases: Cases) -> None:
    def allowed(engine: Engine, killed: bool) -> None:
        assert engine.one() is None
        assert engine.host.volumes == {}

    await cases.run(running(replace(SPEC, auto_remove=True)), exits(0), allowed)


@pytest.mark.parametrize(
    ("policy", "after"),
    [
        (RestartPolicy(), (Status.RUNNING, Status.EXITED)),
        (ON_FAILURE, (Status.EXITED, Status.RUNNING)),
        (ALWAYS, (Status.RUNNING,)),
    ],
)
async def test_stop(cases: Cases, policy: RestartPolicy, after: tuple[Status, ...]) -> None:
    async def stop(engine: Engine) -> None:
        await engine.lifecycle.stop(only(engine), 5, "")

    def allowed(engine: Engine, killed: bool) -> None:
        assert status_of(engine) in after
        if status_of(engine) is Status.EXITED:
            assert only(engine).container.state.exit_code == 128 + 15

    await cases.run(running(replace(SPEC, restart_policy=policy)), stop, allowed)


async def test_stop_of_one_that_only_a_client_starts_again(cases: Cases) -> None:
    """A stop that was recorded is known to the next engine; one that was not never happened."""

    async def stop(engine: Engine) -> None:
        await engine.lifecycle.stop(only(engine), 5, "")

    await cases.run(running(replace(SPEC, restart_policy=UNLESS_STOPPED)), stop, is_in(Status.RUNNING, Status.EXITED))


async def test_kill(cases: Cases) -> None:
    async def kill(engine: Engine) -> None:
        await engine.lifecycle.kill(only(engine), "")

    await cases.run(running(), kill, is_in(Status.RUNNING, Status.EXITED))


async def test_restart(cases: Cases) -> None:
    async def restart(engine: Engine) -> None:
        await engine.lifecycle.restart(only(engine), 5, "")

    await cases.run(running(), restart, is_in(Status.EXITED, Status.RUNNING))


async def test_restart_of_one_that_is_removed_when_it_ends(cases: Cases) -> None:
    async def restart(engine: Engine) -> None:
        await engine.lifecycle.restart(only(engine), 5, "")

    await cases.run(running(replace(SPEC, auto_remove=True)), restart, is_in(None, Status.RUNNING))


@pytest.mark.parametrize("volumes", [True, False])
async def test_removal(cases: Cases, volumes: bool) -> None:
    async def remove(engine: Engine) -> None:
        await engine.containers.remove(only(engine), force=False, volumes=volumes)

    def allowed(engine: Engine, killed: bool) -> None:
        is_in(Status.CREATED, None)(engine, killed)
        gone = engine.one() is None
        assert len(engine.host.volumes) == (0 if gone and volumes else 1), "anonymous volumes"

    await cases.run(made(), remove, allowed)


@pytest.mark.parametrize("volumes", [True, False])
async def test_removal_by_force(cases: Cases, volumes: bool) -> None:
    async def remove(engine: Engine) -> None:
        await engine.containers.remove(only(engine), force=True, volumes=volumes)

    def allowed(engine: Engine, killed: bool) -> None:
        is_in(Status.RUNNING, Status.EXITED, None)(engine, killed)
        gone = engine.one() is None
        assert len(engine.host.volumes) == (0 if gone and volumes else 1), "anonymous volumes"

    await cases.run(running(), remove, allowed)


async def test_pause(cases: Cases) -> None:
    async def pause(engine: Engine) -> None:
        await engine.lifecycle.pauses.pause(only(engine))

    await cases.run(running(), pause, is_in(Status.RUNNING, Status.PAUSED))


async def paused(engine: Engine) -> None:
    await running()(engine)
    await engine.lifecycle.pauses.pause(only(engine))


async def test_unpause(cases: Cases) -> None:
    async def unpause(engine: Engine) -> None:
        await engine.lifecycle.pauses.unpause(only(engine))

    await cases.run(paused, unpause, is_in(Status.PAUSED, Status.RUNNING))


async def test_kill_of_a_frozen_one(cases: Cases) -> None:
    async def kill(engine: Engine) -> None:
        await engine.lifecycle.kill(only(engine), "")

    await cases.run(paused, kill, is_in(Status.PAUSED, Status.RUNNING, Status.EXITED))


async def test_hold_while_it_is_committed(cases: Cases) -> None:
    async def hold(engine: Engine) -> None:
        async with engine.lifecycle.pauses.held(only(engine)):
            engine.steps.step("read the snapshot")

    await cases.run(running(), hold, is_in(Status.RUNNING))


async def test_rename(cases: Cases) -> None:
    async def rename(engine: Engine) -> None:
        await engine.containers.rename(only(engine), "site")

    def allowed(engine: Engine, killed: bool) -> None:
        entry = only(engine)
        assert entry.container.name in (("web", "site") if killed else ("site",))
        assert engine.memory.find(entry.container.name) is entry

    await cases.run(running(), rename, allowed)


async def test_update(cases: Cases) -> None:
    limits = Resources(memory_bytes=64 << 20)

    async def update(engine: Engine) -> None:
        await engine.containers.update(only(engine), limits, ALWAYS)

    def allowed(engine: Engine, killed: bool) -> None:
        spec = only(engine).container.spec
        old, new = (Resources(), RestartPolicy()), (limits, ALWAYS)
        assert (spec.resources, spec.restart_policy) in ((old, new) if killed else (new,))

    await cases.run(running(), update, allowed)


EXEC = ExecSpec(args=("probe",), tty=True)


async def test_exec(cases: Cases) -> None:
    async def run_one(engine: Engine) -> None:
        entry = only(engine)
        made = await engine.execs.create(entry, EXEC)
        _, begun = engine.execs.start_detached(made.id, None)
        await begun

    def allowed(engine: Engine, killed: bool) -> None:
        assert status_of(engine) is Status.RUNNING

    await cases.run(running(), run_one, allowed)


async def test_exit_of_an_exec(cases: Cases) -> None:
    async def with_exec(engine: Engine) -> None:
        await running()(engine)
        made = await engine.execs.create(only(engine), EXEC)
        _, begun = engine.execs.start_detached(made.id, None)
        await begun

    async def ends(engine: Engine) -> None:
        (key,) = engine.execs.known.ids()[only(engine).id]
        (process,) = (one for one in engine.host.alive() if one.bundle.name == key)
        process.end(7)
        await engine.until(lambda: engine.execs.known.get(key).exit_code is not None)

    def allowed(engine: Engine, killed: bool) -> None:
        assert [one.exec.exit_code for one in engine.execs.known._by_id.values()] == [7]

    await cases.run(with_exec, ends, allowed)


async def test_exit_of_a_container_under_its_exec(cases: Cases) -> None:
    async def with_exec(engine: Engine) -> None:
        await running()(engine)
        made = await engine.execs.create(only(engine), EXEC)
        _, begun = engine.execs.start_detached(made.id, None)
        await begun

    await cases.run(with_exec, exits(0), is_in(Status.EXITED))


async def nothing_to_say() -> AsyncIterator[bytes | ConsoleSize]:
    words: tuple[bytes, ...] = ()
    for word in words:
        yield word


async def test_exec_with_a_client(cases: Cases) -> None:
    """One that is prepared when it is made. It is not there, or it never began, or its exit code is known."""

    async def run_one(engine: Engine) -> None:
        made = await engine.execs.create(only(engine), ExecSpec(args=("probe",), attach_stdout=True))
        begun, starting = engine.execs.start(made.id, None)
        await starting
        (process,) = (one for one in engine.host.alive() if one.bundle.name == made.id)
        process.clients[0].send(b"\x02said")
        process.end(7)
        said = [frame async for frames in engine.execs.converse(begun, nothing_to_say()) for frame in frames]
        assert [frame.data for frame in said] == [b"said"]

    def allowed(engine: Engine, killed: bool) -> None:
        assert status_of(engine) is Status.RUNNING
        for one in engine.execs.known._by_id.values():
            process = next((each for each in engine.host.processes if each.bundle.name == one.exec.id), None)
            if process is not None and process.started:
                assert one.exec.exit_code in ((7, None) if killed else (7,))
            assert one.exec.exit_code is not None or not one.exec.running or not process or not process.ended

    await cases.run(running(), run_one, allowed)


async def test_a_disconnect_whose_record_is_missing_is_recorded(cases: Cases) -> None:
    async def disconnected(engine: Engine) -> None:
        await running()(engine)
        entry = only(engine)
        gone = EndpointState("side", "5" * 64, Endpoint("side"), "e" * 64)
        network = entry.container.network
        network = replace(network, endpoints=(*network.endpoints, gone))
        await engine.memory.change(entry, lambda now: replace(now, network=network))

    def allowed(engine: Engine, killed: bool) -> None:
        container = only(engine).container
        assert [state.network for state in container.network.endpoints] == ["bridge"]
        assert [endpoint.network for endpoint in container.spec.endpoints] == ["bridge"]

    await cases.run(disconnected, nothing, allowed)
