import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from buildd.llb.ops import (
    CacheMount,
    Device,
    HostAddress,
    Mount,
    MountType,
    NetMode,
    ProxyEnv,
    SecretEnv,
    SecurityMode,
    Sharing,
    SshMount,
    Ulimit,
)
from buildd.protocol import Directory, Output, ProcessError, Tree
from sampan.build.step import (
    StepExit,
    StepInput,
    StepNetwork,
    StepOutput,
    StepSecurity,
    StepSpec,
)
from sampan.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    NotStartedError,
    SampanError,
    ServiceGoneError,
    StartError,
    UnimplementedError,
)
from sampan.oci.platform import Platform
from sampan.resource.container_spec import Resources
from sampan.resource.container_spec import Ulimit as ContainerUlimit
from tests.fakes.buildd import FakeFileWorker
from tests.fakes.steps import RunningStep
from tests.unit.buildd.executor.executing import Yard, op, writes


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


async def test_of_a_command_that_is_no_program_the_runtime_says_so_and_fails(executing: Yard) -> None:
    with pytest.raises(
        ProcessError, match=r'^process "nothing" did not complete successfully: exit code: 1$'
    ) as caught:
        await executing.run(op(command="nothing"))
    assert caught.value.exit_code == 1
    assert executing.progress.logs == (
        b'runc run failed: unable to start container process: exec: "nothing": executable file not found in $PATH\n'
    )
    await executing.run(op(command="nothing", valid_exit_codes=(0, 1)))


@pytest.mark.parametrize("kind", [NotStartedError, CommandNotFoundError, CommandNotExecutableError])
async def test_what_the_runtime_did_not_start_is_told_by_its_error_s_type(
    executing: Yard, monkeypatch: pytest.MonkeyPatch, kind: type[SampanError]
) -> None:
    async def refused(spec: StepSpec, input: StepInput) -> AsyncIterator[StepOutput]:
        raise kind("whatever it says")
        yield

    monkeypatch.setattr(executing.steps, "run", refused)
    with pytest.raises(ProcessError, match=r"exit code: 1$"):
        await executing.run(op())
    assert executing.progress.logs == b"whatever it says\n"


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
    assert found.pids_limit == executing.max_processes


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


async def test_a_step_for_another_platform_is_run_and_if_it_fails_says_what_to_install(executing: Yard) -> None:
    await executing.run(op(), platform=Platform("linux", "arm64"))
    assert executing.progress.logs == b""
    with pytest.raises(ProcessError, match=r"exit code: 1$"):
        await executing.run(op(command="false"), platform=Platform("linux", "arm64"))
    assert b"programs for linux/arm64 do not run on linux/amd64: no emulator is set up" in executing.progress.logs
    assert b"qemu-user-static" in executing.progress.logs
    with pytest.raises(ProcessError):
        await executing.run(op(command="false"), platform=Platform("windows", "amd64"))
    assert executing.progress.logs.endswith(b"programs for windows/amd64 do not run on linux/amd64\n")


@pytest.mark.parametrize("platform", [None, Platform("linux", "386"), Platform("linux", "amd64")])
async def test_a_step_that_fails_on_a_platform_of_the_host_says_no_more(
    executing: Yard, platform: Platform | None
) -> None:
    with pytest.raises(ProcessError):
        await executing.run(op(command="false"), platform=platform)
    assert executing.progress.logs == b""


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
    with pytest.raises(ProcessError):
        await executing.run(op(command="false"), platform=Platform("linux", "arm64", "v8"))
    assert (executing.progress.logs == b"") == runs


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
