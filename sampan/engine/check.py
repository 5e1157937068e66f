"""Is the engine whole? Each service checks what it keeps; what concerns two of them is compared here, and repaired."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import grpc

from sampan import check as kinds
from sampan.api.check.v1 import check_pb2 as pb
from sampan.api.check.v1.check_pb2_grpc import CheckStub
from sampan.api.containerd.snapshots.v1 import snapshots_pb2
from sampan.api.image.v1 import images_pb2
from sampan.check import Amount, Finding, Login, Means, Outcome
from sampan.engine.create import ensure_stack
from sampan.errors import DataLossError, NotFoundError, SampanError, UnavailableError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.container import Container, Status
from sampan.resource.listing import ALL
from sampan.service import check_convert as convert
from sampan.services import USED_BY_ENGINE
from sampan.wire.channel import open_channel, reach, rpc_errors
from sampan.wire.pages import whole

if TYPE_CHECKING:
    from sampan.api.check.v1.check_pb2_grpc import CheckAsyncStub
    from sampan.engine.services import Services

_PRIVATE_REGISTRY: Final = "registryd"
_REGISTRY_ROWS: Final = "registry.db"

# runtimed's mark on the snapshots that are its own to remove.
_CONTAINER_LABEL: Final = "sampan.runtime.container"

# As long as a service that was killed takes to be back.
_REACH_S: Final = 5.0
_REGISTRY_REACH_S: Final = 1.0  # nobody restarts it
_RESTART_S: Final = 60.0

_UP: Final = frozenset(
    {
        Status.RUNNING,
        Status.PAUSED,
        Status.RESTARTING,
    }
)

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


async def check(engine: "Services", options: Options, logins: Logins) -> AsyncGenerator[Step, None]:
    """Yield how far it is, what is wrong, and with ``repair`` what became of it: right behind each service's findings.

    ``logins`` is asked for credentials of the registries that something has to be fetched from.

    Raises:
        UnavailableError: a service does not answer.
    """
    async with AsyncExitStack() as stack:
        await engine.reach(_REACH_S)
        run = _Run(engine, options, logins)
        # In the table's order: a layer can be made again when its blob is whole, a snapshot when its layers are.
        for name in USED_BY_ENGINE:
            async for step in run.service(name, engine.channels[name]):
                yield step
        async for step in run.containers():
            yield step
        if await asyncio.to_thread((engine.layout.data(_PRIVATE_REGISTRY) / _REGISTRY_ROWS).exists):
            channel = await stack.enter_async_context(open_channel(engine.layout.socket(_PRIVATE_REGISTRY)))
            try:
                await reach(channel, _PRIVATE_REGISTRY, _REGISTRY_REACH_S)
            except UnavailableError:
                yield Skipped("private registry", "it does not run: `sampan registry serve` starts it", matters=False)
                return
            async for step in run.service(_PRIVATE_REGISTRY, channel):
                yield step


class _Run:
    """One check of everything."""

    def __init__(self, engine: "Services", options: Options, logins: Logins) -> None:
        self._engine = engine
        self._options = options
        self._logins = logins

    async def service(self, name: str, channel: grpc.aio.Channel) -> AsyncGenerator[Step, None]:
        """Check one service, and repair what it finds; one whose database was restored is checked from the start."""
        stub = CheckStub(channel)
        known = _Known()
        if name == "snapshotter":
            with contextlib.suppress(DataLossError):  # of imaged's database, and a finding of its own
                known = await _known(self._engine)
        findings: list[Finding] = []
        with rpc_errors():
            async for message in stub.Check(pb.CheckRequest(quick=self._options.quick)):
                step = convert.step_from_proto(message)
                if isinstance(step, Finding):
                    findings.append(known.complete(step))
                    yield findings[-1]
                else:
                    yield step
        if not self._options.repair:
            return
        for finding in findings:
            outcome = await self._repair(stub, finding, known)
            if not outcome.restarting:
                yield Repaired(finding, outcome)
                continue
            yield Repaired(finding, await _restored(name, channel, stub))
            async for again in self.service(name, channel):
                yield again
            return

    async def _repair(self, stub: "CheckAsyncStub", finding: Finding, known: "_Known") -> Outcome:
        if not finding.mendable:
            return Outcome(repaired=False, text=finding.remedy)
        logins = {}
        for registry in sorted({source.partition("/")[0] for source in finding.sources}):
            if (login := await self._logins(registry)) is not None:
                logins[registry] = login
        means = Means(logins, known.blobs.get(finding.subject))
        try:
            with rpc_errors():
                return convert.outcome_from_proto(await stub.Repair(convert.repair_to_proto(finding, means)))
        except SampanError as error:
            return Outcome(repaired=False, text=str(error))

    async def containers(self) -> AsyncGenerator[Step, None]:
        """Compare container records with snapshots."""
        try:
            with rpc_errors():
                # Containers first: one that is created meanwhile is not among them.
                listed = await self._engine.runtime.containers.list(ALL)
            keys = await _snapshot_keys(self._engine)
        except DataLossError as error:
            yield Skipped("containers", str(error))
            return
        for container in listed:
            if container.id in keys or not await _is_there(self._engine, container.id):
                continue
            running = container.state.status in _UP
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
            with rpc_errors():
                image = await self._engine.images.Get(images_pb2.GetRequest(image=spec.image_id))
            await ensure_stack(self._engine, image)
            request = snapshots_pb2.PrepareSnapshotRequest(
                key=container.id, parent=spec.chain_id, labels={_CONTAINER_LABEL: "true"}
            )
            with rpc_errors():
                await self._engine.snapshots.Prepare(request)
        except SampanError as error:
            return Outcome(repaired=False, text=str(error))
        return Outcome(repaired=True, text="begun anew: what it had written is lost")


@dataclass(frozen=True, slots=True)
class _Known:
    """What imaged and runtimed know of the snapshotter's layers."""

    blobs: Mapping[str, Descriptor] = field(default_factory=dict)  # of each layer, by diff ID
    images: Mapping[str, list[str]] = field(default_factory=dict)  # that have the layer
    containers: Mapping[str, str] = field(default_factory=dict)  # names by ID

    def complete(self, finding: Finding) -> Finding:
        """Say which images and containers suffer, by the names that users know."""
        if finding.service not in ("", "snapshotter"):
            return finding
        suffering = [
            *self.images.get(finding.subject, ()),
            *(self.containers.get(key, key) for key in finding.affected),
        ]
        return replace(finding, affected=tuple(dict.fromkeys(suffering)))


async def _known(engine: "Services") -> _Known:
    with rpc_errors():
        images = (await whole(engine.images.List(images_pb2.ListRequest(brief=True)))).images
    names: dict[str, str] = {}
    try:
        with rpc_errors():
            listed = await engine.runtime.containers.list(ALL)
        names = {container.id: _shown(container) for container in listed}
    except SampanError:
        pass  # the IDs do, too; what is wrong with runtimed is its own finding
    blobs: dict[str, Descriptor] = {}
    users: dict[str, list[str]] = {}
    for image in images:
        for layer in image.layers:
            one = layer.descriptor
            blobs[layer.diff_id] = Descriptor(one.media_type, Digest.parse(one.digest), one.size)
            users.setdefault(layer.diff_id, []).extend(image.repo_tags or [Digest(image.id).short])
    return _Known(blobs, users, names)


def _shown(container: Container) -> str:
    name = container.spec.name.removeprefix("/")
    return f"{name} (running)" if container.state.status in _UP else name


async def _snapshot_keys(engine: "Services") -> set[str]:
    keys: set[str] = set()
    with rpc_errors():
        async for page in engine.snapshots.List(snapshots_pb2.ListSnapshotsRequest()):
            keys |= {info.name for info in page.info}
    return keys


async def _is_there(engine: "Services", container: str) -> bool:
    try:
        with rpc_errors():
            await engine.runtime.containers.get(container)
    except NotFoundError:
        return False
    return True


async def _restored(name: str, channel: grpc.aio.Channel, stub: "CheckAsyncStub") -> Outcome:
    """Wait until the service serves again, and return what it says of its database."""
    ready = grpc.ChannelConnectivity.READY
    try:
        async with asyncio.timeout(_RESTART_S):
            while channel.get_state() is ready:
                await channel.wait_for_state_change(ready)
        await reach(channel, name, _RESTART_S)
        with rpc_errors():
            answer = await stub.Restored(pb.RestoredRequest())
    except (TimeoutError, SampanError) as error:
        return Outcome(repaired=False, text=f"{name} did not begin anew: {error}")
    return Outcome(repaired=bool(answer.outcome), text=answer.outcome or "its log says what became of it")
