"""IPv6 and shared interfaces in the kernel: what is reached, what is not, and what a kill or a flush leaves."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from runtimed.network.core.networks import Networks
from runtimed.network.core.stack import NetworkStack
from sampan.errors import StartError
from sampan.resource.container_spec import Endpoint, PortBinding
from sampan.resource.network import AddressPool, NetworkRequest
from tests.fakes.container_records import InMemoryRecords
from tests.integration.network.network_lab import Lab, container, inside, output, seen_as, server

SIDE, OTHER = "fd00:1::/64", "fd00:2::/64"


def run_in(namespace: str, command: str) -> str:
    return inside(Path(namespace), lambda: output(command))


async def make(stack: NetworkStack, name: str, subnet: str, **request: object) -> Networks:
    networks = Networks(stack, InMemoryRecords())
    wanted = NetworkRequest(name, enable_ipv6=True, pools=(AddressPool(subnet),), **request)  # type: ignore[arg-type]
    await networks.create(wanted)
    return networks


async def test_rules_of_ipv6_come_back_after_a_flush_and_go_with_the_engine(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        await make(stack, "side", SIDE)
        assert "table ip6 lab" in output("nft list tables")
        subprocess.run(["nft", "delete", "table", "ip6", "lab"], check=True, timeout=60)
        await stack._restore_rules()
        assert "table ip6 lab" in output("nft list tables")
    assert output("nft list tables") == ""


async def test_what_is_published_on_ipv6_leads_to_the_container_and_nothing_else_does(
    place: Lab, stack: NetworkStack
) -> None:
    await make(stack, "side", SIDE)
    await make(stack, "other", OTHER)
    web = container("web", "side", PortBinding(80, host_port=8080))
    settings = await stack.attach(web)
    peer = await stack.attach(container("peer", "other"))
    assert {port.host_ip for port in settings.ports} == {"0.0.0.0", "::"}
    address = settings.endpoints[0].ipv6_address
    with server(Path(settings.sandbox_path), 80, "::"):
        assert seen_as(Path(peer.sandbox_path), address, 80, 0.7) is None
        assert seen_as(Path(peer.sandbox_path), "fd00:2::1", 8080) is not None
        assert seen_as(None, address, 80) is not None
        assert await asyncio.to_thread(seen_as, None, "::1", 8080) is not None  # by the relay, which this loop runs
    await stack.detach(web.id)
    assert seen_as(None, "::1", 8080, 0.7) is None


async def test_a_container_has_no_ipv6_where_its_network_has_none(stack: NetworkStack) -> None:
    await make(stack, "side", SIDE)
    both = container("both", "bridge", endpoints=(Endpoint("bridge"), Endpoint("side")))
    settings = await stack.attach(both)
    shown = run_in(settings.sandbox_path, "ip -o -6 addr")
    assert "eth0" not in shown
    assert "eth1" in shown
    assert run_in(settings.sandbox_path, "cat /proc/sys/net/ipv6/conf/eth1/accept_ra").strip() == "0"


async def test_the_highest_priority_has_the_default_routes(stack: NetworkStack) -> None:
    await make(stack, "side", SIDE)
    web = container("web", "bridge", endpoints=(Endpoint("bridge"), Endpoint("side", gw_priority=1)))
    settings = await stack.attach(web)
    assert "dev eth1" in run_in(settings.sandbox_path, "ip route show default")
    assert "via fd00:1::1 dev eth1" in run_in(settings.sandbox_path, "ip -6 route show default")


async def test_endpoints_have_the_name_settings_and_addresses_that_were_asked_for(stack: NetworkStack) -> None:
    await make(stack, "side", SIDE)
    options = {
        "com.docker.network.endpoint.ifname": "wan",
        "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1",
    }
    asked = Endpoint("side", driver_options=options, link_local_ips=("169.254.7.7",))
    settings = await stack.attach(container("web", "side", endpoints=(asked,)))
    assert "169.254.7.7/16" in run_in(settings.sandbox_path, "ip -o -4 addr show wan")
    assert run_in(settings.sandbox_path, "cat /proc/sys/net/ipv4/conf/wan/log_martians").strip() == "1"


async def test_a_routed_network_opens_published_ports_alone(place: Lab, stack: NetworkStack) -> None:
    mode = {"com.docker.network.bridge.gateway_mode_ipv6": "routed"}
    await make(stack, "side", SIDE, options=mode)
    await make(stack, "other", OTHER)
    web = await stack.attach(container("web", "side", PortBinding(80)))
    peer = await stack.attach(container("peer", "other"))
    address = web.endpoints[0].ipv6_address
    with server(Path(web.sandbox_path), 80, "::"), server(Path(web.sandbox_path), 81, "::"):
        assert seen_as(Path(peer.sandbox_path), address, 80) is not None
        assert seen_as(Path(peer.sandbox_path), address, 81, 0.7) is None


async def test_containers_share_an_interface_until_it_is_gone(place: Lab, stack: NetworkStack) -> None:
    subprocess.run(["ip", "link", "add", "p0", "type", "veth", "peer", "name", "p1"], check=True, timeout=60)
    for command in ("ip link set p0 up", "ip link set p1 up", "ip addr add 10.7.0.1/24 dev p1"):
        subprocess.run(command.split(), check=True, timeout=60)
    networks = Networks(stack, InMemoryRecords())
    request = NetworkRequest("lan", "macvlan", pools=(AddressPool("10.7.0.0/24"),), options={"parent": "p0"})
    await networks.create(request)
    settings = await stack.attach(container("web", "lan", PortBinding(80, host_port=8080)))
    assert (settings.endpoints[0].ipv4_address, settings.ports) == ("10.7.0.2", ())
    with server(None, 8000):
        assert seen_as(Path(settings.sandbox_path), "10.7.0.1", 8000) == "10.7.0.2"
    subprocess.run(["ip", "link", "del", "p0"], check=True, timeout=60)
    with pytest.raises(StartError, match="the requested parent interface p0 was not found on the Docker host"):
        await stack.attach(container("late", "lan"))
