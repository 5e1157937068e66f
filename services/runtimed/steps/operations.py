"""Run steps of builds, and leave nothing of them. Satisfies ``resource.protocols.Steps``.

Of a step there is no record but its bundle in the run root, which is made before anything else and goes last: whoever
finds one when runtimed starts has a leftover to clear (``leftovers``).
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from runtimed.cgroups.naming import CgroupNames, is_scope
from runtimed.cgroups.orphans import Orphans
from runtimed.conmon.conmon import RuntimeCommand
from runtimed.conmon.process import kill_at_work_on
from runtimed.containers.paths import Paths
from runtimed.lifecycle.mounter import Mounter
from runtimed.metrics import Metrics
from runtimed.protocol import Bundles, ExecProcess, Joins, Networking
from runtimed.steps.leftovers import remove_bundle, unmount_sources
from runtimed.steps.memory import MemoryEvents
from runtimed.steps.paths import StepPaths
from runtimed.steps.process import RuntimeProcess
from runtimed.steps.snapshots import Mounted, MountedSnapshots
from runtimed.steps.sources import Grants, Sources
from runtimed.steps.spec import Shown, container_of, process_of
from runtimed.steps.stubs import make_places
from sampan import tracing
from sampan.build.step import SnapshotSource, StepExit, StepInput, StepOutput, StepSecurity, StepSpec, no_input
from sampan.cancellation import both, to_the_end
from sampan.errors import AlreadyExistsError, ConflictError, NotFoundError, StartError, UnavailableError
from sampan.resource.container import Container
from sampan.sys.inotify import FileWatches

_NOTICE_S: Final = 0.05  # for the kernel to tell why a step has failed

_STOPPING: Final = "the engine stops, and steps of builds stop with it: build again when it is back"


@dataclass(frozen=True, slots=True)
class StepParts:
    """What steps are made of."""

    snapshots: MountedSnapshots
    networking: Networking
    bundles: Bundles
    mounter: Mounter
    orphans: Orphans
    memory: MemoryEvents
    grants: Grants
    metrics: Metrics


class _Step:
    """One that runs, and what was done for it so far."""

    def __init__(
        self,
        spec: StepSpec,
        container: Container,
        paths: StepPaths,
        parts: StepParts,
        host: "_Step | None" = None,
    ) -> None:
        """``host`` is the step whose further process it is; ``container`` is then that one's."""
        self.host = host
        self.spec = spec
        self.container = container
        self.paths = paths
        self.sources = Sources(paths, parts.mounter, parts.grants)
        self.root: Mounted | None = None
        self.acquired: list[str] = []  # keys of snapshots
        self.process: RuntimeProcess | None = None
        self.feeder: asyncio.Task[None] | None = None


class Steps:
    """Runs steps, as many at a time as there are calls."""

    def __init__(
        self,
        parts: StepParts,
        paths: Paths,
        choose_runtime: Callable[[], RuntimeCommand],
        environ: Mapping[str, str],
        cgroups: CgroupNames,
        stopping: asyncio.Event,
        watches: FileWatches,
    ) -> None:
        """``choose_runtime`` raises if none works."""
        self._parts = parts
        self._paths = paths
        self._choose_runtime = choose_runtime
        self._environ = environ
        self._cgroups = cgroups
        self._stopping = stopping
        self._watches = watches
        self._running: dict[str, _Step] = {}

    async def run(self, spec: StepSpec, input: StepInput | None = None) -> AsyncGenerator[StepOutput, None]:
        """See ``resource.protocols.Steps``."""
        host = self._host(spec)
        if host is None:
            container = container_of(spec, self._cgroups)
            self._parts.bundles.check(container.spec)
            await self._parts.networking.check(container.spec)
        else:
            alone = replace(host.container.spec.process, env=())  # its environment is not the first process's
            container = replace(host.container, spec=replace(host.container.spec, process=alone))
        if spec.id in self._running:
            raise AlreadyExistsError(f"step {spec.id} runs already")
        if self._stopping.is_set():
            raise UnavailableError(_STOPPING)
        runtime = replace(self._choose_runtime(), asks_systemd=is_scope(container.cgroup_path))
        step = _Step(spec, container, StepPaths(spec.id, self._paths), self._parts, host)
        self._running[spec.id] = step
        try:
            with self._parts.metrics.step() as outcome:
                async with aclosing(self._run(step, runtime, no_input() if input is None else input)) as output:
                    async for one in output:
                        if isinstance(one, StepExit):
                            outcome(one.code, oom_killed=one.oom_killed)
                        yield one
        finally:
            del self._running[spec.id]

    def _host(self, spec: StepSpec) -> _Step | None:
        """Return the step whose further process this is, None for a step of its own. NotFoundError: it is not there."""
        if not spec.inside:
            return None
        host = self._running.get(spec.inside)
        if host is None or host.host is not None:
            raise NotFoundError(f"no such step: {spec.inside}")
        return host

    async def _run(self, step: _Step, runtime: RuntimeCommand, input: StepInput) -> AsyncGenerator[StepOutput, None]:
        watch = None
        try:
            with tracing.span("step: prepare"):
                await to_the_end(self._prepare(step) if step.host is None else self._prepare_inside(step, step.host))
            inside = step.host.paths if step.host is not None else None
            process = step.process = RuntimeProcess(step.paths, runtime, self._environ, inside)
            watch = await asyncio.to_thread(self._parts.memory.prepare, step.container.cgroup_path)
            watch.begin()
            process.start(step.spec.process, self._watches)
            step.feeder = asyncio.create_task(
                process.feed(input, step.spec.process), name=f"input of step {step.spec.id}"
            )
            stop = asyncio.create_task(self._abort_when_stopping(process), name=f"stop of step {step.spec.id}")
            try:
                with tracing.span("step: run"):
                    async with aclosing(process.output()) as output:
                        async for one in output:
                            watch.begin()
                            yield one
            finally:
                stop.cancel()
            end = StepExit(process.code, await watch.killed(_NOTICE_S if process.code else 0))
        finally:
            if watch is not None:
                watch.close()
            await to_the_end(self._clear(step))
        yield end

    async def _abort_when_stopping(self, process: RuntimeProcess) -> None:
        await self._stopping.wait()
        process.abort(UnavailableError(_STOPPING))

    # -- before --------------------------------------------------------------------------------------------------------

    async def _prepare(self, step: _Step) -> None:
        """Make everything that the runtime needs. Whatever was done is for ``_clear`` to undo."""
        try:
            await asyncio.to_thread(_make_bundle, step)
            networking = self._parts.networking
            shown, network = await both(self._mount(step), networking.attach(step.container))
            container = replace(step.container, network=network, mounts=tuple([one.point for one in shown]))
            files = await networking.files(container, network)
            if not container.spec.hostname:  # it is in another container's network, and called as that one
                called = files["hostname"].decode().strip()
                container = replace(container, spec=replace(container.spec, hostname=called))
            await asyncio.to_thread(self._write_bundle, step, container, shown, files)
        except OSError as error:  # a full disk, above all
            raise StartError(f"cannot prepare the step: {error}") from error

    async def _prepare_inside(self, step: _Step, host: _Step) -> None:
        """Make what the runtime needs to start one more process in a step that runs."""
        if host.process is None:
            raise ConflictError(f"step {host.spec.id} is not running")
        root = Path(f"/proc/{host.process.pid()}/root")
        try:
            await asyncio.to_thread(self._write_process, step, root)
        except OSError as error:
            raise StartError(f"cannot prepare the step: {error}") from error

    def _write_process(self, step: _Step, root: Path) -> None:
        step.paths.bundle.mkdir(mode=0o700)
        privileged = step.spec.security is StepSecurity.INSECURE
        wanted = ExecProcess(process_of(step.spec.process), privileged=privileged)
        document = self._parts.bundles.exec_process(step.container, root, wanted)
        step.paths.process.write_text(json.dumps(document))

    async def _mount(self, step: _Step) -> tuple[Shown, ...]:
        named = [mount.source.key for mount in step.spec.mounts if isinstance(mount.source, SnapshotSource)]
        keys = tuple(dict.fromkeys((step.spec.root, *named)))
        places = await self._acquire(step, keys)
        step.root = places[step.spec.root]
        return await asyncio.to_thread(step.sources.make, step.spec.mounts, places)

    async def _acquire(self, step: _Step, keys: tuple[str, ...]) -> Mapping[str, Mounted]:
        """Mount snapshots, side by side; return where. What was mounted before one failed is noted as well."""
        snapshots = self._parts.snapshots
        found = await asyncio.gather(*(snapshots.acquire(key) for key in keys), return_exceptions=True)
        places: dict[str, Mounted] = {}
        failed: BaseException | None = None
        for key, one in zip(keys, found, strict=True):
            if isinstance(one, BaseException):
                failed = failed or one
            else:
                step.acquired.append(key)
                places[key] = one
        if failed is not None:
            raise failed
        return places

    def _write_bundle(
        self, step: _Step, container: Container, shown: tuple[Shown, ...], files: Mapping[str, bytes]
    ) -> None:
        assert step.root is not None
        make_places(step.root.path, step.root.stubs, step.spec, shown)
        step.paths.files.mkdir(mode=0o700)
        for name, content in files.items():
            path = step.paths.files / name
            path.write_bytes(content)
            path.chmod(0o644)
        # Of a container that has the host's network, that is also this process's.
        joins = Joins(network=container.network.sandbox_path or f"/proc/{os.getpid()}/ns/net")
        config = self._parts.bundles.config(
            container, step.root.path, files=step.paths.files, init_path=None, joins=joins
        )
        (step.paths.bundle / "config.json").write_text(json.dumps(config))

    # -- afterwards ----------------------------------------------------------------------------------------------------

    async def _clear(self, step: _Step) -> None:
        """Take everything down, whatever there is."""
        if step.feeder is not None:
            step.feeder.cancel()
            await asyncio.gather(step.feeder, return_exceptions=True)
        if step.process is not None and not await step.process.kill():
            # It is being set up, or does not obey: whoever has to do with the bundle goes.
            await kill_at_work_on(step.paths.bundle)
            await step.process.end()
        if step.process is not None:
            step.process.close()
        if step.host is not None:  # all else is the other step's
            await asyncio.to_thread(remove_bundle, step.paths, self._parts.mounter)
            return
        try:
            await both(self._parts.networking.detach(step.spec.id), asyncio.to_thread(self._clear_mounts, step))
        finally:  # whatever stays of this step until the next start, others may have the same snapshots
            released = await asyncio.gather(
                *(self._parts.snapshots.release(key) for key in step.acquired), return_exceptions=True
            )
        for failure in released:
            if failure is not None:
                raise failure
        await asyncio.to_thread(remove_bundle, step.paths, self._parts.mounter)

    def _clear_mounts(self, step: _Step) -> None:
        self._parts.orphans.kill(step.container.cgroup_path)
        unmount_sources(step.paths, self._parts.mounter)


def _make_bundle(step: _Step) -> None:
    step.paths.bundle.mkdir(mode=0o700)
    step.paths.cgroup.write_text(step.container.cgroup_path)
