import pytest

from sampan.docker.options.networks import endpoints
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Endpoint


@pytest.mark.parametrize("mode", ["bridge", "host", "none", "container:web"])
def test_of_a_network_that_nothing_is_said_of_there_is_no_endpoint(mode: str) -> None:
    assert endpoints(mode, [Endpoint(mode)]) == endpoints(mode, []) == ()


def test_the_mode_s_network_comes_first_and_is_joined_even_if_not_named() -> None:
    assert endpoints("a", [Endpoint("b"), Endpoint("a", ("db",))]) == (Endpoint("a", ("db",)), Endpoint("b"))
    assert endpoints("a", [Endpoint("b")]) == (Endpoint("a"), Endpoint("b"))


def test_the_default_network_has_one_name() -> None:
    assert endpoints("bridge", [Endpoint("default", ipv4_address="10.0.0.2")]) == (
        Endpoint("bridge", ipv4_address="10.0.0.2"),
    )
    assert endpoints("bridge", [Endpoint("default"), Endpoint("a")]) == (Endpoint("bridge"), Endpoint("a"))


@pytest.mark.parametrize(
    ("mode", "given", "words"),
    [
        ("a", [Endpoint("a"), Endpoint("a")], 'network "a" is specified multiple times'),
        ("bridge", [Endpoint(""), Endpoint("bridge")], 'network "bridge" is specified multiple times'),
        ("host", [Endpoint("a")], "cannot attach both user-defined and non-user-defined network-modes"),
        ("a", [Endpoint("none")], "cannot attach both user-defined and non-user-defined network-modes"),
        ("container:web", [Endpoint("a")], "cannot attach both user-defined and non-user-defined network-modes"),
        ("bridge", [Endpoint("bridge", ("x",))], "network-scoped aliases are only supported for user-defined networks"),
        ("host", [Endpoint("host", ("x",))], "network-scoped aliases are only supported for user-defined networks"),
    ],
)
def test_networks_that_cannot_be_together_are_refused(mode: str, given: list[Endpoint], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        endpoints(mode, given)


@pytest.mark.parametrize("mode", ["host", "none", "container:web"])
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"mac_address": "02:00:00:00:00:07"}, "conflicting options: mac-address and the network mode"),
        ({"links": ("db:db",)}, "conflicting options: .*links"),
        ({"link_local_ips": ("169.254.8.8",)}, "conflicting options: link-local-ip and the network mode"),
        ({"gw_priority": 1}, "conflicting options: gw-priority and the network mode"),
        ({"driver_options": {"x": "y"}}, "conflicting options: driver-opt and the network mode"),
        ({"ipv4_address": "10.0.0.2"}, "user specified IP address is supported on user defined networks only"),
        ({"ipv6_address": "fd00::2"}, "user specified IP address is supported on user defined networks only"),
    ],
)
def test_mode_without_an_interface_takes_nothing_that_is_said_of_one(
    mode: str, said: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        endpoints(mode, [Endpoint(mode, **said)])  # type: ignore[arg-type]
