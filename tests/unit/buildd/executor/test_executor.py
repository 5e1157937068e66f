import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from buildd.executor.granted import Granted
from buildd.llb.ops import (
    CacheMount,
    Device,
    HostAddress,
    Mount,
    MountType,
    NetMode,
    ProxyEnv,
    SecretEnv,
    SecretMount,
    SecurityMode,
    Sharing,
    SshMount,
    Ulimit,
)
from buildd.protocol import Directory, Output, ProcessError, Tree
from buildd.session.protocol import SocketOwner
from sampan.build.step import (
    DirectorySource,
    FileSource,
    SnapshotSource,
    SocketSource,
    StepExit,
    StepInput,
    StepNetwork,
    StepOutput,
    StepSecurity,
    StepSpec,
    TmpfsSource,
)
from sampan.errors import InvalidArgumentError, NotFoundError, ServiceGoneError, StartError, UnimplementedError
from sampan.oci.platform import Platform
from sampan.resource.container_spec import Resources
from sampan.resource.container_spec import Ulimit as ContainerUlimit
from tests.fakes.build_sessions import FakeLenders
from tests.fakes.buildd import FakeFileWorker
from tests.fakes.steps import RunningStep
from tests.unit.buildd.executor.executing import ROOT, Yard, op


def writes(executing: Yard, name: str, data: bytes, into: str = "/") -> None:
    """Let the program ``write`` write a file where a mount is."""

    async def program(step: RunningStep) -> int:
        key = step.spec.root
        for mount in step.spec.mounts:
            if mount.target == into:
                assert isinstance(mount.source, SnapshotSource)
                key = mount.source.key
        executing.trees.written[key][name] = data
        return 0

    executing.steps.programs["write"] = program


async def test_what_a_process_writes_is_one_more_layer(executing: Yard) -> None:
    writes(executing, "made", b"1")
    (tree,) = await executing.run(op(command="write"))
    assert executing.world.files(tree) == {"bin/sh": b"shell", "made": b"1"}
    assert tree.layers[0] == executing.base.layers[0]


async def test_nothing_written_is_the_base_itself(executing: Yard) -> None:
    assert await executing.run(op()) == [executing.base]


async def test_output_goes_to_the_builds(executing: Yard) -> None:
    await executing.run(op(command="echo hello"))
    assert executing.progress.logs == b"hello\n"


@pytest.mark.parametrize(("codes", "fails"), [((), True), ((0, 7), False), ((1,), False), ((0,), True)])
async def test_an_exit_code_that_is_not_valid_is_a_failure(
    executing: Yard, codes: tuple[int, ...], fails: bool
) -> None:
    async def exits(step: RunningStep) -> int:
        return int(step.spec.process.args[1])

    executing.steps.programs["exit"] = exits
    command = "exit 7" if 7 in codes or not codes or codes == (0,) else "exit 1"
    step = op(command=command, valid_exit_codes=codes)
    if not fails:
        await executing.run(step)
        return
    with pytest.raises(ProcessError) as caught:
        await executing.run(step)
    assert str(caught.value) == 'process "exit 7" did not complete successfully: exit code: 7'
    assert caught.value.exit_code == 7


async def test_a_command_that_is_no_program_has_the_code_127(executing: Yard) -> None:
    with pytest.raises(
        ProcessError, match=r'^process "nothing" did not complete successfully: exit code: 127'
    ) as caught:
        await executing.run(op(command="nothing"))
    assert caught.value.exit_code == 127


async def test_a_process_that_cannot_be_started_says_why(executing: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(spec: StepSpec, input: StepInput) -> AsyncIterator[StepOutput]:
        raise StartError("unable to find user web")
        yield

    monkeypatch.setattr(executing.steps, "run", refused)
    with pytest.raises(ProcessError, match="unable to find user web"):
        await executing.run(op())


async def test_the_environment_is_the_steps_with_a_path_proxies_and_secrets(executing: Yard) -> None:
    executing.client.secrets["token"] = b"hush"
    proxies = ProxyEnv(http_proxy="http://p", no_proxy="localhost")
    step = replace(
        op(env=("A=1", "no_proxy=mine"), proxy_env=proxies),
        secret_env=(SecretEnv("token", "TOKEN"), SecretEnv("none", "NONE", optional=True)),
    )
    await executing.run(step)
    assert executing.spec.process.env == (
        "A=1",
        "no_proxy=mine",
        "TOKEN=hush",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HTTP_PROXY=http://p",
        "http_proxy=http://p",
        "NO_PROXY=localhost",
    )
    assert b"hush" not in executing.progress.logs


async def test_a_path_of_its_own_is_kept(executing: Yard) -> None:
    await executing.run(op(env=("PATH=/bin",)))
    assert executing.spec.process.env == ("PATH=/bin",)


async def test_limits_hold_for_the_process(executing: Yard) -> None:
    limits = Resources(memory_bytes=64 << 20, cpu_quota_us=50_000, cpuset_cpus="0")
    step = op(ulimits=(Ulimit("nofile", 10, 20),), cgroup_parent="builds")
    await executing.executor.run(step, [executing.base], None, executing.context(), limits)
    found = executing.spec.resources
    assert (found.memory_bytes, found.cpu_quota_us, found.cpuset_cpus) == (64 << 20, 50_000, "0")
    assert found.cgroup_parent == "builds"
    assert [each.name for each in found.ulimits] == ["nofile"]


async def test_the_rest_of_the_process_reaches_the_runtime(executing: Yard) -> None:
    step = op(
        cwd="/src",
        user="web",
        hostname="box",
        extra_hosts=(HostAddress("db", "10.0.0.1"),),
        ulimits=(Ulimit("nofile", 10, 20),),
    )
    await executing.run(replace(step, network=NetMode.NONE, security=SecurityMode.INSECURE))
    spec = executing.spec
    assert (spec.process.working_dir, spec.process.user, spec.hostname) == ("/src", "web", "box")
    assert spec.extra_hosts == ("db:10.0.0.1",)
    assert spec.resources.ulimits == (ContainerUlimit("nofile", 10, 20),)
    assert (spec.network, spec.security) == (StepNetwork.NONE, StepSecurity.INSECURE)


async def test_an_input_that_is_read_is_one_view_however_often_it_is_mounted(executing: Yard) -> None:
    other = executing.world.tree({"src/a": b""})
    step = op(Mount("/a", input=1, selector="/src", read_only=True), Mount("/b", input=1, read_only=True))
    await executing.run(step, [executing.base, other])
    one, two = executing.mount("/a").source, executing.mount("/b").source
    assert isinstance(one, SnapshotSource)
    assert isinstance(two, SnapshotSource)
    assert (one.path, executing.mount("/a").read_only) == ("/src", True)
    assert two == SnapshotSource(one.key)


async def test_what_is_written_to_an_input_is_thrown_away(executing: Yard) -> None:
    writes(executing, "made", b"1", into="/in")
    other = executing.world.tree({"src/a": b""})
    step = op(Mount("/in", input=1), Mount("/again", input=1), command="write")
    assert await executing.run(step, [executing.base, other]) == [executing.base]
    one, two = executing.mount("/in").source, executing.mount("/again").source
    assert isinstance(one, SnapshotSource)
    assert isinstance(two, SnapshotSource)
    assert one.key != two.key


async def test_a_mount_may_be_an_output(executing: Yard) -> None:
    writes(executing, "made", b"1", into="/out")
    step = op(Mount("/out", input=1, output=1), command="write")
    root, out = await executing.run(step, [executing.base, executing.world.tree({"old": b""})])
    assert root == executing.base
    assert executing.world.files(out) == {"old": b"", "made": b"1"}


async def test_an_output_may_begin_empty(executing: Yard) -> None:
    writes(executing, "made", b"1", into="/out")
    _, out = await executing.run(op(Mount("/out", output=1), command="write"))
    assert executing.world.files(out) == {"made": b"1"}


async def test_an_output_that_is_read_only_is_its_input(executing: Yard) -> None:
    other = executing.world.tree({"src/a": b""})
    assert await executing.run(op(Mount("/a", input=1, output=1, read_only=True)), [executing.base, other]) == [
        executing.base,
        other,
    ]


async def test_outputs_are_counted_from_0(executing: Yard) -> None:
    with pytest.raises(InvalidArgumentError, match="counted from 0"):
        await executing.run(op(Mount("/out", output=2)))


async def test_a_clients_directory_is_mounted_as_it_is_and_never_written_to(executing: Yard) -> None:
    executing.world.directories[Path("/context")] = {"a": b""}
    step = op(Mount("/a", input=1, selector="/src", read_only=True), Mount("/b", input=1))
    await executing.run(step, [executing.base, Directory(Path("/context"))])
    assert executing.mount("/a").source == DirectorySource("/context", "/src")
    assert executing.mount("/b").source == DirectorySource("/context", "", discard=True)


async def test_a_clients_directory_may_be_the_root(executing: Yard) -> None:
    executing.world.directories[Path("/context")] = {"a": b""}
    (tree,) = await executing.run(op(), [Directory(Path("/context"))])
    assert executing.world.files(tree) == {"a": b""}


async def test_a_root_that_is_read_only_stays_what_it_is(executing: Yard) -> None:
    step = replace(op(), mounts=(replace(ROOT, read_only=True),))
    assert await executing.run(step) == [executing.base]
    assert executing.spec.root_read_only


async def test_a_step_may_begin_with_nothing(executing: Yard) -> None:
    step = replace(op(), mounts=(Mount("/", output=0),))
    assert await executing.run(step, []) == [Tree()]


@pytest.mark.parametrize("mounts", [(), (ROOT, ROOT), (Mount("/", MountType.TMPFS),)])
async def test_a_step_has_one_root(executing: Yard, mounts: tuple[Mount, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="one mount at /"):
        await executing.run(replace(op(), mounts=mounts))


async def test_mounts_further_up_come_first_and_paths_are_the_steps_own(executing: Yard) -> None:
    step = op(
        Mount("/a/b", MountType.TMPFS, tmpfs_bytes=10), Mount("/a-b", MountType.TMPFS), Mount("c", MountType.TMPFS),
        Mount("/a", MountType.TMPFS), cwd="/a/b",
    )  # fmt: skip
    await executing.run(step)
    assert [each.target for each in executing.spec.mounts] == ["/a", "/a/b", "/a/b/c", "/a-b"]
    assert executing.mount("/a/b").source == TmpfsSource(10)


async def test_a_secret_is_a_file_in_memory(executing: Yard) -> None:
    executing.client.secrets["token"] = b"hush"
    secret = SecretMount("token", 1, 2, 0o440)
    await executing.run(op(Mount("/run/secrets/token", MountType.SECRET, secret=secret)))
    assert executing.mount("/run/secrets/token").source == FileSource(b"hush", 0o440, 1, 2)
    assert executing.mount("/run/secrets/token").read_only


async def test_a_secret_that_is_missing_is_an_error_unless_it_may_be(executing: Yard) -> None:
    with pytest.raises(NotFoundError, match=r"^secret token: not found$"):
        await executing.run(op(Mount("/t", MountType.SECRET, secret=SecretMount("token"))))
    with pytest.raises(NotFoundError, match=r"^secret token: not found$"):
        await executing.run(replace(op(), secret_env=(SecretEnv("token", "TOKEN"),)))
    await executing.run(op(Mount("/t", MountType.SECRET, secret=SecretMount("token", optional=True))))
    assert executing.spec.mounts == ()


async def test_a_secret_that_no_variable_can_hold_is_refused(executing: Yard) -> None:
    executing.client.secrets["token"] = b"a\0b"
    with pytest.raises(InvalidArgumentError, match="zero byte"):
        await executing.run(replace(op(), secret_env=(SecretEnv("token", "TOKEN"),)))


async def test_an_agent_is_a_socket_while_the_step_runs(executing: Yard) -> None:
    executing.client.agents.add("default")
    seen = []

    async def look(step: RunningStep) -> int:
        seen.extend(executing.client.sockets)
        return 0

    executing.steps.programs["look"] = look
    await executing.run(op(Mount("/agent", MountType.SSH, ssh=SshMount("", 5, 6, 0o660)), command="look"))
    ((name, path, owner),) = seen
    assert (name, owner) == ("default", SocketOwner(5, 6, 0o660))
    assert executing.mount("/agent").source == SocketSource(str(path))
    with pytest.raises(NotFoundError, match=r'^no SSH key "work" forwarded from the client$'):
        await executing.run(op(Mount("/agent", MountType.SSH, ssh=SshMount("work"))))
    await executing.run(op(Mount("/agent", MountType.SSH, ssh=SshMount("work", optional=True))))
    assert executing.spec.mounts == ()


async def test_a_start_removes_sockets_of_the_last_one(executing: Yard, tmp_path: Path) -> None:
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh" / "0011223344556677").write_bytes(b"")
    granted = Granted(FakeLenders(), tmp_path / "ssh")
    granted.recover()
    granted.recover()
    assert not (tmp_path / "ssh").exists()


async def test_a_cache_mount_is_the_same_directory_the_next_time(executing: Yard) -> None:
    step = op(Mount("/cache", MountType.CACHE, cache=CacheMount("c")))
    await executing.run(step)
    source = executing.mount("/cache").source
    assert isinstance(source, DirectorySource)
    (Path(source.directory) / "kept").write_bytes(b"1")
    await executing.run(step)
    assert executing.mount("/cache").source == source
    assert (Path(source.directory) / "kept").read_bytes() == b"1"


async def test_a_locked_cache_mount_is_one_steps_at_a_time(executing: Yard) -> None:
    running, most = 0, 0

    async def work(step: RunningStep) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(20):
            await asyncio.sleep(0)
        running -= 1
        return 0

    executing.steps.programs["work"] = work
    step = op(Mount("/c", MountType.CACHE, cache=CacheMount("c", Sharing.LOCKED)), command="work")
    await asyncio.gather(*(executing.run(step) for _ in range(3)))
    assert most == 1


async def test_steps_with_the_same_locked_mounts_do_not_wait_for_each_other_forever(executing: Yard) -> None:
    def locked(target: str, name: str) -> Mount:
        return Mount(target, MountType.CACHE, cache=CacheMount(name, Sharing.LOCKED))

    one, other = op(locked("/1", "a"), locked("/2", "b")), op(locked("/1", "b"), locked("/2", "a"))
    async with asyncio.timeout(10):
        await asyncio.gather(*(executing.run(each) for each in (one, other, one, other)))


async def test_two_mounts_of_one_name_are_one_directory(executing: Yard) -> None:
    cache = CacheMount("c", Sharing.LOCKED)
    await executing.run(op(Mount("/1", MountType.CACHE, cache=cache), Mount("/2", MountType.CACHE, cache=cache)))
    assert executing.mount("/1").source == executing.mount("/2").source


async def test_a_process_that_the_kernel_has_killed_for_want_of_memory_says_so(
    executing: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(spec: StepSpec, input: StepInput) -> AsyncIterator[StepOutput]:
        yield StepExit(137, oom_killed=True)

    monkeypatch.setattr(executing.steps, "run", killed)
    with pytest.raises(ProcessError, match=r"did not complete successfully: cannot allocate memory$") as caught:
        await executing.run(op())
    assert caught.value.exit_code == 137


async def test_no_more_processes_run_than_were_asked_for(executing: Yard) -> None:
    running, most = 0, 0
    together = asyncio.Event()

    async def work(step: RunningStep) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 2:
            together.set()
        await together.wait()
        running -= 1
        return 0

    executing.steps.programs["work"] = work
    await asyncio.gather(*(executing.run(op(command="work")) for _ in range(5)))
    assert most == 2


async def test_a_device_is_refused_by_name_or_left_out(executing: Yard) -> None:
    with pytest.raises(UnimplementedError, match="device vendor/gpu=0 is not available"):
        await executing.run(replace(op(), devices=(Device("vendor/gpu=0"),)))
    await executing.run(replace(op(), devices=(Device("vendor/gpu=0", optional=True),)))
    assert executing.progress.logs == b"device vendor/gpu=0 is not available, and left out\n"


async def test_a_platform_that_the_host_cannot_run_says_what_to_install(executing: Yard) -> None:
    with pytest.raises(UnimplementedError, match="qemu-user-static") as caught:
        await executing.run(op(), platform=Platform("linux", "arm64"))
    assert "a step for linux/arm64 cannot run on linux/amd64" in str(caught.value)
    with pytest.raises(UnimplementedError, match="windows/amd64 cannot run on linux/amd64"):
        await executing.run(op(), platform=Platform("windows", "amd64"))
    await executing.run(op(), platform=Platform("linux", "386"))


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\n", True),
        ("enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OC\n", False),
        ("disabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\n", False),
    ],
)
async def test_an_emulator_counts_if_it_is_there_for_every_root(executing: Yard, text: str, runs: bool) -> None:
    (executing.path / "binfmt").mkdir()
    (executing.path / "binfmt" / "qemu-aarch64").write_text(text)
    if runs:
        await executing.run(op(), platform=Platform("linux", "arm64", "v8"))
    else:
        with pytest.raises(UnimplementedError):
            await executing.run(op(), platform=Platform("linux", "arm64", "v8"))


async def test_a_cancelled_step_leaves_nothing(executing: Yard) -> None:
    started = asyncio.Event()

    async def work(step: RunningStep) -> int:
        started.set()
        await asyncio.Event().wait()
        return 0

    executing.steps.programs["work"] = work
    executing.client.agents.add("default")
    step = op(
        Mount("/agent", MountType.SSH, ssh=SshMount("")),
        Mount("/c", MountType.CACHE, cache=CacheMount("c", Sharing.LOCKED)),
        command="work",
    )
    running = asyncio.create_task(executing.run(step))
    await started.wait()
    running.cancel()
    await asyncio.wait([running])
    assert not executing.steps.running
    assert not any(each.in_use for each in await executing.caches.records())


async def test_a_cancelled_step_is_killed_and_its_end_is_waited_for(executing: Yard) -> None:
    started, killed, clear, signals = asyncio.Event(), asyncio.Event(), asyncio.Event(), list[int]()

    async def work(step: RunningStep) -> int:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            signals.append(step.signal)
            killed.set()
            await clear.wait()  # what runtimed takes to take everything down
        return 0

    executing.steps.programs["work"] = work
    running = asyncio.create_task(executing.run(op(command="work")))
    await started.wait()
    running.cancel()
    await killed.wait()
    assert not running.done()
    assert executing.steps.running
    clear.set()
    await asyncio.wait([running])
    assert running.cancelled()
    assert signals == [signal.SIGKILL]
    assert not executing.steps.running


async def test_a_step_that_cannot_be_killed_holds_nobody_for_ever(
    executing: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buildd.executor.executor._KILLED_S", 0.01)
    started = asyncio.Event()

    async def stuck(spec: StepSpec, input: StepInput) -> AsyncIterator[StepOutput]:
        started.set()
        await asyncio.Event().wait()
        yield StepExit(0)

    monkeypatch.setattr(executing.steps, "run", stuck)
    running = asyncio.create_task(executing.run(op()))
    await started.wait()
    running.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait([running])
    assert running.cancelled()


async def test_a_step_is_prepared_once_more_when_a_service_goes_away(
    executing: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    flatten, failures = FakeFileWorker.flatten, [ServiceGoneError("the snapshotter went away")]

    async def gone_once(files: FakeFileWorker, output: Output) -> Tree:
        if failures:
            raise failures.pop()
        return await flatten(files, output)

    monkeypatch.setattr(FakeFileWorker, "flatten", gone_once)
    writes(executing, "made", b"1")
    context = executing.path / "context"
    executing.world.directories[context] = {"sent": b"0"}
    (tree,) = await executing.run(op(command="write"), [Directory(context)])
    assert executing.world.files(tree) == {"sent": b"0", "made": b"1"}
    assert (executing.reached, len(executing.steps.ran)) == (2, 1)  # before it is prepared again, and before it runs


async def test_a_step_whose_process_may_have_run_is_not_run_again(
    executing: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = list[str]()

    async def gone(spec: StepSpec, input: StepInput) -> AsyncIterator[StepOutput]:
        ran.append(spec.id)
        raise ServiceGoneError("runtimed went away")
        yield

    monkeypatch.setattr(executing.steps, "run", gone)
    with pytest.raises(ServiceGoneError):
        await executing.run(op())
    assert (executing.reached, len(ran)) == (1, 1)
