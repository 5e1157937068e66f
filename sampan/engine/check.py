"""Is the engine whole? Each service checks what it keeps; what concerns two of them is compared here, and repaired."""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from sampan import check as kinds
from sampan.check import Amount, Check, Finding, Login, Means, Outcome
from sampan.engine.create import ensure_stack
from sampan.engine.parts import HasContainers, HasImages, HasLayers, HasSnapshots
from sampan.errors import DataLossError, NotFoundError, SampanError, UnavailableError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.container import ALIVE, Container
from sampan.resource.image import ImageDetails
from sampan.resource.listing import ALL_OF_EVERYONE
from sampan.resource.protocols import Containers
from sampan.resource.storage.snapshots import Snapshots

_PRIVATE_REGISTRY: Final = "registryd"

# runtimed's label on the snapshots that are its own to remove.
_CONTAINER_LABEL: Final = "sampan.runtime.container"

# Longer than a service that was killed takes to be back, also on a busy machine.
_REACH_S: Final = 10.0
_REGISTRY_REACH_S: Final = 1.0  # nobody restarts it
_RESTART_S: Final = 60.0

_BUILD_AGAIN: Final = "build the image again: nothing else has the layer"


Logins = Callable[[str], Awaitable[Login | None]]


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for."""

    repair: bool = False
    quick: bool = False  # read no content


@dataclass(frozen=True, slots=True)
class Repaired:
    """What became of a finding that was to be repaired."""

    finding: Finding
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Skipped:
    """What could not be looked at."""

    what: str
    why: str
    matters: bool = True  # a check of an engine as it is now would have looked at it


Step = Amount | Finding | Repaired | Skipped


class Checking(HasImages, HasLayers, HasSnapshots, HasContainers, Protocol):
    """What is checked."""

    @property
    def checks(self) -> Mapping[str, Check]:
        """Each service's own check, by its name, in the order of the table of services."""

    async def reach(self, deadline_s: float) -> None:
        """Return when all services can be called. Raises UnavailableError."""

    def private_registry(self, deadline_s: float) -> AbstractAsyncContextManager[Check | None]:
        """Yield the check of the private registry, None if there never was one.

        Raises:
            UnavailableError: it does not answer.
        """


async def check(services: Checking, options: Options, logins: Logins) -> AsyncGenerator[Step, None]:
    """Yield how far it is, what is wrong, and with ``repair`` what became of it: right behind each service's findings.

    ``logins`` is asked for credentials of the registries that something has to be fetched from.

    Raises:
        UnavailableError: a service does not answer.
    """
    async with AsyncExitStack() as stack:
        await services.reach(_REACH_S)
        run = _Run(services, options, logins)
        # In the table's order: a layer can be made again when its blob is whole, a snapshot when its layers are.
        for name, one in services.checks.items():
            async for step in run.service(name, one):
                yield step
        async for step in lost_layers(services, options):
            yield step
        async for step in run.containers():
            yield step
        try:
            registry = await stack.enter_async_context(services.private_registry(_REGISTRY_REACH_S))
        except UnavailableError:
            yield Skipped("private registry", "it does not run: `sampan registry serve` starts it", matters=False)
            return
        if registry is not None:
            async for step in run.service(_PRIVATE_REGISTRY, registry):
                yield step


async def lost_layers(services: Checking, options: Options) -> AsyncGenerator[Step, None]:
    """Yield images whose layers are gone, and nobody has made blobs of; stacks of the others are made again if need be.

    It comes after the services' own checks, which may have taken a stack away.
    """
    try:
        images = await services.images.list(brief=True)
    except DataLossError as error:
        yield Skipped("layers without blobs", str(error))
        return
    for image in images:
        lost = await _lost(services, image) if image.deferred else None
        if lost is None:
            continue
        finding = Finding(
            kinds.IMAGE_BROKEN,
            image.id,
            f"layer {lost}, of which nobody has made a blob, is gone",
            _BUILD_AGAIN,
            mendable=False,
            affected=tuple(image.repo_tags or (image.id.short,)),
            service="engine",
        )
        yield finding
        if options.repair:
            yield Repaired(finding, Outcome(repaired=False, text=_BUILD_AGAIN))


async def _lost(services: Checking, image: ImageDetails) -> Digest | None:
    """Return a deferred layer of an image's that the snapshotter does not have."""
    try:
        await services.layers.stack([layer.diff_id for layer in image.layers])
    except NotFoundError as error:  # it names the layer; one that has a blob is another finding
        return next((diff_id for diff_id in image.deferred if diff_id in str(error)), None)
    return None


class _Run:
    """One check of everything."""

    def __init__(self, services: Checking, options: Options, logins: Logins) -> None:
        self._services = services
        self._options = options
        self._logins = logins

    async def service(self, name: str, service: Check) -> AsyncGenerator[Step, None]:
        """Check one service, and repair what it finds; one whose database was restored is checked from the start."""
        known = _Known()
        if name == "snapshotter":
            with contextlib.suppress(DataLossError):  # of imaged's database, and a finding of its own
                known = await _known(self._services)
        findings: list[Finding] = []
        async with aclosing(service.check(quick=self._options.quick)) as steps:
            async for step in steps:
                if isinstance(step, Finding):
                    findings.append(known.complete(step))
                    yield findings[-1]
                else:
                    yield step
        if not self._options.repair:
            return
        for finding in findings:
            outcome = await self._repair(service, finding, known)
            if not outcome.restarting:
                yield Repaired(finding, outcome)
                continue
            yield Repaired(finding, await _restored(name, service))
            async for again in self.service(name, service):
                yield again
            return

    async def _repair(self, service: Check, finding: Finding, known: "_Known") -> Outcome:
        if not finding.mendable:
            return Outcome(repaired=False, text=finding.remedy)
        logins = {}
        for registry in sorted({source.partition("/")[0] for source in finding.sources}):
            if (login := await self._logins(registry)) is not None:
                logins[registry] = login
        means = Means(logins, known.blobs.get(finding.subject))
        try:
            return await service.repair(finding, means)
        except SampanError as error:
            return Outcome(repaired=False, text=str(error))

    async def containers(self) -> AsyncGenerator[Step, None]:
        """Compare container records with snapshots."""
        try:
            # Containers first: one that is created meanwhile is not among them.
            listed = await self._services.containers.list(ALL_OF_EVERYONE)
            keys = await _snapshot_keys(self._services.snapshots)
        except DataLossError as error:
            yield Skipped("containers", str(error))
            return
        for container in listed:
            if container.id in keys or not await _is_there(self._services.containers, container.id):
                continue
            running = container.state.status in ALIVE
            finding = Finding(
                kinds.CONTAINER_BROKEN,
                container.id,
                "its snapshot is gone" + (", and it runs" if running else ""),
                "begin its file system anew from the image: what it had written is lost",
                affected=(container.spec.name.removeprefix("/"),),
                service="engine",
            )
            yield finding
            if self._options.repair:
                yield Repaired(finding, await self._begin_anew(container))
        yield Amount("containers", len(listed), len(listed))

    async def _begin_anew(self, container: Container) -> Outcome:
        spec = container.spec
        try:
            image = await self._services.images.get(spec.image_id)
            await ensure_stack(self._services.layers, image)
            await self._services.snapshots.prepare(container.id, spec.chain_id or None, {_CONTAINER_LABEL: "true"})
        except SampanError as error:
            return Outcome(repaired=False, text=str(error))
        return Outcome(repaired=True, text="begun anew: what it had written is lost")


@dataclass(frozen=True, slots=True)
class _Known:
    """What imaged and runtimed know of the snapshotter's layers."""

    blobs: Mapping[str, Descriptor] = field(default_factory=dict)  # of each layer, by diff ID
    images: Mapping[str, list[str]] = field(default_factory=dict)  # that have the layer
    containers: Mapping[str, str] = field(default_factory=dict)  # names by ID
    deferred: frozenset[str] = frozenset()  # layers that have no blob

    def complete(self, finding: Finding) -> Finding:
        """Say which images and containers suffer, by the names that users know."""
        if finding.service not in ("", "snapshotter"):
            return finding
        suffering = [
            *self.images.get(finding.subject, ()),
            *(self.containers.get(key, key) for key in finding.affected),
        ]
        finding = replace(finding, affected=tuple(dict.fromkeys(suffering)))
        if finding.subject in self.deferred:
            return replace(finding, remedy=_BUILD_AGAIN, mendable=False)
        return finding


async def _known(services: Checking) -> _Known:
    images = await services.images.list(brief=True)
    names: dict[str, str] = {}
    try:
        listed = await services.containers.list(ALL_OF_EVERYONE)
        names = {container.id: _shown(container) for container in listed}
    except SampanError:
        pass  # the IDs do, too; what is wrong with runtimed is its own finding
    blobs: dict[str, Descriptor] = {}
    users: dict[str, list[str]] = {}
    for image in images:
        for layer in image.layers:
            blobs[layer.diff_id] = layer.descriptor
            users.setdefault(layer.diff_id, []).extend(image.repo_tags or [image.id.short])
    deferred = frozenset(diff_id for image in images for diff_id in image.deferred)
    return _Known(blobs, users, names, deferred)


def _shown(container: Container) -> str:
    name = container.spec.name.removeprefix("/")
    return f"{name} (running)" if container.state.status in ALIVE else name


async def _snapshot_keys(snapshots: Snapshots) -> set[str]:
    return {snapshot.key for snapshot in await snapshots.list(())}


async def _is_there(containers: Containers, container: str) -> bool:
    try:
        await containers.get(container)
    except NotFoundError:
        return False
    return True


async def _restored(name: str, service: Check) -> Outcome:
    """Wait until the service serves again, and return what it says of its database."""
    try:
        outcome = await service.restored(_RESTART_S)
    except SampanError as error:
        return Outcome(repaired=False, text=f"{name} did not begin anew: {error}")
    return Outcome(repaired=bool(outcome), text=outcome or "its log says what became of it")
