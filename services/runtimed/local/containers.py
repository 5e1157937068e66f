"""Containers and execs as clients are offered them: the cores that work on them, put together."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import fields, replace
from typing import Final, NamedTuple

from runtimed.containers.links import link_names, shown_links
from runtimed.containers.memory_store import MemoryStore
from runtimed.containers.operations import Containers
from runtimed.containers.paths import Paths
from runtimed.execs.operations import Execs
from runtimed.lifecycle.lifecycle import Lifecycle
from runtimed.lifecycle.waits import Waits
from runtimed.logs.plans import log_path
from runtimed.network.core.networks import Networks
from runtimed.stats.bulk import Samples
from runtimed.stats.observation import Observation
from runtimed.stats.sampling import stats_of
from runtimed.streams.streams import Streams
from sampan.errors import NotFoundError
from sampan.resource.container import Condition, Container, ContainerDetails, Created, Exit
from sampan.resource.container_spec import ConsoleSize, ContainerSpec, Resources, RestartPolicy
from sampan.resource.exec import Exec, ExecSpec
from sampan.resource.listing import NO_FILTERS, RUNNING_ONES, Filters, Pruned, Selection
from sampan.resource.stats import ContainerSample, ContainerStats, Top
from sampan.resource.streams import (
    Accepted,
    Attached,
    AttachOptions,
    Detached,
    ExecStart,
    Input,
    LogBatch,
    LogQuery,
    Output,
)


class LocalExecs:
    """Satisfies ``resource.protocols.Execs``."""

    def __init__(self, memory: MemoryStore, execs: Execs) -> None:
        self._memory = memory
        self._execs = execs

    async def create(self, container: str, spec: ExecSpec) -> str:
        """Record a process to run; return its ID."""
        return (await self._execs.create(self._memory.find(container), spec)).id

    async def get(self, id: str) -> Exec:
        """Return one."""
        return self._execs.known.get(id)

    async def start(self, id: str, options: ExecStart, input: Input) -> AsyncGenerator[Accepted | Output, None]:
        """Run it, with the client connected to its streams unless detached."""
        begin = self._execs.start_detached if options.detach else self._execs.start
        running, started = begin(id, options.console_size)
        # Clients answer their own clients by now, and need to know whether there is input.
        yield Accepted(running.exec.spec.attach_stdin)
        await started
        if options.detach:
            yield Attached()
            return
        yield Attached(running.exec.spec.tty)
        async with aclosing(self._execs.converse(running, input, options.hand_over)) as output:
            async for frames in output:
                yield frames
        if running.detached:
            yield Detached()

    async def resize(self, id: str, size: ConsoleSize) -> None:
        """Set its terminal's size."""
        self._execs.resize(id, size)

    async def kill(self, id: str) -> None:
        """Kill it, with all that has come of it."""
        await self._execs.kill(id)


_RECORDED: Final = tuple(field.name for field in fields(Container))


_FEW: Final = 100  # rows of containers that are gone


class _Row(NamedTuple):
    """A container as it was last listed, and what that was made of."""

    container: Container
    exec_ids: tuple[str, ...]
    link_names: tuple[str, ...]
    details: ContainerDetails


class LocalContainers:
    """Satisfies ``resource.protocols.Containers``: looks the container up, and leaves the rest to its core."""

    def __init__(
        self,
        memory: MemoryStore,
        containers: Containers,
        lifecycle: Lifecycle,
        waits: Waits,
        streams: Streams,
        execs: Execs,
        observation: Observation,
        samples: Samples,
        paths: Paths,
        networks: Networks,
    ) -> None:
        self._memory = memory
        self._networks = networks
        self._containers = containers
        self._lifecycle = lifecycle
        self._waits = waits
        self._streams = streams
        self._execs = execs
        self._observation = observation
        self._samples = samples
        self._paths = paths
        self._rows: dict[str, _Row] = {}  # of the last lists, by ID

    async def create(self, spec: ContainerSpec) -> Created:
        """Make a container."""
        container, warnings = await self._containers.create(spec)
        return Created(container.id, warnings)

    async def get(self, container: str, *, size: bool = False) -> ContainerDetails:
        """Return one."""
        found = self._memory.find(container).container
        size_bytes = await self._containers.size_bytes(found) if size else None
        details = self._details(found, self._execs.known.ids().get(found.id, ()), size_bytes)
        links = shown_links(found, lambda name: self._memory.find(name).container)
        return replace(details, graph_data=await self._containers.graph_data(found), links=links)

    async def list(
        self, selection: Selection = RUNNING_ONES, filters: Filters = NO_FILTERS, *, size: bool = False
    ) -> tuple[ContainerDetails, ...]:
        """Return those asked for, newest first."""
        chosen = self._containers.list(selection, filters)
        if len(self._rows) > 2 * len(self._memory) + _FEW:
            self._rows = {key: row for key, row in self._rows.items() if self._memory.by_id(key) is not None}
        execs = self._execs.known.ids()
        names = link_names(entry.container for entry in self._memory)
        rows = [self._row(one, execs.get(one.id, ()), names.get(one.id, ())) for one in chosen]
        if not size:
            return tuple(rows)
        sizes = await asyncio.gather(*map(self._containers.size_bytes, chosen))
        return tuple(replace(row, size_rw_bytes=one) for row, one in zip(rows, sizes, strict=True))

    async def pages(
        self, selection: Selection = RUNNING_ONES, filters: Filters = NO_FILTERS, *, size: bool = False
    ) -> AsyncGenerator[Sequence[ContainerDetails], None]:
        """Yield those asked for."""
        yield await self.list(selection, filters, size=size)

    def _row(self, container: Container, exec_ids: tuple[str, ...], names: tuple[str, ...]) -> ContainerDetails:
        """Return a container for a list, as the same object as long as it has not changed."""
        known = self._rows.get(container.id)
        if known is not None and known.container is container and known[1:3] == (exec_ids, names):
            return known.details
        shown = replace(container, spec=replace(container.spec, docker=b""))
        details = replace(self._details(shown, exec_ids, None), link_names=names)
        self._rows[container.id] = _Row(container, exec_ids, names, details)
        return details

    def _details(self, container: Container, exec_ids: tuple[str, ...], size_bytes: int | None) -> ContainerDetails:
        paths = self._paths.container(container.id)
        recorded = {name: getattr(container, name) for name in _RECORDED}
        return ContainerDetails(
            **recorded,
            driver="overlayfs",
            log_path=log_path(container, paths),
            hostname_path=str(paths.files / "hostname"),
            hosts_path=str(paths.files / "hosts"),
            resolv_conf_path=str(paths.files / "resolv.conf"),
            exec_ids=exec_ids,
            size_rw_bytes=size_bytes,
            root_path=str(paths.root),
        )

    async def start(self, container: str) -> None:
        """Start it."""
        await self._lifecycle.start(self._memory.find(container))

    async def stop(self, container: str, timeout_s: float | None = None, signal: str = "") -> None:
        """Stop it."""
        await self._lifecycle.stop(self._memory.find(container), timeout_s, signal)

    async def restart(self, container: str, timeout_s: float | None = None, signal: str = "") -> None:
        """Stop and start it."""
        await self._lifecycle.restart(self._memory.find(container), timeout_s, signal)

    async def kill(self, container: str, signal: str = "") -> None:
        """Send a signal."""
        try:
            entry = self._memory.find(container)
        except NotFoundError as error:
            raise NotFoundError(f"Cannot kill container: {container}: {error}") from error
        await self._lifecycle.kill(entry, signal)

    async def pause(self, container: str) -> None:
        """Freeze it."""
        await self._lifecycle.pauses.pause(self._memory.find(container))

    async def unpause(self, container: str) -> None:
        """Thaw it."""
        await self._lifecycle.pauses.unpause(self._memory.find(container))

    @asynccontextmanager
    async def held(self, container: str) -> AsyncGenerator[None, None]:
        """Keep it frozen within."""
        async with self._lifecycle.pauses.held(self._memory.find(container)):
            yield

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it."""
        await self._containers.remove(self._memory.find(container), force=force, volumes=volumes)

    async def unlink(self, container: str, alias: str) -> None:
        """Take a link from it."""
        await self._networks.unlink(container, alias)

    async def rename(self, container: str, name: str) -> None:
        """Give it another name."""
        await self._containers.rename(self._memory.find(container), name)

    async def update(
        self, container: str, resources: Resources | None = None, restart_policy: RestartPolicy | None = None
    ) -> tuple[str, ...]:
        """Change limits or restart policy."""
        return await self._containers.update(self._memory.find(container), resources, restart_policy)

    async def wait(
        self, container: str, condition: Condition = Condition.NOT_RUNNING
    ) -> AsyncGenerator[Exit | None, None]:
        """Yield None when the wait is in place, then the exit."""
        wait = self._waits.place(self._memory.find(container), condition)
        try:
            yield None
            yield await wait.exit()
        finally:
            wait.close()

    async def attach(self, container: str, options: AttachOptions, input: Input) -> AsyncGenerator[Output, None]:
        """Connect a client with its streams."""
        attachment = self._streams.attach(self._memory.find(container), options)
        try:
            yield Attached(attachment.tty)
            async with aclosing(self._streams.converse(attachment, input)) as output:
                async for frames in output:
                    yield frames
            if attachment.detached:
                yield Detached()
        finally:
            self._streams.leave(attachment)

    async def resize(self, container: str, size: ConsoleSize) -> None:
        """Set its terminal's size."""
        self._streams.resize(self._memory.find(container), size)

    async def logs(self, container: str, query: LogQuery) -> AsyncGenerator[LogBatch, None]:
        """Yield what was logged."""
        entry = self._memory.find(container)
        self._streams.check_readable(entry)  # before anything is told
        async with aclosing(self._streams.logs(entry, query)) as entries:
            yield LogBatch((), entry.container.spec.process.tty)
            async for batch in entries:
                yield LogBatch(batch)

    async def top(self, container: str, ps_args: str = "") -> Top:
        """Return its processes."""
        return await self._observation.top(self._memory.find(container), ps_args)

    async def stats(
        self, container: str, *, stream: bool = True, one_shot: bool = False
    ) -> AsyncGenerator[ContainerStats, None]:
        """Yield what it uses."""
        entry = self._memory.find(container)
        async with aclosing(self._observation.stats(entry, stream=stream, one_shot=one_shot)) as samples:
            async for sample in samples:
                yield stats_of(entry.container, sample)

    async def prune(self, filters: Filters = NO_FILTERS, *, owner: str = "") -> Pruned:
        """Remove all that do not run."""
        return await self._containers.prune(filters, owner)

    async def reopen_log(self, container: str) -> None:
        """Have its log's file opened anew."""
        await self._streams.reopen_log(self._memory.find(container))

    async def samples(
        self,
        owner: str = "",
        containers: Sequence[str] = (),
        *,
        detailed: bool = False,
        parents: Sequence[str] = (),
    ) -> tuple[ContainerSample, ...]:
        """Return what those that run use."""
        return await self._samples.of(owner, containers, detailed=detailed, parents=parents)
