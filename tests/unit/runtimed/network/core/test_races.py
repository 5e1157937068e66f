"""What a connection does when its network goes, or its client leaves, while it waits."""

import asyncio
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from runtimed.network.core.model import Network, Pool
from runtimed.network.core.networks import Networks
from runtimed.network.core.stack import NetworkStack
from runtimed.network.kernel import dataplane
from sampan.errors import NotFoundError
from sampan.resource.container import Container, EndpointState, NetworkSettings
from sampan.resource.container_spec import ContainerSpec, Endpoint
from sampan.resource.network import NetworkRequest
from tests.fakes.container_records import InMemoryRecords
from tests.unit.runtimed.containers.test_records import SIDE

WEB = Container("a" * 64, ContainerSpec(name="web"), SIDE.created)


class Stack:
    """The stack of an engine in which nothing runs."""

    def __init__(self) -> None:
        self.networks = {SIDE.id: SIDE}
        self.sandboxes: dict[str, object] = {}
        self.lock = asyncio.Lock()

    def turn(self, container_id: str) -> asyncio.Lock:
        return self.lock

    def resolve(self, reference: str) -> Network:
        for network in self.networks.values():
            if reference in (network.id, network.name):
                return network
        raise NotFoundError(f"network {reference} not found")


class GatedRecords(InMemoryRecords):
    def __init__(self) -> None:
        super().__init__()
        self.add(WEB)
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()

    async def set_network(self, container_id: str, *what: object) -> None:
        self.reached.set()
        await self.gate.wait()
        await super().set_network(container_id, *what)  # type: ignore[arg-type]  # as they came


@pytest.mark.parametrize("verb", ["connect", "disconnect"])
async def test_a_network_that_is_removed_before_the_containers_turn_is_not_found(verb: str) -> None:
    stack, records = Stack(), GatedRecords()
    networks = Networks(cast("NetworkStack", stack), records)
    await stack.lock.acquire()
    changing = asyncio.create_task(
        networks.connect("side", "web", Endpoint("side"))
        if verb == "connect"
        else networks.disconnect("side", "web", force=False)
    )
    for _ in range(3):
        await asyncio.sleep(0)
    del stack.networks[SIDE.id]
    stack.lock.release()
    with pytest.raises(NotFoundError, match="not found"):
        await changing
    assert (await records.find("web")).spec.endpoints == ()


async def test_a_client_that_leaves_while_its_connection_is_recorded_changes_nothing() -> None:
    stack, records = Stack(), GatedRecords()
    networks = Networks(cast("NetworkStack", stack), records)
    connecting = asyncio.create_task(networks.connect("side", "web", Endpoint("side")))
    await records.reached.wait()
    connecting.cancel()
    await asyncio.sleep(0)
    records.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert [endpoint.network for endpoint in (await records.find("web")).spec.endpoints] == ["side"]


async def test_links_that_are_removed_at_once_are_all_gone_and_no_other_is() -> None:
    records = GatedRecords()
    asked = Endpoint("side", links=tuple(f"{'d' * 64}:{alias}" for alias in ("db", "cache", "mail")))
    state = EndpointState("side", SIDE.id, asked)
    records.add(Container("b" * 64, ContainerSpec(name="api", endpoints=(asked,)), SIDE.created,
                          network=NetworkSettings(endpoints=(state,))))  # fmt: skip
    networks = Networks(cast("NetworkStack", Stack()), records)
    unlinking = [asyncio.create_task(networks.unlink("api", alias)) for alias in ("db", "mail")]
    await records.reached.wait()
    records.gate.set()
    await asyncio.gather(*unlinking)
    for endpoint in ((await records.find("api")).spec.endpoints[0], (await networks_of(records))[0]):
        assert endpoint.links == (f"{'d' * 64}:cache",)
    with pytest.raises(NotFoundError, match="No such container: api/db"):
        await networks.unlink("api", "db")


async def networks_of(records: InMemoryRecords) -> list[Endpoint]:
    """Return what is asked of the networks in the record of the linked container."""
    return [state.requested for state in (await records.find("api")).network.endpoints]


class GatedStore:
    """Writes a row when the gate opens, whether or not anybody waits for it still: as a store's thread does."""

    def __init__(self) -> None:
        self.reached, self.gate = asyncio.Event(), asyncio.Event()
        self.names: list[str] = []
        self._writing: asyncio.Task[None] | None = None

    async def add(self, network: Network) -> None:
        async def write() -> None:
            await self.gate.wait()
            self.names.append(network.name)

        self.reached.set()
        self._writing = asyncio.create_task(write())
        await asyncio.shield(self._writing)


async def test_a_client_that_leaves_while_its_network_is_recorded_leaves_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataplane, "_POOLS_LOCK", tmp_path / "lock")
    stack, store = Stack(), GatedStore()

    async def nothing() -> None:
        """Stands for what changes the kernel."""

    async def pool(version: int) -> Pool:
        return Pool(IPv4Network("10.9.0.0/16"), IPv4Address("10.9.0.1"))

    parts = {
        "store": store,
        "free_pool": pool,
        "apply_rules": nothing,
        "names": SimpleNamespace(bridge=lambda identity: f"sp-{identity[:10]}"),
        "dataplane": SimpleNamespace(make=lambda network: None),
        "announce": lambda *what: None,
    }
    for name, part in parts.items():
        setattr(stack, name, part)
    networks = Networks(cast("NetworkStack", stack), GatedRecords())
    making = asyncio.create_task(networks.create(NetworkRequest("left")))
    await store.reached.wait()
    making.cancel()
    await asyncio.sleep(0)
    store.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert store.names == ["left"]
    assert stack.resolve("left").name == "left"
