"""runtimed over its real socket, with the real kernel, conmon and OCI runtime."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.api.runtime.v1 import events_pb2, execs_pb2, spec_pb2
from sampan.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    NotModifiedError,
    UnimplementedError,
)
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import whole
from tests.integration.runtimed.runtimed_process import Output, Runtimed, mounts_below, processes_of, running
from tests.support.tools import eventually

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.asyncio(loop_scope="module"),
]

STATE = pb.ContainerState


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtimed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtimed]:
    directory = tmp_path_factory.mktemp("r")
    async with running(directory) as (process, snapshotter):
        yield process
    assert mounts_below(directory) == []
    assert snapshotter.active == {}


async def test_a_container_runs_and_its_output_and_exit_code_arrive(runtimed: Runtimed) -> None:
    code, output = await runtimed.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (code, output.stdout, output.stderr) == (3, b"out\n", b"err\n")


async def test_output_without_a_newline_arrives_as_it_is(runtimed: Runtimed) -> None:
    assert (await runtimed.run("printf", "abc"))[1].stdout == b"abc"


async def test_many_at_once_lose_nothing(runtimed: Runtimed) -> None:
    results = await asyncio.gather(*(runtimed.run("sh", "-c", f"echo {n}; exit {n}") for n in range(8)))
    assert [(code, output.stdout) for code, output in results] == [(n, f"{n}\n".encode()) for n in range(8)]


async def test_stdin_reaches_the_process_and_ends_when_the_client_half_closes(runtimed: Runtimed) -> None:
    code, output = await runtimed.run(
        "cat", input=[b"hi\n", b"there"], process_open_stdin=True, process_stdin_once=True
    )
    assert (code, output.stdout) == (0, b"hi\nthere")


async def test_a_megabyte_of_stdin_arrives_whole(runtimed: Runtimed) -> None:
    pieces = [bytes([n]) * 65536 for n in range(16)]
    code, output = await runtimed.run("wc", "-c", input=pieces, process_open_stdin=True, process_stdin_once=True)
    assert (code, output.stdout.strip()) == (0, b"1048576")


async def test_without_stdin_the_process_reads_the_end_at_once(runtimed: Runtimed) -> None:
    assert await runtimed.run("cat") == (0, Output())


async def test_a_slow_client_gets_every_byte(runtimed: Runtimed) -> None:
    container_id = await runtimed.create("sh", "-c", "yes 0123456789012345678901234567890123456789 | head -c 30000000")
    stream = runtimed.attach(container_id)
    await anext(stream)
    await runtimed.start_container(container_id)
    size, messages = 0, 0
    async for message in stream:
        size += sum(len(frame.data) for frame in message.frames)
        messages += 1
        if messages % 20 == 0:
            await asyncio.sleep(0.1)
    assert size == 30_000_000
    await runtimed.remove(container_id)


async def test_a_client_that_reads_nothing_does_not_keep_the_container_from_being_stopped(runtimed: Runtimed) -> None:
    container_id = await runtimed.create("sh", "-c", "yes")
    stream = runtimed.attach(container_id)
    await anext(stream)
    await runtimed.start_container(container_id)
    await anext(stream)
    await asyncio.sleep(1)  # until every buffer on the way is full
    with rpc_errors():
        await runtimed.containers.Stop(pb.StopContainerRequest(container=container_id, timeout_s=1), timeout=60)
    assert (await runtimed.get(container_id)).state.exit_code == 137
    await stream.aclose()  # type: ignore[attr-defined]
    await runtimed.remove(container_id)


async def test_several_clients_see_the_same_output(runtimed: Runtimed) -> None:
    container_id = await runtimed.create("echo", "all")
    streams = [runtimed.attach(container_id) for _ in range(3)]
    for stream in streams:
        await anext(stream)
    await runtimed.start_container(container_id)
    outputs = []
    for stream in streams:
        output = Output()
        async for message in stream:
            output.add(message)
        outputs.append(output.stdout)
    assert outputs == [b"all\n"] * 3


async def test_a_client_that_only_watches_does_not_end_stdin_by_leaving(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("cat", process_open_stdin=True, process_stdin_once=True)
    watching = runtimed.attach(container_id)
    await anext(watching)
    await watching.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0.2)
    assert (await runtimed.get(container_id)).state.status == STATE.RUNNING
    output = Output()
    async for message in runtimed.attach(container_id, [b"still here"]):
        output.add(message)
    assert output.stdout == b"still here"
    assert await runtimed.wait(container_id) == 0


async def test_stdin_stays_open_when_it_is_not_for_one_client_only(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("cat", process_open_stdin=True)
    stream = runtimed.attach(container_id, [b"one"])
    await anext(stream)
    assert (await anext(stream)).frames[0].data == b"one"
    await stream.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0.2)
    assert (await runtimed.get(container_id)).state.status == STATE.RUNNING
    await runtimed.remove(container_id)


async def test_a_terminal_is_raw_has_the_size_asked_for_before_the_start_and_detaches_on_its_keys(
    runtimed: Runtimed,
) -> None:
    container_id = await runtimed.create("sh", process_open_stdin=True, process_tty=True)
    await runtimed.containers.Resize(
        pb.ResizeContainerRequest(container=container_id, size=spec_pb2.ConsoleSize(height=33, width=99))
    )
    stream = runtimed.attach(container_id, [b"stty size; exit_not() { :; }\n"])
    first = await anext(stream)
    assert first.attached
    assert first.tty
    await runtimed.start_container(container_id)
    seen = b""
    async for message in stream:
        seen += b"".join(frame.data for frame in message.frames)
        if b"33 99\r\n" in seen:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    output = Output()
    async for message in runtimed.attach(container_id, [b"\x10", b"\x11"]):
        output.add(message)
    assert output.detached
    assert (await runtimed.get(container_id)).state.status == STATE.RUNNING
    await runtimed.remove(container_id)


async def test_a_missing_command_is_127_and_leaves_nothing(runtimed: Runtimed) -> None:
    container_id = await runtimed.create("nope")
    with pytest.raises(CommandNotFoundError) as caught:
        await runtimed.start_container(container_id)
    assert str(caught.value) == (
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create "
        'failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown'
    )
    state = (await runtimed.get(container_id)).state
    assert (state.status, state.exit_code, state.error) == (STATE.CREATED, 127, str(caught.value))
    await asyncio.to_thread(eventually, lambda: processes_of(container_id) == [], "its monitor has ended")
    assert not any(container_id in mount for mount in mounts_below(runtimed.roots))
    await runtimed.remove(container_id, force=False)


@pytest.mark.parametrize("command", ["/bin/plain", "/bin"])
async def test_a_command_that_cannot_be_executed_is_126(runtimed: Runtimed, command: str) -> None:
    container_id = await runtimed.create(command)
    with pytest.raises(CommandNotExecutableError):
        await runtimed.start_container(container_id)
    assert (await runtimed.get(container_id)).state.exit_code == 126
    await runtimed.remove(container_id)


async def test_auto_remove_never_loses_the_exit_code(runtimed: Runtimed) -> None:
    container_id = await runtimed.create("sh", "-c", "exit 9", auto_remove=True)
    waits = [
        aiter(runtimed.containers.Wait(pb.WaitContainerRequest(container=container_id, condition=condition)))
        for condition in (pb.WaitContainerRequest.NEXT_EXIT, pb.WaitContainerRequest.REMOVED)
    ]
    for wait in waits:
        await anext(wait)  # it has begun
    await runtimed.start_container(container_id)
    assert [[answer.exit_code async for answer in wait] for wait in waits] == [[9], [9]]
    with pytest.raises(NotFoundError, match=f"No such container: {container_id}"):
        await runtimed.get(container_id)


async def test_stop_sends_the_containers_signal_and_kills_when_the_time_is_over(runtimed: Runtimed) -> None:
    obedient = await runtimed.begin(
        "sh", "-c", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done", stop_signal="SIGUSR1"
    )
    stubborn = await runtimed.begin("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    for container_id in (obedient, stubborn):
        await runtimed.until_logged(container_id, b"ready\n")
    for container_id, code, timeout_s in ((obedient, 5, 60), (stubborn, 137, 1)):
        with rpc_errors():
            await runtimed.containers.Stop(pb.StopContainerRequest(container=container_id, timeout_s=timeout_s))
        state = (await runtimed.get(container_id)).state
        assert (state.status, state.exit_code, state.pid) == (STATE.EXITED, code, 0)
        with pytest.raises(NotModifiedError), rpc_errors():
            await runtimed.containers.Stop(pb.StopContainerRequest(container=container_id))
        await runtimed.remove(container_id)


async def test_a_running_container_cannot_be_started_or_removed_or_killed_twice(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    with pytest.raises(NotModifiedError):
        await runtimed.start_container(container_id)
    with pytest.raises(ConflictError, match="Stop the container before attempting removal or force remove"):
        await runtimed.remove(container_id, force=False)
    with rpc_errors():
        await runtimed.containers.Kill(pb.KillContainerRequest(container=container_id))
    assert await runtimed.wait(container_id) == 137
    with pytest.raises(ConflictError, match=f"Container {container_id} is not running"), rpc_errors():
        await runtimed.containers.Kill(pb.KillContainerRequest(container=container_id))
    await runtimed.remove(container_id, force=False)


async def test_names_are_unique_found_by_prefix_and_changed(runtimed: Runtimed) -> None:
    container_id = await runtimed.create("true", name="first")
    with pytest.raises(ConflictError) as caught:
        await runtimed.create("true", name="first")
    assert str(caught.value) == (
        f'Conflict. The container name "/first" is already in use by container "{container_id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    with rpc_errors():
        await runtimed.containers.Rename(pb.RenameContainerRequest(container="first", name="second"))
    assert (await runtimed.get("/second")).id == (await runtimed.get(container_id[:12])).id == container_id
    with pytest.raises(InvalidArgumentError, match="Invalid container name"):
        await runtimed.create("true", name="-bad")
    await runtimed.remove("second")


async def test_pause_freezes_and_exec_says_so(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    with rpc_errors():
        await runtimed.containers.Pause(pb.PauseContainerRequest(container=container_id))
    assert (await runtimed.get(container_id)).state.status == STATE.PAUSED
    with pytest.raises(ConflictError, match="is paused, unpause the container before exec"):
        await runtimed.exec(container_id, "true")
    with rpc_errors():
        await runtimed.containers.Unpause(pb.UnpauseContainerRequest(container=container_id))
    assert (await runtimed.exec(container_id, "true"))[0] == 0
    with rpc_errors():
        await runtimed.containers.Pause(pb.PauseContainerRequest(container=container_id))
    await runtimed.remove(container_id)  # a frozen one is killed as well


async def test_exec_has_streams_stdin_and_an_exit_code(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    code, output = await runtimed.exec(container_id, "sh", "-c", "cat; echo err >&2; exit 4", input=[b"in"])
    assert (code, output.stdout, output.stderr) == (4, b"in", b"err\n")
    code, output = await runtimed.exec(container_id, "sh", "-c", "yes | head -c 5000000")
    assert (code, len(output.stdout)) == (0, 5_000_000)
    code, output = await runtimed.exec(
        container_id, "stty", "size", tty=True, console_size=spec_pb2.ConsoleSize(height=30, width=70)
    )
    assert (code, output.stdout) == (0, b"30 70\r\n")
    with pytest.raises(CommandNotFoundError) as caught:
        await runtimed.exec(container_id, "nope")
    assert str(caught.value) == (
        "OCI runtime exec failed: exec failed: unable to start container process: "
        'exec: "nope": executable file not found in $PATH: unknown'
    )
    await runtimed.remove(container_id)
    with pytest.raises(NotFoundError):
        await runtimed.exec(container_id, "true")


async def test_a_detached_exec_runs_by_itself(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    spec = execs_pb2.ExecSpec(
        container=container_id, args=["sh", "-c", "until [ -e /go ]; do sleep 0.05; done; exit 6"]
    )

    async def requests() -> AsyncIterator[execs_pb2.StartExecRequest]:
        yield execs_pb2.StartExecRequest(start=execs_pb2.StartExecRequest.Start(id=exec_id, detach=True))

    with rpc_errors():
        exec_id = (await runtimed.execs.Create(execs_pb2.CreateExecRequest(spec=spec))).id
        async for _ in runtimed.execs.Start(requests()):
            pass
        assert (await runtimed.execs.Get(execs_pb2.GetExecRequest(id=exec_id))).running
        assert list((await runtimed.get(container_id)).exec_ids) == [exec_id]
        await runtimed.exec(container_id, "touch", "/go")
        async with asyncio.timeout(60):
            while (await runtimed.execs.Get(execs_pb2.GetExecRequest(id=exec_id))).running:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        ended = await runtimed.execs.Get(execs_pb2.GetExecRequest(id=exec_id))
    assert (ended.running, ended.exit_code) == (False, 6)
    with pytest.raises(ConflictError, match="has already run"), rpc_errors():
        async for _ in runtimed.execs.Start(requests()):
            pass
    await runtimed.remove(container_id)


async def test_logs_keep_order_and_streams_tail_and_follow(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin(
        "sh", "-c", "for i in 1 2 3; do echo o$i; echo e$i >&2; sleep 0.05; done; printf end"
    )
    followed = await runtimed.logs(container_id, follow=True)
    assert sorted(line for _, line in followed) == sorted(
        [b"o1\n", b"e1\n", b"o2\n", b"e2\n", b"o3\n", b"e3\n", b"end"]
    )
    assert [line for stream, line in followed if stream == pb.Frame.STDOUT] == [b"o1\n", b"o2\n", b"o3\n", b"end"]
    assert [line for _, line in await runtimed.logs(container_id, tail=1)] == [b"end"]
    assert await runtimed.logs(container_id, tail=0) == []
    silent = await runtimed.create("echo", "unseen", log=spec_pb2.LogConfig(driver="none"))
    with pytest.raises(UnimplementedError, match="does not support reading"):
        await runtimed.logs(silent)
    for container in (container_id, silent):
        await runtimed.remove(container)


async def test_on_failure_restarts_as_often_as_it_may(runtimed: Runtimed) -> None:
    policy = spec_pb2.RestartPolicy(name="on-failure", maximum_retries=2)
    container_id = await runtimed.begin("sh", "-c", "echo run; exit 1", restart_policy=policy)
    assert await runtimed.wait(container_id) == 1  # each exit ends a wait, as Docker has it
    await runtimed.until(container_id, lambda c: (c.restart_count, c.state.status) == (2, STATE.EXITED))
    assert len(await runtimed.logs(container_id)) == 3
    await runtimed.remove(container_id)


async def test_stop_ends_a_container_that_restarts_for_ever(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("false", restart_policy=spec_pb2.RestartPolicy(name="always"))
    await asyncio.sleep(1)
    with rpc_errors():
        await runtimed.containers.Stop(pb.StopContainerRequest(container=container_id))
    await asyncio.sleep(0.5)
    assert (await runtimed.get(container_id)).state.status == STATE.EXITED
    await runtimed.remove(container_id)


async def test_stop_meets_a_container_between_two_of_its_runs(runtimed: Runtimed) -> None:
    ids = [await runtimed.begin("false", restart_policy=spec_pb2.RestartPolicy(name="always")) for _ in range(6)]

    async def stop(container_id: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        with rpc_errors():
            await runtimed.containers.Stop(pb.StopContainerRequest(container=container_id))
        assert (await runtimed.get(container_id)).state.status == STATE.EXITED

    await asyncio.gather(*(stop(container_id, 0.04 * number) for number, container_id in enumerate(ids)))
    for container_id in ids:
        await runtimed.remove(container_id)


async def test_events_come_in_dockers_order(runtimed: Runtimed) -> None:
    begin = time.time_ns()
    container_id = await runtimed.create("sleep", "1000", labels={"team": "a"})
    stream = runtimed.attach(container_id)
    await anext(stream)
    await runtimed.start_container(container_id)
    with rpc_errors():
        await runtimed.containers.Stop(pb.StopContainerRequest(container=container_id, timeout_s=0))
    await stream.aclose()  # type: ignore[attr-defined]
    await runtimed.remove(container_id)
    request = events_pb2.SubscribeRequest(filters={"container": pb.FilterValues(values=[container_id])})
    request.since.FromNanoseconds(begin)
    request.until.FromNanoseconds(time.time_ns())
    events = [event async for event in runtimed.events.Subscribe(request) if event.type == "container"]
    actions = [event.action for event in events]
    assert actions == ["create", "attach", "start", "kill", "kill", "die", "stop", "destroy"]
    assert events[5].attributes["exitCode"] == "137"
    assert events[0].attributes["image"] == "busybox"
    assert events[0].attributes["team"] == "a"


async def test_an_unknown_parent_undoes_the_create(runtimed: Runtimed) -> None:
    before = len((await whole(runtimed.containers.List(pb.ListContainersRequest(all=True)))).containers)
    spec = spec_pb2.ContainerSpec(chain_id="absent", process=spec_pb2.Process(cmd=["true"]), name="undone")
    with pytest.raises(NotFoundError), rpc_errors():
        await runtimed.containers.Create(pb.CreateContainerRequest(spec=spec))
    assert len((await whole(runtimed.containers.List(pb.ListContainersRequest(all=True)))).containers) == before
    container_id = await runtimed.create("true", name="undone")  # its name is free
    await runtimed.remove(container_id)


async def test_a_process_killed_for_memory_is_told(runtimed: Runtimed) -> None:
    limits = spec_pb2.Resources(memory_bytes=16 << 20, memory_swap_bytes=16 << 20)
    hungry = "x=$(yes | head -c 200000000)"
    container_id = await runtimed.begin("sh", "-c", hungry, resources=limits)
    assert await runtimed.wait(container_id) == 137
    assert (await runtimed.get(container_id)).state.oom_killed
    await runtimed.remove(container_id)


async def test_no_descriptor_of_ours_is_open_inside(runtimed: Runtimed) -> None:
    _, output = await runtimed.run("ls", "/proc/self/fd")
    assert output.stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is the directory itself


async def test_what_was_written_is_counted_and_kept_over_a_restart(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sh", "-c", "echo x >> /count; cat /count")
    await runtimed.wait(container_id)
    await runtimed.start_container(container_id)
    await runtimed.wait(container_id)
    assert [line for _, line in await runtimed.logs(container_id)] == [b"x\n", b"x\n", b"x\n"]
    with rpc_errors():
        sized = await runtimed.containers.Get(pb.GetContainerRequest(container=container_id, size=True))
    assert sized.size_rw_bytes == 4
    await runtimed.remove(container_id)


async def test_a_health_check_finds_first_that_it_is_well_and_then_that_it_is_not(runtimed: Runtimed) -> None:
    begin = time.time_ns()
    probe = "until [ -e /tmp/well -o -e /tmp/ill ]; do sleep 0.05; done; echo probed; test -e /tmp/well"
    check = spec_pb2.HealthCheck(test=["CMD-SHELL", probe], retries=2)
    check.interval.FromMilliseconds(200)
    container_id = await runtimed.begin("sleep", "1000", health_check=check)
    assert (await runtimed.get(container_id)).state.health.status == "starting"
    await runtimed.exec(container_id, "touch", "/tmp/well")
    health = (await runtimed.until(container_id, lambda c: c.state.health.status != "starting")).state.health
    assert (health.status, health.log[-1].exit_code, health.log[-1].output) == ("healthy", 0, "probed\n")
    await runtimed.exec(container_id, "mv", "/tmp/well", "/tmp/ill")
    health = (await runtimed.until(container_id, lambda c: c.state.health.status == "unhealthy")).state.health
    assert health.failing_streak >= 2
    assert len(health.log) <= 5
    request = events_pb2.SubscribeRequest(filters={"event": pb.FilterValues(values=["health_status"])})
    request.since.FromNanoseconds(begin)
    request.until.FromNanoseconds(time.time_ns())
    actions = [event.action async for event in runtimed.events.Subscribe(request)]
    assert actions == ["health_status: healthy", "health_status: unhealthy"]
    await runtimed.remove(container_id)


async def test_top_and_stats_show_the_processes_and_what_they_use(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1234")
    commands: list[str] = []
    with rpc_errors():
        async with asyncio.timeout(60):
            # Up to its exec it is the runtime, and in the moment of that it has no arguments, says ps.
            while commands != ["sleep 1234"]:
                table = await whole(runtimed.containers.Top(pb.TopRequest(container=container_id)))
                commands = [row.values[-1] for row in table.processes]
        request = pb.StatsRequest(container=container_id, one_shot=True)
        (stats,) = [answer async for answer in runtimed.containers.Stats(request)]
    assert stats.pids == 1
    assert stats.memory.usage_bytes > 0
    await runtimed.remove(container_id)


async def test_limits_are_changed_while_it_runs(runtimed: Runtimed) -> None:
    container_id = await runtimed.begin("sleep", "1000")
    with rpc_errors():
        await runtimed.containers.Update(
            pb.UpdateContainerRequest(
                container=container_id, resources=spec_pb2.Resources(memory_bytes=64 << 20, memory_swap_bytes=-1)
            )
        )
    request = pb.StatsRequest(container=container_id, one_shot=True)
    (stats,) = [answer async for answer in runtimed.containers.Stats(request)]
    assert stats.memory.limit_bytes == 64 << 20
    assert (await runtimed.get(container_id)).spec.resources.memory_bytes == 64 << 20
    await runtimed.remove(container_id)


async def test_prune_removes_what_does_not_run(runtimed: Runtimed) -> None:
    stopped = await runtimed.create("true", labels={"prune": "me"})
    runs = await runtimed.begin("sleep", "1000", labels={"prune": "me"})
    with rpc_errors():
        pruned = await whole(
            runtimed.containers.Prune(
                pb.PruneContainersRequest(filters={"label": pb.FilterValues(values=["prune=me"])})
            )
        )
    assert list(pruned.removed) == [stopped]
    await runtimed.remove(runs)


async def test_the_log_has_no_traceback(runtimed: Runtimed) -> None:
    text = (Path(runtimed.roots) / "runtimed.log").read_text()
    assert "Traceback" not in text
    assert "never retrieved" not in text
