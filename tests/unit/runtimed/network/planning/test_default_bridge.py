"""What the configuration says of networks: read, and refused where it makes no sense."""

from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest

from runtimed.network.core.model import OPTION_ICC, OPTION_MASQUERADE, OPTION_MTU, Network, Pool
from runtimed.network.core.store import predefined
from runtimed.network.planning.default_bridge import (
    make_default_bridge,
    parse_default_options,
    parse_host_gateways,
)
from runtimed.network.planning.ipam import choose_pool
from sampan.errors import InvalidArgumentError

MTU = "com.docker.network.driver.mtu"


ULA = "fd12:3456:789a::"
made = make_default_bridge


def usual(*pools: Pool) -> Network:
    return predefined(pools or (choose_pool(()),), "docker0", datetime.now(UTC))[0]


def test_nothing_said_is_the_usual_network() -> None:
    network = usual()
    assert made().of(network) == network
    assert made().keeps(network)


def test_addresses_are_those_of_bip_and_containers_those_of_a_part() -> None:
    wanted = made(bip="10.9.0.1/24", fixed_cidr="10.9.0.128/25")
    (pool,) = wanted.pools
    assert (str(pool.subnet), str(pool.gateway), str(pool.router)) == ("10.9.0.0/24", "10.9.0.1", "10.9.0.1")
    assert str(pool.ip_range) == "10.9.0.128/25"
    assert wanted.keeps(usual(pool))
    assert not wanted.keeps(usual())
    assert not made().keeps(usual(pool))  # it is said no more


def test_of_ipv6_part_alone_is_all_there_is_and_without_either_it_is_what_nobody_uses() -> None:
    (pool,) = made(ipv6=True, fixed_cidr_v6=f"{ULA}/64").pools
    assert (str(pool.subnet), str(pool.gateway), pool.ip_range) == (f"{ULA}/64", f"{ULA}1", None)
    (pool,) = made(ipv6=True, bip6=f"{ULA}9/64", fixed_cidr_v6=f"{ULA}/80").pools
    assert (str(pool.subnet), str(pool.gateway), str(pool.ip_range)) == (f"{ULA}/64", f"{ULA}9", f"{ULA}/80")
    free = choose_pool((), [(ip_network(f"{ULA}/48"), 64)], 6)
    wanted = made(ipv6=True)
    assert wanted.pools == ()
    assert wanted.keeps(usual(choose_pool(()), free))
    assert not wanted.keeps(usual())
    assert not made().keeps(usual(choose_pool(()), free))
    assert (wanted.of(usual()).enable_ipv6, made().of(usual()).enable_ipv6) == (True, False)


def test_default_routes_lead_to_another_host_if_that_is_said() -> None:
    v4, v6 = made(
        bip="10.9.0.1/24", default_gateway="10.9.0.254", ipv6=True, bip6=f"{ULA}1/64", default_gateway_v6=f"{ULA}fe"
    ).pools
    assert (str(v4.gateway), str(v4.router)) == ("10.9.0.1", "10.9.0.254")
    assert (str(v6.gateway), str(v6.router)) == (f"{ULA}1", f"{ULA}fe")
    assert v4.auxiliary == {"DefaultGatewayIPv4": v4.router}  # which is how dockerd's inspect shows it


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("bip6", {"bip6": f"{ULA}1/64"}),
        ("bip6", {"ipv6": True, "bip6": "10.9.0.1/24"}),
        ("bip6", {"ipv6": True, "bip6": ULA}),
        ("bip6", {"ipv6": True, "bip6": f"{ULA}/64"}),
        ("fixed_cidr_v6", {"fixed_cidr_v6": f"{ULA}/64"}),
        ("fixed_cidr_v6", {"ipv6": True, "fixed_cidr_v6": "10.9.0.0/24"}),
        ("fixed_cidr_v6", {"ipv6": True, "bip6": f"{ULA}1/64", "fixed_cidr_v6": "fd00::/64"}),
        ("default_gateway", {"default_gateway": "10.9.0.2"}),
        ("default_gateway", {"bip": "10.9.0.1/24", "default_gateway": "10.8.0.2"}),
        ("default_gateway", {"bip": "10.9.0.1/24", "default_gateway": "10.9.0.1"}),
        ("default_gateway", {"bip": "10.9.0.1/24", "default_gateway": "10.9.0.255"}),
        ("default_gateway", {"bip": "10.9.0.1/24", "default_gateway": "x"}),
        ("default_gateway_v6", {"default_gateway_v6": f"{ULA}2"}),
        ("default_gateway_v6", {"ipv6": True, "default_gateway_v6": f"{ULA}2"}),
        ("default_gateway_v6", {"ipv6": True, "bip6": f"{ULA}1/64", "default_gateway_v6": "10.9.0.2"}),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(key: str, said: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{key}: "):
        made(**said)


def test_host_has_one_address_of_a_family() -> None:
    assert parse_host_gateways(("10.0.0.1", "fd00::1")) == ("10.0.0.1", "fd00::1")
    for texts in (("10.0.0.1", "10.0.0.2"), ("x",), ("0.0.0.0",), ("",)):
        with pytest.raises(InvalidArgumentError, match=r"^host_gateway_ips: "):
            parse_host_gateways(texts)


def test_size_of_packets_waits_for_containers_to_leave_and_their_isolation_does_not() -> None:
    wanted = made(mtu=1400, icc=False, masquerade=False)
    assert (wanted.of(usual()).options[OPTION_MTU], wanted.of(usual()).options[OPTION_ICC]) == ("1400", "false")
    beneath = wanted.beneath(usual()).options
    assert (beneath[OPTION_MTU], beneath[OPTION_ICC], beneath[OPTION_MASQUERADE]) == ("1500", "false", "false")


@pytest.mark.parametrize(
    "bip",
    ["10.9.0.1", "10.9.0.0/24", "10.9.0.255/24", "10.9.0.1/31", "10.9.0.1/33", "fd00::1/64", "x", "127.0.0.1/8",
     "224.0.0.1/24", "0.0.0.0/0", "10.9.0.1/"],
)  # fmt: skip
def test_what_is_no_address_of_a_bridge_is_refused(bip: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^bip: "):
        made(bip=bip)


def test_part_of_nothing_and_of_something_else_is_refused() -> None:
    for bip, part in (
        ("", "10.9.0.0/25"),
        ("10.9.0.1/24", "10.8.0.0/25"),
        ("10.9.0.1/24", "x"),
        ("10.9.0.1/24", "::/0"),
    ):
        with pytest.raises(InvalidArgumentError, match=r"^fixed_cidr: "):
            made(bip=bip, fixed_cidr=part)


@pytest.mark.parametrize("mtu", [1, 67, 65536, -5])
def test_packets_have_a_size_that_there_is(mtu: int) -> None:
    with pytest.raises(InvalidArgumentError, match="mtu"):
        made(mtu=mtu)


def test_options_are_read_by_driver() -> None:
    assert parse_default_options((f"bridge={MTU}=1400", "macvlan=macvlan_mode=vepa", f"macvlan={MTU}=9000")) == {
        "bridge": {MTU: "1400"},
        "macvlan": {"macvlan_mode": "vepa", MTU: "9000"},
    }


@pytest.mark.parametrize(
    "text", ["", "bridge", f"bridge={MTU}", "bridge=x=1", f"bridge={MTU}=big", "host=x=1", "nosuch=x=y"]
)
def test_options_that_no_network_could_have_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^default_network_opts: "):
        parse_default_options((text,))
