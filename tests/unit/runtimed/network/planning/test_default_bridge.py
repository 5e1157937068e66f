"""What the configuration says of networks: read, and refused where it makes no sense."""

from datetime import UTC, datetime

import pytest

from runtimed.network.core.model import OPTION_ICC, OPTION_MTU, Network, Pool
from runtimed.network.core.store import predefined
from runtimed.network.planning.default_bridge import DefaultBridge, make_default_bridge, parse_default_options
from runtimed.network.planning.ipam import choose_pool
from sampan.errors import InvalidArgumentError

MTU = "com.docker.network.driver.mtu"


def made(*, bip: str = "", fixed_cidr: str = "", mtu: int = 0, icc: bool = True) -> DefaultBridge:
    return make_default_bridge(bip=bip, fixed_cidr=fixed_cidr, mtu=mtu, icc=icc)


def usual(pool: Pool | None = None) -> Network:
    return predefined(pool or choose_pool(()), "docker0", datetime.now(UTC))[0]


def test_nothing_said_is_the_usual_network() -> None:
    network = usual()
    assert made().of(network) == network
    assert made().keeps(network)


def test_addresses_are_those_of_bip_and_containers_those_of_a_part() -> None:
    wanted = made(bip="10.9.0.1/24", fixed_cidr="10.9.0.128/25")
    assert wanted.pool is not None
    assert (str(wanted.pool.subnet), str(wanted.pool.gateway)) == ("10.9.0.0/24", "10.9.0.1")
    assert str(wanted.pool.ip_range) == "10.9.0.128/25"
    assert wanted.keeps(usual(wanted.pool))
    assert not wanted.keeps(usual())
    assert not made().keeps(usual(wanted.pool))  # it is said no more


def test_size_of_packets_waits_for_containers_to_leave_and_their_isolation_does_not() -> None:
    wanted = made(mtu=1400, icc=False)
    assert (wanted.of(usual()).options[OPTION_MTU], wanted.of(usual()).options[OPTION_ICC]) == ("1400", "false")
    beneath = wanted.beneath(usual()).options
    assert (beneath[OPTION_MTU], beneath[OPTION_ICC]) == ("1500", "false")


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
