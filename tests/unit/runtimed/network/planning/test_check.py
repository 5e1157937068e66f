from datetime import UTC, datetime

import pytest

from runtimed.network.core.model import BRIDGE, HOST, NONE, NULL_DRIVER, Network
from runtimed.network.planning.check import check_request
from runtimed.network.planning.options import as_asked, check_endpoint, trusted
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Endpoint
from sampan.resource.network import NetworkRequest

PREFIX = "com.docker.network."
NAME = PREFIX + "bridge.name"


def network(name: str, driver: str) -> Network:
    return Network("f" * 64, name, driver, datetime.now(UTC))


@pytest.mark.parametrize("name", ['a"b', "sp*", "a\\b", "a b", "a/b", "sixteen-letters!", ".", ".."])
def test_bridge_that_would_mean_something_else_in_rules_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid bridge name"):
        check_request(NetworkRequest("n", options={NAME: name}))


@pytest.mark.parametrize("name", ["br0", "a;b", "$x", "a'b", "ä"])
def test_bridge_may_be_called_what_the_kernel_takes(name: str) -> None:
    check_request(NetworkRequest("n", options={NAME: name}))


@pytest.mark.parametrize(
    ("driver", "option", "named"),
    [
        ("", "isolate", "the bridge driver has no such option"),
        ("bridge", "foo", "the bridge driver has no such option"),
        ("bridge", PREFIX + "bridge.enable_iccc", "did you mean com.docker.network.bridge.enable_icc?"),
        ("bridge", PREFIX + "internal", "no such option"),
        ("bridge", "parent", "the bridge driver has no such option"),
        ("macvlan", "ipvlan_mode", "did you mean macvlan_mode?"),
        ("macvlan", NAME, "the macvlan driver has no such option"),
        ("ipvlan", PREFIX + "bridge.enable_icc", "the ipvlan driver has no such option"),
    ],
)
def test_option_without_an_effect_is_refused_by_name(driver: str, option: str, named: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        check_request(NetworkRequest("n", driver=driver, options={option: "false"}))
    assert option in str(refused.value)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("bridge.inhibit_ipv4", "yes"),
        ("bridge.enable_icc", "maybe"),
        ("enable_ipv6", "on"),
        ("bridge.default_bridge", "true"),
        ("bridge.trusted_host_interfaces", "eth0::eth1"),
        ("bridge.trusted_host_interfaces", "eth0 eth1"),
        ("bridge.host_binding_ipv4", "::1"),
        ("bridge.gateway_mode_ipv4", "open"),
        ("driver.mtu", "9"),
    ],
)
def test_option_that_says_nonsense_is_refused(option: str, value: str) -> None:
    with pytest.raises(InvalidArgumentError, match=option.replace(".", r"\.")):
        check_request(NetworkRequest("n", options={PREFIX + option: value}))


def test_configuration_may_hold_the_options_of_any_driver() -> None:
    check_request(NetworkRequest("n", config_only=True, options={"parent": "eth0", NAME: "br0"}))


def test_options_say_which_families_there_are() -> None:
    asked = as_asked(NetworkRequest("n", options={PREFIX + "enable_ipv4": "false", PREFIX + "enable_ipv6": "true"}))
    assert (asked.disable_ipv4, asked.enable_ipv6) == (True, True)
    assert as_asked(NetworkRequest("n", enable_ipv6=True)).enable_ipv6


def test_trusted_interfaces_are_listed_with_colons() -> None:
    assert (trusted(""), trusted("eth0:wg0")) == ((), ("eth0", "wg0"))


@pytest.mark.parametrize(("name", "driver"), [(HOST, HOST), (NONE, NULL_DRIVER)])
@pytest.mark.parametrize(
    ("endpoint", "option"),
    [
        (Endpoint("n", mac_address="02:00:00:00:00:01"), "mac-address"),
        (Endpoint("n", link_local_ips=("169.254.8.8",)), "link-local-ip"),
        (Endpoint("n", gw_priority=1), "gw-priority"),
        (Endpoint("n", driver_options={PREFIX + "endpoint.ifname": "lan0"}), "ifname"),
    ],
)
def test_endpoint_that_is_no_interface_can_have_nothing_of_one(
    name: str, driver: str, endpoint: Endpoint, option: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"conflicting options: .*{option} and the network mode"):
        check_endpoint(network(name, driver), endpoint)


def test_endpoint_of_a_bridge_has_only_options_that_do_something() -> None:
    with pytest.raises(InvalidArgumentError, match="exposedports"):
        check_endpoint(network("side", BRIDGE), Endpoint("n", driver_options={PREFIX + "endpoint.exposedports": "80"}))
