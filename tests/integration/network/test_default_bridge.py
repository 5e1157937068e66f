"""The default network as the configuration has it, changed while nobody is on it and kept while somebody is."""

from dataclasses import replace
from pathlib import Path

import pytest

from runtimed.network.core.networks import Networks
from runtimed.network.planning.default_bridge import make_default_bridge
from sampan.errors import InvalidArgumentError
from sampan.resource.network import AddressPool, NetworkRequest
from tests.fakes.container_records import InMemoryRecords
from tests.integration.network.network_lab import Lab, container, inside, out_of_reach, output, seen_as, server

pytestmark = pytest.mark.root

WANTED = make_default_bridge(bip="10.77.0.1/24", fixed_cidr="10.77.0.128/25", mtu=1400, icc=True)
USUAL = make_default_bridge()
APART = make_default_bridge(bip="10.77.0.1/24", fixed_cidr="10.77.0.128/25", mtu=1400, icc=False)


async def test_bridge_has_its_address_and_containers_theirs(place: Lab) -> None:
    async with place.stack(WANTED) as stack:
        await stack.recover(())
        settings = await stack.attach(container("web"))
        assert settings.endpoints[0].ipv4_address == "10.77.0.128"
        assert settings.endpoints[0].gateway == "10.77.0.1"
        assert "10.77.0.1/24" in output("ip -4 address show dev lab0")
        assert "mtu 1400" in output("ip link show dev lab0")
        assert "mtu 1400" in inside(Path(settings.sandbox_path), lambda: output("ip link show dev eth0"))
        await stack.detach(container("web").id)


async def test_it_follows_the_configuration_when_nobody_is_on_it_and_only_then(place: Lab) -> None:
    web = container("web")
    async with place.stack(USUAL) as stack:
        await stack.recover(())
        web = replace(web, network=await stack.attach(web))
        before = web.network.endpoints[0].ipv4_address
    async with place.stack(WANTED) as stack:
        await stack.recover((web,))
        assert stack.default.pools[0].asked_for is False
        assert stack.sandboxes[web.id].endpoints[0].state.ipv4_address == before
        await stack.detach(web.id)
    async with place.stack(WANTED) as stack:
        await stack.recover(())
        assert str(stack.default.pools[0].subnet) == "10.77.0.0/24"
    async with place.stack(USUAL) as stack:
        await stack.recover(())
        assert str(stack.default.pools[0].subnet) != "10.77.0.0/24"
        assert "mtu 1500" in output("ip link show dev lab0")


async def test_containers_are_kept_apart_at_once(place: Lab) -> None:
    one, two = container("one"), container("two")
    async with place.stack(WANTED) as stack:
        await stack.recover(())
        one = replace(one, network=await stack.attach(one))
        two = replace(two, network=await stack.attach(two))
        address, other = one.network.endpoints[0].ipv4_address, Path(two.network.sandbox_path)
        path = stack.files_of.namespace(one.id)
        with server(path, 80):
            assert seen_as(other, address, 80) is not None
    async with place.stack(APART) as stack:
        await stack.recover((one, two))
        with server(path, 80):
            assert out_of_reach(other, address, 80)
        for each in (one, two):
            await stack.detach(each.id)


async def test_it_has_ipv6_and_default_routes_lead_where_they_are_to(place: Lab) -> None:
    wanted = make_default_bridge(
        bip="10.77.0.1/24", default_gateway="10.77.0.254", ipv6=True, fixed_cidr_v6="fd77:7::/64", masquerade=False
    )
    async with place.stack(USUAL) as stack:
        await stack.recover(())
        assert not stack.default.enable_ipv6
    async with place.stack(wanted) as stack:
        await stack.recover(())
        settings = await stack.attach(container("web"))
        (endpoint,) = settings.endpoints
        assert (endpoint.gateway, endpoint.ipv6_gateway) == ("10.77.0.254", "fd77:7::1")
        assert endpoint.ipv6_address.startswith("fd77:7::")
        assert "fd77:7::1/64" in output("ip -6 address show dev lab0")
        assert "10.77.0.1/24" in output("ip -4 address show dev lab0")
        inner = Path(settings.sandbox_path)
        assert "default via 10.77.0.254" in inside(inner, lambda: output("ip route"))
        assert "default via fd77:7::1" in inside(inner, lambda: output("ip -6 route"))
        assert "10.77.0.0/24" not in output("nft list set ip lab masqueraded")
        assert "10.77.0.0/24" in output("nft list set ip lab subnets")
        await stack.detach(container("web").id)
    async with place.stack(make_default_bridge(ipv6=True)) as stack:
        await stack.recover(())
        v4, v6 = stack.default.pools
        assert (v4.asked_for, v6.asked_for, str(v6.subnet).startswith("fd77")) == (False, False, False)
    async with place.stack(USUAL) as stack:
        await stack.recover(())
        assert [pool.subnet for pool in stack.default.pools] == [v4.subnet]


async def test_addresses_of_another_network_are_refused(place: Lab) -> None:
    async with place.stack(USUAL) as stack:
        await stack.recover(())
        pools = (AddressPool("10.77.0.0/16"),)
        await Networks(stack, InMemoryRecords()).create(NetworkRequest("side", pools=pools))
    async with place.stack(WANTED) as stack:
        with pytest.raises(InvalidArgumentError, match=r"bip: 10\.77\.0\.0/24 overlaps a network"):
            await stack.recover(())


async def test_networks_get_the_options_of_their_driver(place: Lab) -> None:
    mtu = "com.docker.network.driver.mtu"
    async with place.stack(USUAL) as stack:
        await stack.recover(())
        networks = Networks(stack, InMemoryRecords())
        networks.default_options = {"bridge": {mtu: "1300"}}
        assert (await networks.create(NetworkRequest("a"))).mtu == 1300
        assert (await networks.create(NetworkRequest("b", options={mtu: "1200"}))).mtu == 1200
