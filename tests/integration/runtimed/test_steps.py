"""Steps of builds in a real runtimed: what they see, what they leave, how they end."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from sampan.build.step import (
    DirectorySource,
    FileSource,
    SnapshotSource,
    SocketSource,
    StepExit,
    StepInput,
    StepMount,
    StepNetwork,
    StepSecurity,
    StepSignal,
    StepStarted,
    TmpfsSource,
)
from sampan.client.runtime.events import EventsClient
from sampan.client.runtime.networks import NetworksClient
from sampan.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    InvalidArgumentError,
    NotFoundError,
    StartError,
    UnavailableError,
)
from sampan.resource.container_spec import ConsoleSize, Resources, Ulimit
from sampan.resource.protocols import Steps
from sampan.resource.streams import Frame
from tests.contract.steps import StepsContract, outcome
from tests.integration.runtimed.steps_setup import Builder, building, descriptors
from tests.support.tools import eventually, files_with

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")]


@pytest.fixture
async def builder(tmp_path: Path) -> AsyncIterator[Builder]:
    async with building(tmp_path) as made:
        yield made


class TestSteps(StepsContract):
    @pytest.fixture
    def steps(self, builder: Builder) -> Steps:
        return builder.steps

    @pytest.fixture
    async def root(self, builder: Builder) -> str:
        return await builder.prepare()


async def test_what_a_step_writes_is_in_its_snapshot_and_nothing_of_the_engine(builder: Builder) -> None:
    root = await builder.prepare()
    mounts = (
        StepMount("/run/secrets/token", FileSource(b"hunter2")),
        StepMount("/var/cache/deep/down", TmpfsSource()),
    )
    await builder.lines("echo kept > /kept; mkdir -p /made/here", root, *mounts)
    assert builder.written(root) == ["kept", "made", "made/here"]


async def test_places_that_a_step_filled_stay(builder: Builder) -> None:
    root = await builder.prepare()
    mounts = (StepMount("/var/cache/deep", TmpfsSource()),)
    await builder.lines("echo x > /var/cache/own; echo x > /var/cache/deep/gone", root, *mounts)
    assert builder.written(root) == ["var", "var/cache", "var/cache/own"]


async def test_times_of_directories_around_places_are_put_back(builder: Builder) -> None:
    before = (builder.snapshotter.parents["busybox"] / "etc").stat().st_mtime_ns
    root = await builder.prepare()
    await builder.lines("true", root)
    await builder.lines("true", root)
    upper = builder.snapshotter.root / root / "upper/etc"
    assert upper.stat().st_mtime_ns == before


async def test_user_environment_and_a_working_directory_that_is_made(builder: Builder) -> None:
    root = await builder.prepare()
    passwd = builder.snapshotter.parents["busybox"] / "etc/passwd"
    passwd.write_text(passwd.read_text() + "web:x:1000:1001::/home/web:/bin/sh\n")
    script = "id -u; id -g; echo $HOME; echo $A; env | grep -c ^HOSTNAME=; pwd; touch here; hostname"
    spec = builder.spec(root, "sh", "-c", script, process_user="web", process_working_dir="/srv/app")
    spec = replace(spec, process=replace(spec.process, env=("PATH=/bin", "A=b c")))
    end, out, errors = await outcome(builder.steps, spec)
    assert (end, errors) == (StepExit(0), b"")
    assert out.decode().split("\n") == ["1000", "1001", "/home/web", "b c", "0", "/srv/app", "buildkitsandbox", ""]
    assert builder.written(root) == ["srv", "srv/app", "srv/app/here"]


async def test_an_unknown_user_is_told(builder: Builder) -> None:
    with pytest.raises(StartError, match="unable to find user nosuch"):
        await builder.sh("true", process_user="nosuch")


async def test_what_cannot_be_executed_is_told_apart(builder: Builder) -> None:
    root = await builder.prepare()
    with pytest.raises(CommandNotFoundError, match='exec: "nosuch": executable file not found in \\$PATH'):
        await outcome(builder.steps, builder.spec(root, "nosuch"))
    with pytest.raises(CommandNotExecutableError, match="permission denied"):
        await outcome(builder.steps, builder.spec(root, "/bin/plain"))


async def test_exit_codes_and_both_streams(builder: Builder) -> None:
    assert await builder.sh("echo out; echo err >&2; exit 7") == (StepExit(7), "out\n", "err\n")


async def test_hosts_and_names(builder: Builder) -> None:
    assert await builder.lines("hostname; cat /etc/hostname", hostname="maker") == ["maker", "maker"]
    assert "10.1.2.3\tdb" in await builder.lines("cat /etc/hosts", extra_hosts=("db:10.1.2.3",))


async def test_networks(builder: Builder) -> None:
    interfaces = "ls /sys/class/net"
    assert await builder.lines(interfaces) == ["lo"]
    assert await builder.lines(interfaces, network=StepNetwork.SANDBOX) == ["eth0", "lo"]
    own = "ls -l /proc/self/ns/net"  # not its interfaces, which other engines add to and take away
    (shown,) = await builder.lines(own, network=StepNetwork.HOST)
    assert shown.endswith(f" {os.readlink('/proc/self/ns/net')}")
    resolv = await builder.lines("cat /etc/resolv.conf", network=StepNetwork.SANDBOX)
    assert any(line.startswith("nameserver ") for line in resolv)


async def test_networks_and_events_tell_nothing_of_steps(builder: Builder) -> None:
    script = "cat; echo go; sleep 600"
    spec = builder.spec(await builder.prepare(), "sh", "-c", script, network=StepNetwork.SANDBOX)
    assert builder.runtimed.channel is not None
    networks, events = NetworksClient(builder.runtimed.channel), EventsClient(builder.runtimed.channel)
    async with aclosing(builder.steps.run(spec)) as output:
        await anext(output)
        await anext(output)
        assert (await networks.get("bridge")).members == ()
    await builder.until_nothing()
    async with aclosing(events.subscribe(until_ns=time.time_ns())) as told:
        assert [event async for event in told if event is not None] == []


async def test_confined_and_insecure(builder: Builder) -> None:
    capabilities = "while read name value; do test $name != CapEff: || echo $value; done < /proc/self/status"
    assert await builder.lines(capabilities) == ["00000000a80425fb"]
    (all_of_them,) = await builder.lines(capabilities, security=StepSecurity.INSECURE)
    assert int(all_of_them, 16) > 0xA80425FB


async def test_a_secret_is_in_memory_alone_and_as_asked_for(builder: Builder) -> None:
    root = await builder.prepare()
    secret = StepMount("/run/secrets/token", FileSource(b"hunter2", 0o440, 5, 6))
    script = "cat /run/secrets/token; echo; ls -ln /run/secrets/token; cp /run/secrets/token /copy 2> /dev/null; true"
    out = await builder.lines(script, root, secret)
    assert out[0] == "hunter2"
    assert out[1].split()[:4] == ["-r--r-----", "1", "5", "6"]
    assert builder.written(root) == ["copy"]
    holding = files_with(b"hunter2", builder.runtimed.roots, most_bytes=1 << 16)
    assert [path.name for path in holding] == ["copy"]  # the step's own, which it made itself


async def test_a_directory_can_be_written_to_or_thrown_away(builder: Builder) -> None:
    cache = builder.data / "cache/1"
    (cache / "sub").mkdir(parents=True)
    (cache / "sub/old").write_text("old")
    kept = StepMount("/c", DirectorySource(str(cache)))
    await builder.lines("echo new > /c/new", "", kept)
    thrown = StepMount("/c", DirectorySource(str(cache), "sub", discard=True))
    assert await builder.lines("rm /c/old; echo x > /c/x; ls /c", "", thrown) == ["x"]
    refused = StepMount("/c", DirectorySource(str(cache)), read_only=True)
    assert (await builder.sh("echo x > /c/x", "", refused))[0] == StepExit(1)
    assert sorted(path.name for path in cache.rglob("*")) == ["new", "old", "sub"]


async def test_a_snapshot_can_be_written_to_and_stays_as_it_is(builder: Builder) -> None:
    other = await builder.prepare()
    await builder.lines("mkdir /d; echo old > /d/f", other)
    thrown = StepMount("/m", SnapshotSource(other, "d", discard=True))
    assert await builder.lines("rm /m/f; echo x > /m/x; ls /m", "", thrown) == ["x"]
    file = StepMount("/m", SnapshotSource(other, "d/f", discard=True))
    assert await builder.lines("echo new > /m; cat /m", "", file) == ["new"]
    assert builder.written(other) == ["d", "d/f"]
    assert await builder.lines("cat /d/f", other) == ["old"]


async def test_directories_of_the_host_are_refused(builder: Builder) -> None:
    (builder.data / "link").symlink_to("/etc")
    for path in ("/etc", f"{builder.data}/../../../etc", str(builder.data), "relative", f"{builder.data}/link"):
        with pytest.raises(InvalidArgumentError, match=r"not below a directory of the builder's|is no directory"):
            await builder.sh("true", "", StepMount("/c", DirectorySource(path)))
    with pytest.raises(NotFoundError, match="nosuch"):
        await builder.sh("true", "", StepMount("/c", DirectorySource(f"{builder.data}/nosuch")))


async def test_paths_in_sources_and_targets_stay_inside(builder: Builder) -> None:
    other, root = await builder.prepare(), await builder.prepare()
    await builder.lines("mkdir /d; echo inside > /d/f; ln -s /d /link; ln -s / /etc/out", other)
    shown = StepMount("/m", SnapshotSource(other, "link/../etc/out/d"))
    assert await builder.lines("cat /m/f", root, shown) == ["inside"]
    assert await builder.lines("cat /m", root, StepMount("/m", SnapshotSource(other, "/link/f"))) == ["inside"]
    with pytest.raises(NotFoundError, match='"nosuch/f": not found'):
        await builder.sh("true", root, StepMount("/m", SnapshotSource(other, "nosuch/f")))
    target = f"{builder.runtimed.roots}/outside"
    await builder.lines(f"ln -s {target} /to", root)
    await builder.lines("true", root, StepMount("/to/deep", TmpfsSource()))
    assert not Path(target).exists()


async def test_a_snapshot_can_be_shown_to_many_at_a_time(builder: Builder) -> None:
    other = await builder.prepare()
    await builder.lines("echo seen > /f", other)
    shown = StepMount("/m", SnapshotSource(other), read_only=True)
    found = await asyncio.gather(*(builder.lines("cat /m/f", "", shown) for _ in range(6)))
    assert found == [["seen"]] * 6


async def test_a_socket_of_the_builder_is_reached(builder: Builder) -> None:
    path = builder.run / "agent"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        out = await builder.lines("test -S /agent && echo socket", "", StepMount("/agent", SocketSource(str(path))))
        assert out == ["socket"]
    plain = builder.run / "plain"
    plain.write_text("")
    with pytest.raises(InvalidArgumentError, match="is no socket"):
        await builder.sh("true", "", StepMount("/agent", SocketSource(str(plain))))


async def test_limits(builder: Builder) -> None:
    resources = Resources(ulimits=(Ulimit("nofile", 100, 200),), shm_size_bytes=8 << 20, pids_limit=50)
    script = "ulimit -n; while read a b c d e f; do test $b != /dev/shm || echo $d; done < /proc/mounts"
    out = await builder.lines(script, resources=resources)
    assert out[0] == "100"
    assert "size=8192k" in out[1]


async def test_a_step_that_needs_too_much_memory_is_told_so(builder: Builder) -> None:
    resources = Resources(memory_bytes=16 << 20, memory_swap_bytes=16 << 20)
    end, _, _ = await builder.sh("exec head -c 200000000 /dev/zero | tr -d x | sort", resources=resources)
    whole = "a=$(head -c 100000000 /dev/zero | tr '\\0' x); echo done"
    end, out, _ = await builder.sh(whole, resources=resources)
    assert end.oom_killed
    assert "done" not in out


async def test_a_client_that_leaves_kills_a_fork_bomb(builder: Builder) -> None:
    spec = builder.spec(
        await builder.prepare(), "sh", "-c", "b() { b | b & }; echo go; b; sleep 600",
        resources=Resources(pids_limit=400),
    )  # fmt: skip
    async with aclosing(builder.steps.run(spec)) as output:
        assert await anext(output) == StepStarted()
        await anext(output)
        await asyncio.sleep(0.5)
    await builder.until_nothing()


async def test_a_slow_reader_slows_the_step_and_costs_no_memory(builder: Builder) -> None:
    assert builder.runtimed.process is not None
    status = Path(f"/proc/{builder.runtimed.process.pid}/status")
    spec = builder.spec(
        await builder.prepare(), "sh", "-c", "dd if=/dev/zero bs=1M count=1000 2> /dev/null; echo end >&2"
    )
    before, most, total, frames = resident(status), 0, 0, 0
    async with aclosing(builder.steps.run(spec)) as output:
        assert await anext(output) == StepStarted()
        await asyncio.sleep(1)  # nobody reads
        most = resident(status)
        async for one in output:
            if isinstance(one, Frame):
                total += len(one.data)
                frames += 1
                if frames % 500 == 0:
                    most = max(most, resident(status))
    assert total == (1000 << 20) + 4
    assert most - before < 64 << 20
    assert frames < 100_000


async def test_a_terminal_with_a_size_and_input(builder: Builder) -> None:
    go = asyncio.Event()

    async def typed() -> StepInput:
        await go.wait()
        yield ConsoleSize(40, 100)
        yield b"stty size; exit 3\n"
        await asyncio.Event().wait()

    spec = builder.spec(
        await builder.prepare(), "sh", process_tty=True, process_open_stdin=True, process_console_size=ConsoleSize(5, 9)
    )
    out, end = b"", None
    async with aclosing(builder.steps.run(spec, typed())) as output:
        async for one in output:
            if isinstance(one, Frame):
                out += one.data
                go.set()  # the shell has shown its prompt
            elif isinstance(one, StepExit):
                end = one
    assert end == StepExit(3)
    assert b"40 100" in out


async def test_a_signal_reaches_the_process(builder: Builder) -> None:
    ready = asyncio.Event()

    async def signals() -> StepInput:
        await ready.wait()
        yield StepSignal(15)
        await asyncio.Event().wait()

    spec = builder.spec(
        await builder.prepare(), "sh", "-c", "trap 'exit 9' TERM; echo go; while true; do sleep 1; done"
    )
    end = None
    async with aclosing(builder.steps.run(spec, signals())) as output:
        async for one in output:
            if isinstance(one, Frame):
                ready.set()
            elif isinstance(one, StepExit):
                end = one
    assert end == StepExit(9)


@pytest.mark.parametrize("network", [StepNetwork.NONE, StepNetwork.SANDBOX])
async def test_a_runtimed_that_was_killed_leaves_nothing_once_it_is_back(
    builder: Builder, network: StepNetwork
) -> None:
    (builder.data / "c").mkdir()
    mounts = (
        StepMount("/s", FileSource(b"secret")),
        StepMount("/c", DirectorySource(f"{builder.data}/c", discard=True)),
    )
    spec = builder.spec(await builder.prepare(), "sh", "-c", "echo go; sleep 600", network=network, mounts=mounts)
    async with aclosing(builder.steps.run(spec)) as output:
        await anext(output)
        await anext(output)
        await builder.runtimed.restart()
        with pytest.raises(UnavailableError):
            await anext(output)
    await builder.until_nothing()
    await asyncio.to_thread(eventually, lambda: processes_with(spec.id) == [], "its processes have ended")


async def test_a_runtimed_that_stops_ends_its_steps(builder: Builder) -> None:
    spec = builder.spec(await builder.prepare(), "sh", "-c", "echo go; sleep 600")
    async with aclosing(builder.steps.run(spec)) as output:
        await anext(output)
        await anext(output)
        await builder.runtimed.restart(15)
        with pytest.raises(UnavailableError):
            await anext(output)
    await asyncio.to_thread(eventually, lambda: processes_with(spec.id) == [], "its processes have ended")
    await builder.until_nothing()


async def test_two_hundred_steps_leave_nothing(builder: Builder) -> None:
    assert builder.runtimed.process is not None
    pid = builder.runtimed.process.pid
    root = await builder.prepare()
    await outcome(builder.steps, builder.spec(root, "true"))
    before = descriptors(pid)
    begun = time.perf_counter()

    async def some() -> None:
        for number in range(50):
            network = StepNetwork.SANDBOX if number % 5 == 0 else StepNetwork.NONE
            spec = builder.spec(root, "true", network=network)
            builder.ids |= {spec.id}
            assert (await outcome(builder.steps, spec))[0] == StepExit(0)

    await asyncio.gather(*(some() for _ in range(4)))
    print(f"200 steps in {time.perf_counter() - begun:.1f} s")
    await builder.until_nothing()
    # Connections of ours come and go, and some of what was open is closed a moment after the last step's end.
    await asyncio.to_thread(eventually, lambda: descriptors(pid) <= before + 4, "what was open is closed")
    assert builder.written(root) == []


def resident(status: Path) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) << 10


def processes_with(text: str) -> list[str]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in command:
                found.append(command.decode())
    return found
