"""ExecOp: a process of its own on a snapshot, with mounts, run by runtimed as containers' processes are."""

import asyncio
import signal
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final

from buildd.executor.containers import StepContainer
from buildd.executor.mounts import Makers, StepMounts
from buildd.executor.platforms import HostPlatforms
from buildd.executor.protocol import Program
from buildd.llb.ops import NO_LIMITS, ExecOp, NetMode, Process, SecurityMode
from buildd.protocol import Output, ProcessError, StepContext, Tree
from sampan.build.step import (
    StepExit,
    StepInput,
    StepNetwork,
    StepOutput,
    StepProcess,
    StepSecurity,
    StepSignal,
    StepSpec,
    StepStarted,
)
from sampan.dockerfile.words import quoted
from sampan.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    NotStartedError,
    SampanError,
    ServiceGoneError,
    StartError,
    UnavailableError,
    UnimplementedError,
)
from sampan.oci.platform import Platform
from sampan.resource.container_spec import Resources, Ulimit
from sampan.resource.protocols import Steps
from sampan.resource.streams import Frame, Stream

_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STDERR: Final = 2
_KILLED_S: Final = 10.0  # a step that was killed, until nothing of it is left
_NOT_RUN_CODE: Final = 1  # the runtime's own, of `run`
_NOT_EXECUTED_CODE: Final = 255  # of `exec`
_NETWORKS: Final = {
    NetMode.SANDBOX: StepNetwork.SANDBOX,
    NetMode.HOST: StepNetwork.HOST,
    NetMode.NONE: StepNetwork.NONE,
}
_SECURITY: Final = {SecurityMode.SANDBOX: StepSecurity.CONFINED, SecurityMode.INSECURE: StepSecurity.INSECURE}


class StepExecutor:
    """Satisfies ``executor.protocol.Executor``."""

    def __init__(
        self,
        steps: Steps,
        makers: Makers,
        platforms: HostPlatforms,
        max_parallelism: int,
        reach: Callable[[], Awaitable[None]],
        max_processes: int = -1,
    ) -> None:
        """Run steps.

        Args:
            steps: runs a process.
            makers: make what a step sees.
            platforms: what can be run here, which is told where something has failed.
            max_parallelism: how many processes of steps run at the same time; others wait.
            reach: returns when the engine's other services can be called.
            max_processes: how many processes and threads one step may have; -1: any number. One that forks without
                end would otherwise leave the machine none to end it with.
        """
        self._reach = reach
        self._max_processes = max_processes
        self._steps = _Told(steps)
        self._makers = makers
        self._platforms = platforms
        self._turns = asyncio.Semaphore(max_parallelism)

    async def run(
        self,
        op: ExecOp,
        inputs: Sequence[Output],
        platform: Platform | None,
        context: StepContext,
        limits: Resources = NO_LIMITS,
        network_mode: str = "",
    ) -> Sequence[Tree]:
        """See ``executor.protocol.Executor``."""
        for device in op.devices:
            if not device.optional:
                raise UnimplementedError(f"device {device.name} is not available: steps of builds get no CDI devices")
            context.log(f"device {device.name} is not available, and left out\n".encode(), _STDERR)
        try:
            try:
                return await self._run(op, inputs, context, limits, network_mode, begun := asyncio.Event())
            except ServiceGoneError:
                if begun.is_set():  # what its process has done to others cannot be undone
                    raise
            await self._reach()
            return await self._run(op, inputs, context, limits, network_mode, asyncio.Event())
        except ProcessError:
            if platform is not None and (advice := await asyncio.to_thread(self._platforms.advice, platform)):
                context.log(f"{advice}\n".encode(), _STDERR)
            raise

    async def _run(
        self,
        op: ExecOp,
        inputs: Sequence[Output],
        context: StepContext,
        limits: Resources,
        network_mode: str,
        begun: asyncio.Event,
    ) -> Sequence[Tree]:
        """Run it; ``begun`` is set as soon as there may be a process.

        What a step that has failed has written stays with its builds, whose clients may want to look at it.
        """
        async with AsyncExitStack() as written:
            mounts = StepMounts(op, inputs, context, self._makers, written)
            try:
                async with mounts.shown:
                    await mounts.make()
                    spec = self._spec(op, mounts, await self._environment(op, context), limits, network_mode)
                    async with self._turns:
                        await self._reach()  # a call that found nobody would be one that may have come through
                        begun.set()
                        await self._process(spec, op.process, context)
                    return await mounts.freeze()
            except ServiceGoneError:
                raise
            except SampanError:
                left = written.pop_all()
                await context.leave_behind(mounts.remains(), partial(_let_go, left))
                raise

    @asynccontextmanager
    async def container(
        self, op: ExecOp, inputs: Sequence[Output], context: StepContext
    ) -> AsyncIterator[StepContainer]:
        """See ``executor.protocol.Executor``. It takes no step's place: steps may be what it waits for."""
        await self._reach()
        async with AsyncExitStack() as stack:
            mounts = StepMounts(op, inputs, context, self._makers, stack)
            await stack.enter_async_context(mounts.shown)
            await mounts.make()

            async def environment(program: Program) -> tuple[str, ...]:
                process = replace(op.process, env=program.env)
                return await self._environment(replace(op, process=process, secret_env=program.secret_env), context)

            spec = self._spec(op, mounts, (), NO_LIMITS)
            container = StepContainer(self._steps, spec, environment, self._reach, mounts.readable)
            stack.push_async_callback(container.close)
            yield container

    async def _environment(self, op: ExecOp, context: StepContext) -> tuple[str, ...]:
        env = list(op.process.env)
        for wanted in op.secret_env:
            variable = await self._makers.granted.variable(wanted, context)
            if variable is not None:
                env.append(variable)
        names = {entry.partition("=")[0] for entry in env}
        if "PATH" not in names:
            env.append(_PATH)
        return (*env, *(entry for entry in _proxies(op.process) if entry.partition("=")[0] not in names))

    def _spec(
        self, op: ExecOp, mounts: StepMounts, env: tuple[str, ...], limits: Resources, network_mode: str = ""
    ) -> StepSpec:
        process = op.process
        return StepSpec(
            id=uuid.uuid4().hex,
            process=StepProcess(process.args, env, process.cwd, process.user),
            root=mounts.root,
            root_read_only=mounts.root_read_only,
            hostname=process.hostname,
            extra_hosts=tuple(f"{each.host}:{each.ip}" for each in process.extra_hosts),
            network=_NETWORKS[op.network],
            network_mode=network_mode,
            security=_SECURITY[op.security],
            resources=replace(
                limits,
                ulimits=tuple(Ulimit(each.name, each.soft, each.hard) for each in process.ulimits),
                cgroup_parent=process.cgroup_parent,
                pids_limit=limits.pids_limit or self._max_processes,
            ),
            mounts=tuple(mounts.mounts),
        )

    async def _process(self, spec: StepSpec, process: Process, context: StepContext) -> None:
        """Run it to its end. Raises ProcessError."""
        failed = f"process {quoted(' '.join(process.args))} did not complete successfully"
        try:
            ended = await self._watched(spec, context)
        except StartError as error:
            raise ProcessError(f"{failed}: {error}", 1) from error
        if ended is None:
            raise UnavailableError(f"{failed}: nobody has said how it ended")
        if ended.code in (process.valid_exit_codes or (0,)):
            return
        if ended.oom_killed:
            raise ProcessError(f"{failed}: cannot allocate memory", ended.code)
        raise ProcessError(f"{failed}: exit code: {ended.code}", ended.code)

    async def _watched(self, spec: StepSpec, context: StepContext) -> StepExit | None:
        """Run a process and return how it ended; None if nobody said so.

        Cancelled, it kills the process, and waits until nothing of the step is left, as long as that may take.
        """
        leave = _Leave()
        reading = asyncio.create_task(self._read(spec, leave, context), name=f"output of step {spec.id}")
        try:
            await asyncio.wait((reading,))
        except asyncio.CancelledError:
            leave.kill()
            await asyncio.wait((reading,), timeout=_KILLED_S)
            raise
        finally:
            leave.over()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return reading.result()

    async def _read(self, spec: StepSpec, leave: "_Leave", context: StepContext) -> StepExit | None:
        ended: StepExit | None = None
        async with aclosing(self._steps.run(spec, leave.input())) as outputs:
            async for output in outputs:
                if isinstance(output, Frame):
                    context.log(output.data, output.stream.value)
                elif isinstance(output, StepExit):
                    ended = output
        return ended


class _Told:
    """Steps, of which the OCI runtime itself says if it does not start them: on stderr, with an exit code of its own.

    So it is wherever the runtime is a child of the builder and has the streams of the process.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    async def run(self, spec: StepSpec, input: StepInput | None = None) -> AsyncGenerator[StepOutput, None]:
        """See ``resource.protocols.Steps``. Any StartError that is raised is of what comes before the runtime."""
        started = False
        try:
            async with aclosing(self._steps.run(spec, input)) as outputs:
                async for output in outputs:
                    started = started or isinstance(output, StepStarted)
                    yield output
        except (NotStartedError, CommandNotFoundError, CommandNotExecutableError) as error:
            if not started:
                yield StepStarted()
            yield Frame(Stream.STDOUT if spec.process.tty else Stream.STDERR, f"{error}\n".encode())
            yield StepExit(_NOT_EXECUTED_CODE if spec.inside else _NOT_RUN_CODE)


class _Leave:
    """What a step is given: nothing, and a signal when nobody wants it any more.

    runtimed would end it with the call as well, and not say when that is done.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._killed = False

    def kill(self) -> None:
        """Have the step killed."""
        self._killed = True
        self._changed.set()

    def over(self) -> None:
        """Let the input end."""
        self._changed.set()

    async def input(self) -> StepInput:
        """Yield the signal, if it is wanted."""
        await self._changed.wait()
        if self._killed:
            yield StepSignal(signal.SIGKILL)


def _proxies(process: Process) -> list[str]:
    """Return the proxies as variables, in both spellings that programs look for."""
    proxy = process.proxy_env
    if proxy is None:
        return []
    values = {
        "HTTP_PROXY": proxy.http_proxy,
        "HTTPS_PROXY": proxy.https_proxy,
        "FTP_PROXY": proxy.ftp_proxy,
        "NO_PROXY": proxy.no_proxy,
        "ALL_PROXY": proxy.all_proxy,
    }
    return [f"{each}={value}" for name, value in values.items() if value for each in (name, name.lower())]


async def _let_go(written: AsyncExitStack) -> None:
    """Remove what a step that has failed has written, and return when that is gone."""
    with suppress(SampanError):
        async with written:
            raise SampanError("the step has failed")
