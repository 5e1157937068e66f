"""The life of pod sandboxes.

    CREATING ──▶ READY ──stop──▶ STOPPING ──▶ STOPPED ──remove──▶ REMOVING ──▶ (none)
        └────────────── it fails, or nobody waits any more ──────────▶┘

Each state is recorded before what it says is done, so that whatever a SIGKILL leaves is finished or undone at the next
start. A network that its plugins do not take back is tried again by ``cni``, which never forgets it.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol
from weakref import WeakValueDictionary

from crid.cni.model import Dns, PodNetwork, PodRequest, PortMapping
from crid.model.config import PodConfig
from crid.protocol import SandboxHost
from crid.sandboxes.check import check_pod
from crid.sandboxes.host import Places
from crid.sandboxes.model import Sandbox, State
from crid.sandboxes.store import SandboxStore
from sampan.cancellation import to_the_end
from sampan.errors import AlreadyExistsError, ConflictError, NotFoundError, SampanError, UnavailableError
from sampan.log import log

# How long a sandbox that nobody waits for waits for its network's plugins, which may hang; cni asks on after that.
_PATIENCE_S: Final = 3.0

# Sandboxes that are made good at once when crid starts, and how long each may take: others wait to be served.
_AT_ONCE: Final = 16
_RECOVERY_S: Final = 20.0


class Networks(Protocol):
    """Pods' networks; ``cni.networks`` says what each promises."""

    async def add(self, pod: PodRequest, prepare: Callable[[], Awaitable[None]]) -> PodNetwork:
        """Give a pod its network, whose namespace ``prepare`` makes."""

    async def remove(self, sandbox: str) -> None:
        """Take it back."""


class Members(Protocol):
    """The containers of sandboxes, as far as a sandbox's own life concerns them."""

    async def hold(self, sandbox: Sandbox) -> str:
        """Start the container that keeps a sandbox's shared pid namespace; return its ID. Raises SampanError."""

    async def is_held(self, sandbox: Sandbox) -> bool:
        """Say whether that container runs."""

    async def stop(self, sandbox: Sandbox) -> None:
        """Kill all containers of a sandbox; safe to repeat. Raises SampanError."""

    async def remove(self, sandbox: Sandbox) -> None:
        """Remove all of them, and forget them; safe to repeat. Raises SampanError."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which sandboxes are wanted: all conditions are met."""

    id: str = ""
    ready: bool | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def wants(self, sandbox: Sandbox) -> bool:
        """Say whether a sandbox is among them."""
        return (
            sandbox.id.startswith(self.id)
            and self.ready in (None, sandbox.ready)
            and self.labels.items() <= sandbox.config.labels.items()
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """What sandboxes are made of."""

    store: SandboxStore
    host: SandboxHost
    places: Callable[[str], Places]
    networks: Networks
    members: Members
    handlers: Collection[str]  # names of runtime handlers
    now_ns: Callable[[], int]
    cgroup_driver: str = "cgroupfs"  # who makes control groups: runtimed's word
    phase: Callable[[str], AbstractContextManager[object]] = nullcontext  # what a part of making one is done in


class Sandboxes:
    """All sandboxes. For one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = parts.store
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def get(self, id: str) -> Sandbox:
        """Return one, by its ID or the beginning of it. Raises NotFoundError."""
        return self._store.get(id)

    def select(self, selection: Selection) -> list[Sandbox]:
        """Return those that are wanted, newest first."""
        found = [each for each in self._store.all() if each.state is not State.CREATING and selection.wants(each)]
        return sorted(found, key=lambda each: each.created_ns, reverse=True)

    def everything(self) -> list[Sandbox]:
        """Return all of them, also those that are being made."""
        return list(self._store.all())

    def networked(self) -> list[str]:
        """Return the IDs of those whose networks are to stay as they are."""
        return [each.id for each in self._store.all() if each.state in (State.READY, State.STOPPING)]

    def places(self, sandbox: Sandbox) -> Places:
        """Return where a sandbox's files are."""
        return self._parts.places(sandbox.id)

    async def network_of(self, id: str) -> Path | None:
        """Return the file of a sandbox's network namespace, None if that is the host's.

        Raises:
            NotFoundError: it is not there.
            ConflictError: it is not ready.
        """
        sandbox = self.get(id)
        if not sandbox.ready:
            raise ConflictError(f"pod sandbox {sandbox.id} is not ready")
        return None if sandbox.host_network else self.places(sandbox).namespace("net")

    def locked(self, id: str) -> asyncio.Lock:
        """Return what keeps a sandbox as it is while a container is made in it."""
        return self._locks.setdefault(id, asyncio.Lock())

    # What is done

    async def run(self, config: PodConfig, encoded: bytes, handler: str) -> str:
        """Make a sandbox ready and return its ID; asked twice for the same one, it is the same.

        Cancelled or failed, all of it is taken back.

        Raises:
            InvalidArgumentError: it cannot be meant.
            AlreadyExistsError: another one has this name.
            UnavailableError: there is no network, as yet.
        """
        check_pod(config, handler, self._parts.handlers, self._parts.cgroup_driver)
        sandbox = Sandbox(secrets.token_hex(32), config, encoded, self._parts.now_ns(), handler)
        async with self.locked(sandbox.name):
            for other in self._store.all():
                if other.name == sandbox.name:
                    if other.ready and other.encoded == encoded and other.handler == handler:
                        return other.id
                    raise AlreadyExistsError(f"pod sandbox {other.id} has the name {sandbox.name}: remove it first")
            try:
                with self._parts.phase("total"):
                    await self._store.add(sandbox)
                    await self._make(sandbox)
            except BaseException as error:
                await to_the_end(self._take_back(sandbox.id))
                if isinstance(error, OSError):
                    raise _explained(error) from error
                raise
        return sandbox.id

    async def _make(self, sandbox: Sandbox) -> None:
        phase = self._parts.phase

        async def make_namespaces() -> None:
            with phase("namespaces"):
                await self._parts.host.make(sandbox)

        if sandbox.host_network:
            await make_namespaces()
        else:
            with phase("network"):  # with its namespace
                got = await self._parts.networks.add(_request(sandbox, self.places(sandbox)), make_namespaces)
            sandbox = replace(sandbox, addresses=tuple(map(str, got.addresses)))
        await self._parts.host.name(sandbox)
        if sandbox.shares_pids:
            with phase("infra"):
                sandbox = replace(sandbox, infra=await self._parts.members.hold(sandbox))
        await self._store.change(sandbox, State.READY)

    async def _take_back(self, id: str) -> None:
        """Undo a sandbox that was not made; what fails is tried again when it is removed, or at the next start."""
        with suppress(NotFoundError):
            try:
                await self._remove(self._store.get(id), patient=True)
            except SampanError as error:
                log.warning("pod sandbox is not taken back yet", sandbox=id, error=str(error))

    async def stop(self, id: str) -> None:
        """Kill its containers and take its network back; one that is not there, or was stopped, is no error."""
        with suppress(NotFoundError):
            known = self._store.get(id).id
            async with self.locked(known):
                await self._stop(self._store.get(known))

    async def _stop(self, sandbox: Sandbox) -> Sandbox:
        if sandbox.state in (State.STOPPED, State.REMOVING):
            return sandbox
        sandbox = await self._store.change(sandbox, State.STOPPING)
        await self._parts.members.stop(sandbox)
        if not sandbox.host_network:
            await self._parts.networks.remove(sandbox.id)
        return await self._store.change(replace(sandbox, addresses=()), State.STOPPED)

    async def remove(self, id: str) -> None:
        """Remove it with its containers; one that is not there is no error."""
        with suppress(NotFoundError):
            known = self._store.get(id).id
            async with self.locked(known):
                await self._remove(await self._stop(self._store.get(known)))

    async def _remove(self, sandbox: Sandbox, *, patient: bool = False) -> None:
        """Remove it; with ``patient`` also if its network is taken back later, for which ``cni`` has a record."""
        sandbox = await self._store.change(sandbox, State.REMOVING)
        await self._parts.members.remove(sandbox)
        if not sandbox.host_network:
            try:
                async with asyncio.timeout(_PATIENCE_S if patient else None):
                    await self._parts.networks.remove(sandbox.id)
            except (SampanError, TimeoutError) as error:
                if not patient:
                    raise
                log.warning(
                    "network of a pod that was not made is taken back later", error=str(error) or "it takes long"
                )
        try:
            await self._parts.host.clear(sandbox.id)
        except OSError as error:
            raise _explained(error) from error
        await self._store.drop(sandbox.id)

    # After a crash

    async def recover(self, spared: Collection[str] = ()) -> dict[str, str]:
        """Make good what an earlier crid has left; return sandboxes that cannot be, each with the reason.

        ``spared`` are sandboxes that nothing is known of, and whose files stay.
        """
        failed: dict[str, str] = {}
        turns = asyncio.Semaphore(_AT_ONCE)

        async def recover(sandbox: Sandbox) -> None:
            try:
                async with turns, asyncio.timeout(_RECOVERY_S):
                    await self._recover(sandbox)
            except (SampanError, OSError, TimeoutError) as error:  # whoever stops or removes it has it go on
                failed[sandbox.id] = str(error) or f"it took more than {_RECOVERY_S:.0f} seconds"

        await asyncio.gather(*map(recover, self._store.all()))
        for stranger in await self._parts.host.leftovers([*(each.id for each in self._store.all()), *spared]):
            try:
                await self._parts.host.clear(stranger)
            except OSError as error:
                failed[stranger] = str(error)
        return failed

    async def _recover(self, sandbox: Sandbox) -> None:
        match sandbox.state:
            case State.CREATING | State.REMOVING:
                await self._remove(sandbox, patient=True)
            case State.STOPPING:
                await self._stop(sandbox)
            case State.READY if not await self._stands(sandbox):
                log.warning("pod sandbox has lost what it had", sandbox=sandbox.id, pod=sandbox.name)
                await self._stop(sandbox)

    async def _stands(self, sandbox: Sandbox) -> bool:
        return await self._parts.host.is_whole(sandbox) and (
            not sandbox.shares_pids or await self._parts.members.is_held(sandbox)
        )


def _request(sandbox: Sandbox, places: Places) -> PodRequest:
    config, said = sandbox.config, sandbox.config.metadata
    dns = config.dns_config
    return PodRequest(
        sandbox=sandbox.id,
        netns=places.namespace("net"),
        name=said.name,
        namespace=said.namespace,
        uid=said.uid,
        annotations=config.annotations,
        cgroup_parent=config.linux.cgroup_parent,
        ports=tuple(
            PortMapping(port.container_port, port.host_port, port.protocol.value, port.host_ip)
            for port in config.port_mappings
        ),
        dns=Dns(dns.servers, dns.searches, dns.options) if dns.servers or dns.searches or dns.options else None,
    )


def _explained(error: OSError) -> SampanError:
    return UnavailableError(f"pod sandbox: {error.filename or ''} {error.strerror or error}".replace("  ", " "))
