"""Who reaches whom: real packets through real bridges and rules."""

import subprocess
from pathlib import Path

import pytest

from runtimed.network.core.networks import Networks
from runtimed.network.core.stack import NetworkStack
from sampan.resource.container import NetworkSettings
from sampan.resource.container_spec import PortBinding
from sampan.resource.network import NetworkRequest
from tests.fakes.container_records import InMemoryRecords
from tests.integration.network.network_lab import (
    BLOCKED_S,
    HOST,
    REACH_S,
    WORLD,
    Lab,
    container,
    out_of_reach,
    seen_as,
    server,
    steady_udp_client,
    udp_ask,
    udp_echo,
)

pytestmark = pytest.mark.root


def at(settings: NetworkSettings) -> Path:
    return Path(settings.sandbox_path)


def address(settings: NetworkSettings) -> str:
    return settings.endpoints[0].ipv4_address


def gateway(settings: NetworkSettings) -> str:
    return settings.endpoints[0].gateway


async def test_container_reaches_the_world_under_the_hosts_address(place: Lab, stack: NetworkStack) -> None:
    web = await stack.attach(container())
    with server(place.world, 80):
        assert seen_as(at(web), WORLD, 80) == HOST


async def test_published_port_is_reached_from_the_world_with_its_true_source(place: Lab, stack: NetworkStack) -> None:
    web = await stack.attach(container("web", "bridge", PortBinding(80, host_port=8080)))
    with server(at(web), 80):
        assert seen_as(place.world, HOST, 8080) == WORLD


@pytest.mark.parametrize("target", ["127.0.0.1", HOST])
async def test_published_port_is_reached_from_the_host(stack: NetworkStack, target: str) -> None:
    web = await stack.attach(container("web", "bridge", PortBinding(80, host_port=8080)))
    with server(at(web), 80):
        assert seen_as(None, target, 8080) is not None


async def test_published_port_is_reached_from_a_neighbour(stack: NetworkStack) -> None:
    web = await stack.attach(container("web", "bridge", PortBinding(80, host_port=8080)))
    other = await stack.attach(container("other"))
    with server(at(web), 80):
        assert seen_as(at(other), HOST, 8080) is not None
        assert seen_as(at(other), gateway(other), 8080) is not None


async def test_container_reaches_its_own_published_port(stack: NetworkStack) -> None:
    web = await stack.attach(container("web", "bridge", PortBinding(80, host_port=8080)))
    with server(at(web), 80):
        assert seen_as(at(web), HOST, 8080) is not None


async def test_published_port_is_reached_from_another_network(stack: NetworkStack) -> None:
    networks = Networks(stack, InMemoryRecords())
    await networks.create(NetworkRequest("side"))
    web = await stack.attach(container("web", "bridge", PortBinding(80, host_port=8080)))
    other = await stack.attach(container("other", "side"))
    with server(at(web), 80):
        assert seen_as(at(other), HOST, 8080) is not None


def look_for_loopback_outside(namespace: Path, via: str) -> None:
    """Make ``namespace`` send packets for 127.0.0.1 over the wire, as only a hostile one would."""
    commands = (
        "sysctl -qw net.ipv4.conf.all.route_localnet=1",
        f"ip route add 127.0.0.1 via {via} table 7",
        "ip rule add to 127.0.0.1 table 7 pref 0",
        "ip rule add table local pref 1",
        "ip rule del pref 0 table local",
    )
    for command in commands:
        subprocess.run(["nsenter", f"--net={namespace}", *command.split()], check=True)


async def test_port_on_loopback_is_for_the_host_alone(place: Lab, stack: NetworkStack) -> None:
    web = await stack.attach(container("web", "bridge", PortBinding(80, "tcp", "127.0.0.1", 8080)))
    look_for_loopback_outside(place.world, HOST)
    with server(at(web), 80):
        assert seen_as(None, "127.0.0.1", 8080) is not None
        assert out_of_reach(place.world, HOST, 8080)
        assert out_of_reach(place.world, "127.0.0.1", 8080)


async def test_udp_port_is_reached_from_everywhere(place: Lab, stack: NetworkStack) -> None:
    web = await stack.attach(container("web", "bridge", PortBinding(53, "udp", host_port=5353)))
    other = await stack.attach(container("other"))
    with udp_echo(at(web), 53):
        assert udp_ask(place.world, HOST, 5353) == b"ping"
        assert udp_ask(None, "127.0.0.1", 5353) == b"ping"
        assert udp_ask(at(other), gateway(other), 5353) == b"ping"


async def test_udp_client_that_never_pauses_finds_the_next_container(place: Lab, stack: NetworkStack) -> None:
    first = container("first", "bridge", PortBinding(53, "udp", host_port=5353))
    keeper = container("keeper")  # takes the first address, so that the next container has another
    with steady_udp_client(place.world, HOST, 5353) as ask:
        assert ask(BLOCKED_S) is None  # nothing is published yet, and this flow is known from now on
        with udp_echo(at(await stack.attach(first)), 53):
            assert ask(REACH_S) == b"ping"
        await stack.detach(first.id)
        await stack.attach(keeper)
        second = container("second", "bridge", PortBinding(53, "udp", host_port=5353))
        with udp_echo(at(await stack.attach(second)), 53):
            assert ask(REACH_S) == b"ping"


async def test_neighbours_reach_each_other_and_strangers_do_not(place: Lab, stack: NetworkStack) -> None:
    networks = Networks(stack, InMemoryRecords())
    await networks.create(NetworkRequest("side"))
    web = await stack.attach(container("web"))
    neighbour = await stack.attach(container("neighbour"))
    stranger = await stack.attach(container("stranger", "side"))
    subprocess.run(["nsenter", f"--net={place.world}", "ip", "route", "add", "172.16.0.0/12", "via", HOST], check=True)
    with server(at(web), 80):
        assert seen_as(at(neighbour), address(web), 80) == address(neighbour)
        assert out_of_reach(at(stranger), address(web), 80)
        assert out_of_reach(place.world, address(web), 80)  # not published
        assert seen_as(None, address(web), 80) == gateway(web)


async def test_internal_network_has_no_way_out_or_in(place: Lab, stack: NetworkStack) -> None:
    networks = Networks(stack, InMemoryRecords())
    await networks.create(NetworkRequest("closed", internal=True))
    web = await stack.attach(container("web", "closed", PortBinding(80, host_port=8080)))
    neighbour = await stack.attach(container("neighbour", "closed"))
    assert web.ports == ()
    with server(place.world, 80), server(at(web), 80):
        assert out_of_reach(at(web), WORLD, 80)
        assert seen_as(at(neighbour), address(web), 80) == address(neighbour)


async def test_services_on_the_hosts_loopback_stay_out_of_reach(stack: NetworkStack) -> None:
    web = await stack.attach(container())
    look_for_loopback_outside(at(web), gateway(web))
    with server(None, 9999, "127.0.0.1"):
        assert out_of_reach(at(web), "127.0.0.1", 9999)


async def test_running_container_joins_and_leaves_a_network(stack: NetworkStack) -> None:
    records = InMemoryRecords()
    networks = Networks(stack, records)
    await networks.create(NetworkRequest("side"))
    web, other = container("web"), container("other", "side")
    records.add(web, other)
    at_web, at_other = at(await stack.attach(web)), at(await stack.attach(other))
    await networks.connect("side", "web", records.endpoint())
    joined = stack.settings(web).endpoints[1]
    with server(at_web, 80):
        assert seen_as(at_other, joined.ipv4_address, 80) is not None
        await networks.disconnect("side", "web", force=False)
        assert out_of_reach(at_other, joined.ipv4_address, 80)


async def test_default_route_and_ports_survive_leaving_the_network_that_led_out(
    place: Lab, stack: NetworkStack
) -> None:
    records = InMemoryRecords()
    networks = Networks(stack, records)
    await networks.create(NetworkRequest("side"))
    web = container("web", "bridge", PortBinding(80, host_port=8080))
    records.add(web)
    at_web = at(await stack.attach(web))
    await networks.connect("side", "web", records.endpoint())
    await networks.disconnect("bridge", "web", force=False)
    with server(at_web, 80), server(place.world, 80):
        assert seen_as(place.world, HOST, 8080) == WORLD
        assert seen_as(at_web, WORLD, 80) == HOST
