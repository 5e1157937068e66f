"""Options of drivers that change who reaches whom, or what an interface has."""

import subprocess
from pathlib import Path

import pytest

from runtimed.network.core.networks import Networks
from runtimed.network.core.stack import NetworkStack
from sampan.resource.container import NetworkSettings
from sampan.resource.container_spec import PortBinding
from sampan.resource.network import AddressPool, NetworkRequest
from tests.fakes.container_records import InMemoryRecords
from tests.integration.network.network_lab import HOST, Lab, container, inside, out_of_reach, output, seen_as, server

pytestmark = pytest.mark.root

TRUSTED = "com.docker.network.bridge.trusted_host_interfaces"
INHIBIT = "com.docker.network.bridge.inhibit_ipv4"
NAME = "com.docker.network.bridge.name"


async def attached(
    stack: NetworkStack, options: dict[str, str], *, port: PortBinding | None = None
) -> tuple[Path, NetworkSettings]:
    """Return the namespace of a container on a network with these options, and what its record says."""
    pools = (AddressPool("10.9.0.0/24"),)
    await Networks(stack, InMemoryRecords()).create(NetworkRequest("side", options=options, pools=pools))
    settings = await stack.attach(container("web", "side", *((port,) if port else ())))
    return Path(settings.sandbox_path), settings


@pytest.mark.parametrize(("interfaces", "reached"), [("out0", True), ("other0:out0", True), ("other0", False)])
async def test_trusted_interface_leads_to_published_ports_at_containers_own_addresses(
    place: Lab, stack: NetworkStack, interfaces: str, *, reached: bool
) -> None:
    web, settings = await attached(stack, {TRUSTED: interfaces}, port=PortBinding(80, "tcp", "127.0.0.1", 8080))
    address = settings.endpoints[0].ipv4_address
    subprocess.run(["nsenter", f"--net={place.world}", "ip", "route", "add", "10.9.0.0/24", "via", HOST], check=True)
    with server(web, 80), server(web, 81):
        if reached:
            assert seen_as(place.world, address, 80) is not None
        else:
            assert out_of_reach(place.world, address, 80)
        assert out_of_reach(place.world, address, 81)  # it is not published


async def test_bridge_without_an_address_leaves_the_gateway_to_somebody_else(place: Lab, stack: NetworkStack) -> None:
    web, settings = await attached(stack, {INHIBIT: "true", NAME: "lan0"})
    assert "10.9.0.1" not in output("ip -4 address show dev lan0")
    assert settings.endpoints[0].gateway == "10.9.0.1"
    assert inside(web, lambda: output("ip route show default")).startswith("default via 10.9.0.1")
    _, expected = await stack.recover(()), output("ip -4 address show dev lan0")  # nor after a restart
    assert "10.9.0.1" not in expected


@pytest.mark.parametrize("option", ["com.docker.network.enable_ipv4", "com.docker.network.enable_ipv6"])
async def test_families_may_be_said_by_options(stack: NetworkStack, option: str) -> None:
    networks = Networks(stack, InMemoryRecords())
    off = {"com.docker.network.enable_ipv4": "false", "com.docker.network.enable_ipv6": "true"}
    options = off if option.endswith("v4") else {option: "true"}
    network = await networks.create(NetworkRequest("side", options=options))
    assert (network.enable_ipv4, network.enable_ipv6) == (not option.endswith("v4"), True)
    assert {pool.subnet.version for pool in network.pools} == ({6} if option.endswith("v4") else {4, 6})
