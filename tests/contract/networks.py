"""What ``resource.protocols.Networks`` promises, whoever keeps it."""

import pytest

from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from sampan.resource.container_spec import Endpoint
from sampan.resource.network import AddressPool, NetworkRequest
from sampan.resource.protocols import Networks

MTU = "com.docker.network.driver.mtu"


class NetworksContract:
    """Subclass with a fixture ``networks`` that has the predefined ones alone, and ``container``, one that runs."""

    promises: tuple[type, ...] = (Networks,)

    async def test_a_network_is_made_and_found_by_name_and_id(self, networks: Networks) -> None:
        pool = AddressPool("10.89.0.0/24", "10.89.0.1")
        identity = await networks.create(
            NetworkRequest("back", internal=True, pools=(pool,), labels={"a": "1"}, options={MTU: "1400"})
        )
        found = await networks.get("back")
        assert (found.id, found.name, found.driver, found.internal) == (identity, "back", "bridge", True)
        assert (found.pools, dict(found.labels), dict(found.options)) == ((pool,), {"a": "1"}, {MTU: "1400"})
        assert found.ipam_driver == "default"
        assert await networks.get(identity) == await networks.get(identity[:12]) == found

    async def test_addresses_are_chosen_if_none_are_asked_for(self, networks: Networks) -> None:
        await networks.create(NetworkRequest("back"))
        (pool,) = (await networks.get("back")).pools
        assert pool.subnet
        assert pool.gateway

    async def test_a_name_is_taken_once(self, networks: Networks) -> None:
        await networks.create(NetworkRequest("back"))
        with pytest.raises(AlreadyExistsError, match="network with name back already exists"):
            await networks.create(NetworkRequest("back"))

    async def test_predefined_networks_are_neither_made_nor_removed(self, networks: Networks) -> None:
        with pytest.raises(PermissionDeniedError, match="predefined"):
            await networks.create(NetworkRequest("bridge"))
        with pytest.raises(PermissionDeniedError, match="pre-defined"):
            await networks.remove("bridge")

    async def test_what_cannot_be_is_refused(self, networks: Networks) -> None:
        with pytest.raises(InvalidArgumentError):
            await networks.create(NetworkRequest(" "))
        with pytest.raises(NotFoundError, match='plugin "weave" not found'):
            await networks.create(NetworkRequest("back", driver="weave"))
        with pytest.raises(NotFoundError, match="network nosuch not found"):
            await networks.get("nosuch")
        with pytest.raises(InvalidArgumentError, match="invalid filter"):
            await networks.list({"colour": ("red",)})

    async def test_a_list_is_newest_first_and_filtered(self, networks: Networks) -> None:
        made = ("first", "second")
        for name in made:
            await networks.create(NetworkRequest(name))
        assert [one.name for one in await networks.list() if one.name in made] == ["second", "first"]
        assert [one.name for one in await networks.list({"name": ("irs",)})] == ["first"]
        assert [one.name async for page in networks.pages({"name": ("irs",)}) for one in page] == ["first"]

    async def test_a_network_with_a_running_container_stays(self, networks: Networks, container: str) -> None:
        await networks.create(NetworkRequest("back"))
        await networks.connect("back", container, Endpoint("back", aliases=("db",)))
        (member,) = (await networks.get("back")).members
        assert member.container_id == container
        assert member.ipv4_address.partition("/")[2]
        with pytest.raises(PermissionDeniedError, match="already exists in network back"):
            await networks.connect("back", container, Endpoint("back"))
        with pytest.raises(PermissionDeniedError, match="has active endpoints"):
            await networks.remove("back")
        assert await networks.prune() == ()
        await networks.disconnect("back", container)
        with pytest.raises(PermissionDeniedError, match="is not connected"):
            await networks.disconnect("back", container)
        assert await networks.prune() == ("back",)
