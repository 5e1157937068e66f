from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network

import pytest

from runtimed.network.core.model import Network, Pool
from runtimed.network.planning import plan
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.resource.container_spec import ContainerSpec, Dns, Endpoint, Namespaces, PortBinding
from tests.unit.runtimed.network_values import attached, container, sandbox

POOL = Pool(IPv4Network("10.0.0.0/24"), IPv4Address("10.0.0.1"))
NETWORKS = {
    name: Network(name * 9, name, driver, datetime.now(UTC), pools=(POOL,) if driver == "bridge" else ())
    for name, driver in (("bridge", "bridge"), ("side", "bridge"), ("host", "host"), ("none", "null"))
}


def resolve(name: str) -> Network:
    if name not in NETWORKS:
        raise NotFoundError(f"network {name} not found")
    return NETWORKS[name]


def spec(mode: str = "", *endpoints: Endpoint, **fields: object) -> ContainerSpec:
    return ContainerSpec(namespaces=Namespaces(network=mode), endpoints=endpoints, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["", "default", "bridge"])
def test_container_is_on_the_default_network_unless_told(mode: str) -> None:
    assert plan.wanted(spec(mode)) == (Endpoint("bridge"),)


def test_network_of_the_mode_comes_first() -> None:
    listed = plan.wanted(spec("side", Endpoint("other"), Endpoint("side", aliases=("db",))))
    assert [endpoint.network for endpoint in listed] == ["side", "other"]


def test_container_that_left_the_network_of_its_mode_stays_away() -> None:
    assert plan.wanted(spec("side", Endpoint("other"))) == (Endpoint("other"),)


def test_guest_of_another_container_joins_nothing() -> None:
    assert plan.wanted(spec("container:abc", Endpoint("side"))) == ()


def test_settings_before_the_first_start_show_what_is_asked_for() -> None:
    settings, warnings = plan.check(spec("side", Endpoint("side", aliases=("db",))), resolve)
    (state,) = settings.endpoints
    assert (state.network, state.aliases, state.ipv4_address, state.network_id) == ("side", ("db",), "", "")
    assert warnings == ()


def test_ports_on_the_hosts_network_are_warned_about() -> None:
    _, warnings = plan.check(spec("host", ports=(PortBinding(80, host_port=80),)), resolve)
    assert warnings == ("Published ports are discarded when using host network mode",)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (spec("bridge", Endpoint("bridge", aliases=("db",))), "aliases are only supported for user-defined networks"),
        (spec("bridge", Endpoint("bridge", ipv4_address="10.0.0.9")), "supported on user defined networks only"),
        (spec("side", Endpoint("side", ipv6_address="fd00::2")), "has no IPv6 subnet"),
        (spec("side", Endpoint("side", mac_address="01:02:03:04:05:06")), "invalid MAC address"),
        (spec("side", Endpoint("side"), Endpoint("side")), "asked for twice"),
        (spec("side", dns=Dns(servers=("nine",))), "nine is not an ip address"),
        (spec("container:x", hostname="web"), "conflicting options: hostname and the network mode"),
        (spec("container:x", ports=(PortBinding(80),)), "port publishing and the container type network mode"),
        (spec("container:x", extra_hosts=("a:1.2.3.4",)), "custom host-to-IP mapping and the network mode"),
    ],
)
def test_what_does_not_go_together_is_refused(bad: ContainerSpec, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        plan.check(bad, resolve)


def test_host_name_goes_with_a_namespace_that_is_joined_by_its_file() -> None:
    settings, warnings = plan.check(spec("ns:/run/pods/net", hostname="web"), resolve)
    assert (settings.endpoints, warnings) == ((), ())


def test_unknown_network_is_left_to_the_start() -> None:
    settings, _ = plan.check(spec("nowhere"), resolve)
    assert [state.network for state in settings.endpoints] == ["nowhere"]


def test_hardware_address_follows_from_the_address() -> None:
    made = plan.connect(NETWORKS["side"], Endpoint("side"), container(spec("side")), (), ())
    assert made.state.mac_address == "02:42:0a:00:00:02"


def test_names_resolve_on_users_networks_only() -> None:
    web = container(ContainerSpec(name="web", hostname="www"))
    made = plan.connect(NETWORKS["side"], Endpoint("side", aliases=("db", "web")), web, (), ())
    assert made.state.dns_names == ("web", "db", web.short_id, "www")
    assert plan.connect(NETWORKS["bridge"], Endpoint("bridge"), web, (), ()).state.dns_names == ()


def test_first_network_by_name_leads_out() -> None:
    side, bridge, closed = attached("side"), attached("bridge"), attached("a", gateway="")
    assert plan.gateway_endpoint([side, bridge, closed]) == bridge.state.endpoint_id
    assert plan.gateway_endpoint([closed]) == ""


def test_what_leads_out_for_both_families_precedes_and_priority_before_all() -> None:
    one, both, first = attached("a"), attached("side"), attached("z")
    both = replace(both, state=replace(both.state, ipv6_gateway="fd00::1"))
    first = replace(first, state=replace(first.state, requested=Endpoint("z", gw_priority=1)))
    assert plan.gateway_endpoint([one, both], 4) == plan.gateway_endpoint([one, both], 6) == both.state.endpoint_id
    assert plan.gateway_endpoint([one, both, first], 4) == first.state.endpoint_id
    assert plan.gateway_endpoint([one, both, first], 6) == both.state.endpoint_id


def test_renamed_container_is_found_by_its_new_name() -> None:
    before = sandbox(attached("side", dns_names=("web", "db", "0123")))
    assert plan.renamed(before, "www").endpoints[0].state.dns_names == ("www", "db", "0123")


def test_interface_that_was_given_up_is_numbered_again() -> None:
    assert plan.next_interface([attached()]) == "eth1"
    assert plan.next_interface([]) == "eth0"
