from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from runtimed.network.core.model import Address, Network, Pool
from runtimed.network.planning.ipam import (
    DEFAULT_POOLS,
    allocate,
    check_static,
    choose_pool,
    local_prefix,
    parse_default_pools,
    parse_pool,
)
from sampan.errors import InvalidArgumentError, ResourceExhaustedError

SMALL = Pool(IPv4Network("10.0.0.0/29"), IPv4Address("10.0.0.1"))


def network(*pools: Pool, name: str = "side") -> Network:
    return Network("f" * 64, name, "bridge", datetime.now(UTC), "br0", pools=pools)


def taken(*last: int) -> set[Address]:
    return {IPv4Address("10.0.0.0") + number for number in last}


def test_first_default_pool_that_is_free_is_chosen_with_its_gateway() -> None:
    chosen = choose_pool([IPv4Network("172.17.4.0/24"), IPv4Network("172.16.0.0/15")])
    assert (str(chosen.subnet), str(chosen.gateway)) == ("172.18.0.0/16", "172.18.0.1")


def test_smaller_pools_follow_when_the_large_ones_are_used_up() -> None:
    assert str(choose_pool([IPv4Network("172.16.0.0/12")]).subnet) == "192.168.0.0/20"


def test_no_pool_is_left_when_everything_is_routed() -> None:
    with pytest.raises(ResourceExhaustedError, match="all predefined address pools have been fully subnetted"):
        choose_pool([base for base, _ in DEFAULT_POOLS])


def test_lowest_free_address_is_given_out() -> None:
    assert str(allocate(network(SMALL), taken(2, 4))[0]) == "10.0.0.3"


def test_network_broadcast_gateway_and_auxiliary_addresses_are_never_given_out() -> None:
    pool = Pool(SMALL.subnet, SMALL.gateway, auxiliary={"router": IPv4Address("10.0.0.2")})
    free = []
    in_use: set[Address] = set()
    for _ in range(4):
        address, _ = allocate(network(pool), in_use)
        in_use.add(address)
        free.append(str(address))
    assert free == ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    with pytest.raises(ResourceExhaustedError) as caught:
        allocate(network(pool), in_use)
    assert str(caught.value) == (f"no available IPv4 addresses on this network's address pools: side ({'f' * 64})")


def test_range_limits_what_is_given_out_and_not_what_may_be_asked_for() -> None:
    pool = Pool(IPv4Network("10.0.0.0/24"), IPv4Address("10.0.0.1"), IPv4Network("10.0.0.128/25"))
    assert str(allocate(network(pool), ())[0]) == "10.0.0.128"
    assert str(allocate(network(pool), (), "10.0.0.7")[0]) == "10.0.0.7"


def test_second_pool_serves_when_the_first_is_full() -> None:
    second = Pool(IPv4Network("10.1.0.0/24"), IPv4Address("10.1.0.1"))
    address, pool = allocate(network(SMALL, second), taken(2, 3, 4, 5, 6))
    assert (str(address), pool) == ("10.1.0.2", second)


@pytest.mark.parametrize("asked", ["10.0.0.3", "10.0.0.1"])
def test_address_that_is_in_use_is_refused(asked: str) -> None:
    with pytest.raises(ResourceExhaustedError, match="Address already in use"):
        allocate(network(SMALL), taken(3), asked)


@pytest.mark.parametrize(
    ("pool", "name", "asked", "words"),
    [
        (SMALL, "side", "10.9.9.9", "no configured subnet or ip-range contain the IP address 10.9.9.9"),
        (SMALL, "bridge", "10.0.0.3", "supported on user defined networks only"),
        (Pool(SMALL.subnet, SMALL.gateway, asked_for=False), "side", "10.0.0.3", "with user configured subnets"),
        (SMALL, "side", "ten", "invalid IPv4 address ten"),
    ],
)
def test_address_that_cannot_be_asked_for_is_refused(pool: Pool, name: str, asked: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        check_static(network(pool, name=name), asked)


@pytest.mark.parametrize(
    ("subnet", "gateway", "ip_range", "auxiliary", "expected"),
    [
        ("10.5.0.0/16", "", "", {}, "10.5.0.1"),
        ("10.5.0.7/16", "10.5.0.254", "", {}, "10.5.0.254"),
        ("10.5.0.0/16", "", "10.5.9.0/24", {}, "10.5.9.0"),
        ("10.5.0.0/16", "", "", {"router": "10.5.0.1"}, "10.5.0.2"),
    ],
)
def test_gateway_is_as_asked_or_the_first_free_address(
    subnet: str, gateway: str, ip_range: str, auxiliary: dict[str, str], expected: str
) -> None:
    assert str(parse_pool(subnet, gateway, ip_range, auxiliary).gateway) == expected


@pytest.mark.parametrize(
    ("subnet", "gateway", "ip_range", "words"),
    [
        ("nonsense", "", "", "invalid subnet nonsense"),
        ("10.5.0.0/16", "10.6.0.1", "", "invalid gateway 10.6.0.1: it is not in subnet"),
        ("10.5.0.0/16", "", "10.6.0.0/24", "invalid ip-range"),
        ("10.5.0.0", "", "", "invalid subnet 10.5.0.0: expected a network such as 10.1.0.0/16"),
        ("fd00:5::", "", "", "invalid subnet fd00:5::: expected a network such as 10.1.0.0/16"),
        ("10.5.0.0/16", "", "10.5.1.0", "invalid ip-range 10.5.1.0: expected a network such as 10.1.0.0/16"),
        ("0.0.0.0/8", "", "", "of no network in particular"),
        ("127.0.0.0/8", "", "", "of the machine itself"),
        ("127.9.0.0/16", "", "", "of the machine itself"),
        ("::/0", "", "", "of the machine itself"),
        ("::/112", "", "", "of the machine itself"),
        ("224.0.0.0/24", "", "", "of groups"),
        ("ff02::/16", "", "", "of groups"),
    ],
)
def test_pool_that_makes_no_sense_is_refused(subnet: str, gateway: str, ip_range: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        parse_pool(subnet, gateway, ip_range, {})


@pytest.mark.parametrize("subnet", ["10.5.0.0/31", "10.5.0.0/32", "fd00::/128"])
def test_pool_without_an_address_for_a_gateway_is_refused(subnet: str) -> None:
    with pytest.raises(ResourceExhaustedError, match=r"failed to allocate gateway \(\): No available addresses"):
        parse_pool(subnet, "", "", {})


def test_ipv6_addresses_are_given_out_in_order_but_for_the_first_which_is_the_routers() -> None:
    side = network(parse_pool("fd00:7::/126", "", "", {}))
    in_use: set[Address] = set()
    for _ in range(2):
        in_use.add(allocate(side, in_use, version=6)[0])
    assert [str(address) for address in sorted(in_use, key=int)] == ["fd00:7::2", "fd00:7::3"]
    with pytest.raises(ResourceExhaustedError, match="no available IPv6 addresses on this network's address pools"):
        allocate(side, in_use, version=6)
    with pytest.raises(ResourceExhaustedError, match="no available IPv4"):
        allocate(side, ())


def test_two_addresses_of_ipv6_are_a_router_and_nobody_else() -> None:
    side = network(parse_pool("fd00:7::/127", "", "", {}))
    with pytest.raises(ResourceExhaustedError, match="no available IPv6"):
        allocate(side, (), version=6)


def test_default_ipv6_pools_are_local_ones_of_this_engine() -> None:
    ours = local_prefix("one")
    assert ours.subnet_of(IPv6Network("fd00::/8"))
    assert ours == local_prefix("one") != local_prefix("two")
    first = choose_pool([], [(ours, 64)], 6).subnet
    second = choose_pool([first], [(ours, 64)], 6).subnet
    assert (first[0], second[0]) == (ours[0], ours[0] + 2**64)
    with pytest.raises(ResourceExhaustedError, match="could not find an available, non-overlapping IPv6 address pool"):
        choose_pool([ours], [(ours, 64)], 6)


def test_pools_to_choose_from_are_read_from_the_configuration() -> None:
    pools = parse_default_pools(["10.200.0.0/22:24", "fd99::/48:64"])
    assert [str(choose_pool([], pools, version).subnet) for version in (4, 6)] == ["10.200.0.0/24", "fd99::/64"]


@pytest.mark.parametrize("bad", ["10.200.0.0/16", "10.200.0.0/24:16", "10.200.0.1/16:24", "x:24", "10.0.0.0/8:32"])
def test_pool_to_choose_from_that_makes_no_sense_is_refused(bad: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid address pool"):
        parse_default_pools([bad])
