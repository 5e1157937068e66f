"""Gateways, ranges and auxiliary addresses go to the subnets that they lie in; what docker refuses is refused."""

import pytest

from tests.unit.sampan_cli.conftest import Sampan


def test_each_address_goes_to_its_subnet(sampan: Sampan) -> None:
    flags = ("--subnet", "10.1.0.0/16", "--subnet", "fd00::/64", "--gateway", "fd00::1", "--gateway", "10.1.0.9")
    more = ("--ip-range", "10.1.2.0/24", "--aux-address", "a=10.1.0.7", "--aux-address", "b=10.1.0.8")
    sampan.ok("network", "create", "--ipv6", *flags, *more, "back")
    first, second = sampan.fake.runtime.networks.find("back").pools
    assert (first.subnet, first.gateway, first.ip_range) == ("10.1.0.0/16", "10.1.0.9", "10.1.2.0/24")
    assert dict(first.auxiliary) == {"a": "10.1.0.7", "b": "10.1.0.8"}
    assert (second.subnet, second.gateway, second.ip_range) == ("fd00::/64", "fd00::1", "")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--gateway 10.1.0.1", "every ip-range or gateway must have a corresponding subnet"),
        (
            "--subnet 10.1.0.0/16 --ip-range 10.1.1.0/24 --ip-range 10.1.2.0/24",
            "every ip-range or gateway must have a corresponding subnet",
        ),
        ("--subnet 10.1.0.0/16 --subnet 10.1.2.0/24", "multiple overlapping subnet configuration is not supported"),
        ("--subnet 10.1.2.0/24 --subnet 10.1.0.0/16", "multiple overlapping subnet configuration is not supported"),
        ("--subnet 10.1.0.0/16 --gateway 10.2.0.1", "no matching subnet for gateway 10.2.0.1"),
        ("--subnet 10.1.0.0/16 --gateway abc", "no matching subnet for gateway abc"),
        ("--subnet 10.1.0.0/16 --ip-range 10.0.0.0/8", "no matching subnet for range 10.0.0.0/8"),
        ("--subnet 10.1.0.0/16 --aux-address a=10.2.0.2", "no matching subnet for aux-address 10.2.0.2"),
        (
            "--subnet 10.1.0.0/16 --subnet 10.3.0.0/16 --gateway 10.1.0.1 --gateway 10.1.0.2",
            "cannot configure multiple gateways (10.1.0.2, 10.1.0.1) for the same subnet (10.1.0.0/16)",
        ),
        (
            "--subnet 10.1.0.0/16 --subnet 10.3.0.0/16 --ip-range 10.1.1.0/24 --ip-range 10.1.2.0/24",
            "cannot configure multiple ranges (10.1.2.0/24, 10.1.1.0/24) on the same subnet (10.1.0.0/16)",
        ),
    ],
)
def test_what_has_no_subnet_of_its_own_is_refused(sampan: Sampan, flags: str, words: str) -> None:
    assert sampan("network", "create", *flags.split(), "back").stderr == f"sampan: {words}\n"
    assert sampan.ok("network", "ls", "--format", "{{.Name}}") == "bridge\n"
