"""The containers of sandboxes as runtimed has them, and those that hold shared pid namespaces."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from crid.containers.model import OWNER, fitted
from crid.containers.spec import namespaces
from crid.containers.store import ContainerStore
from crid.model.security import NamespaceMode
from crid.sandboxes.host import Places
from crid.sandboxes.model import Sandbox
from sampan.cancellation import to_the_end
from sampan.errors import ConflictError, NotFoundError, NotModifiedError, UnavailableError
from sampan.log import log
from sampan.resource import container_spec as spec
from sampan.resource.container import Container, ContainerDetails, Created, Status
from sampan.resource.listing import NO_FILTERS, Filters, Selection

ALL: Final = Selection(all=True, owner=OWNER)

# It sleeps, as the child of an init that reaps what the pod's containers leave behind. Under its own name: whoever
# looks for a "sleep" in the pod means one of theirs.
_SLEEPER: Final = "/bin/busybox"
_FOR_EVER: Final = "2147483647"


class Runtime(Protocol):
    """Containers as far as this needs them; ``resource.protocols.Containers`` says what each promises."""

    async def create(self, spec: spec.ContainerSpec) -> Created:
        """Make one."""

    async def start(self, container: str) -> None:
        """Start it."""

    async def get(self, container: str, *, size: bool = False) -> ContainerDetails:
        """Return one."""

    async def list(
        self, selection: Selection = ..., filters: Filters = NO_FILTERS, *, size: bool = False
    ) -> tuple[ContainerDetails, ...]:
        """Return those asked for."""

    async def stop(self, container: str, timeout_s: float | None = None, signal: str = "") -> None:
        """Signal, wait, kill."""

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it."""


class RuntimeMembers:
    """Satisfies ``sandboxes.Members``."""

    def __init__(self, runtime: Runtime, store: ContainerStore, places: Callable[[str], Places]) -> None:
        """``places`` says where a sandbox's files are."""
        self._runtime = runtime
        self._store = store
        self._places = places

    async def hold(self, sandbox: Sandbox) -> str:
        """Start the container that keeps a sandbox's shared pid namespace."""
        sleeper = await asyncio.to_thread(shutil.which, "busybox")
        if sleeper is None:
            raise UnavailableError("a shared pid namespace needs a program that sleeps in it: install busybox-static")
        spec = self._infra(sandbox, sleeper)
        created = await self.make(spec.name, lambda: self._runtime.create(spec))
        try:
            await to_the_end(self._runtime.start(created.id))
        except BaseException:
            await to_the_end(self.discard([created.id]))
            raise
        return created.id

    async def make(self, name: str, create: Callable[[], Coroutine[None, None, Created]]) -> Created:
        """Create a container, to the end even if the caller is cancelled, so that it is found by its name then.

        One of this name that is there already is nobody's: its caller was killed, and runtimed made it after that.
        """
        try:
            return await to_the_end(create())
        except ConflictError:
            left = [each.id for each in await self.named([name])]
            if not left:
                raise
            log.warning("a container that nobody was told of is removed", name=name, containers=left)
            await self.discard(left)
            return await to_the_end(create())

    def _infra(self, sandbox: Sandbox, sleeper: str) -> spec.ContainerSpec:
        options = replace(sandbox.namespaces, pid=NamespaceMode.CONTAINER)
        return spec.ContainerSpec(
            name=_infra_name(sandbox),
            owner=OWNER,
            process=spec.Process(entrypoint=(_SLEEPER, "sleep", _FOR_EVER)),
            mounts=(spec.Mount(spec.MountType.BIND, _SLEEPER, sleeper, read_only=True),),
            namespaces=namespaces(sandbox, self._places(sandbox.id), options),
            resources=spec.Resources(cgroup_parent=sandbox.config.linux.cgroup_parent),
            security=spec.Security(cap_drop=("ALL",), read_only_root=True, options=("no-new-privileges",)),
            log=spec.LogConfig("none"),
            init=True,
        )

    async def is_held(self, sandbox: Sandbox) -> bool:
        """Say whether that container runs."""
        try:
            return (await self._runtime.get(sandbox.infra)).state.status is Status.RUNNING
        except NotFoundError:
            return False

    async def stop(self, sandbox: Sandbox) -> None:
        """Kill all containers of a sandbox."""

        async def stop(id: str) -> None:
            with suppress(NotFoundError, NotModifiedError):
                await self._runtime.stop(id, 0)

        ids = [record.id for record in self._store.of(sandbox.id) if record.id]
        await _all(map(stop, ids))
        if sandbox.infra:  # last: with it all others would end, and be told as killed by nobody
            await stop(sandbox.infra)

    async def remove(self, sandbox: Sandbox) -> None:
        """Remove all of them, and forget them."""
        records = self._store.of(sandbox.id)
        ids = [record.id for record in records if record.id]
        names = {record.name for record in records if not record.id}
        if not sandbox.infra and sandbox.shares_pids:
            names.add(_infra_name(sandbox))  # it may have been made, and not been recorded
        if names:
            ids += [found.id for found in await self.named(names)]
        await self.discard(ids)
        if sandbox.infra:
            await self.discard([sandbox.infra])
        for record in records:
            await self._store.drop(record)

    async def discard(self, ids: Iterable[str]) -> None:
        """Remove containers by force, with what they alone have; one that is not there is no error."""

        async def remove(id: str) -> None:
            with suppress(NotFoundError):
                await self._runtime.remove(id, force=True, volumes=True)

        await _all(map(remove, ids))

    async def named(self, names: Iterable[str]) -> list[Container]:
        """Return containers of pods by their names, whether they were recorded or not."""
        wanted = set(names)
        return [found for found in await self._runtime.list(ALL) if found.name in wanted]


def _infra_name(sandbox: Sandbox) -> str:
    pod = sandbox.config.metadata
    return fitted(f"k8s_POD_{pod.name}_{pod.namespace}_{pod.uid}_{pod.attempt}")


async def _all(jobs: Iterable[Coroutine[None, None, None]]) -> None:
    """Do all of it at the same time and to the end; raise the first error after that."""
    for result in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
