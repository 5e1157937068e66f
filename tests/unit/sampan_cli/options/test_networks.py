import pytest

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Endpoint
from sampan_cli.options.networks import NetworkFlags, parse_networks


def test_without_a_flag_it_is_the_bridge() -> None:
    assert parse_networks(NetworkFlags(())) == ("bridge", ())


@pytest.mark.parametrize("name", ["host", "none", "container:web"])
def test_shared_or_missing_network_has_no_endpoint(name: str) -> None:
    assert parse_networks(NetworkFlags((name,))) == (name, ())


def test_flags_are_about_the_first_network() -> None:
    flags = NetworkFlags(("a", "name=b,alias=x,ip=10.0.0.9"), aliases=("db",), ipv4="10.1.0.2", links=("w:w",))
    mode, endpoints = parse_networks(flags)
    assert mode == "a"
    assert endpoints == (
        Endpoint(network="a", aliases=("db",), ipv4_address="10.1.0.2", links=("w:w",)),
        Endpoint(network="b", aliases=("x",), ipv4_address="10.0.0.9"),
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (NetworkFlags(("name=a,ip=10.0.0.2",), ipv4="10.0.0.3"), "per-network IPv4 address"),
        (NetworkFlags(("name=a,what=1",)), "invalid field key what"),
        (NetworkFlags(("alias=x",)), "network name is missing"),
        (
            NetworkFlags(('"name=a',)),
            r'invalid argument "\\"name=a" for "--network" flag: '
            'parse error on line 1, column 8: extraneous or missing " in quoted-field',
        ),
    ],
)
def test_bad_networks_are_refused(flags: NetworkFlags, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        parse_networks(flags)
