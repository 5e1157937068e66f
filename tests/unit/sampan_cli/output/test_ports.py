from sampan.resource.container import PublishedPort
from sampan_cli.commands.container.inspect import host_address, shown_ports


def port(container: int, host: int = 0, ip: str = "", protocol: str = "tcp") -> PublishedPort:
    return PublishedPort(container_port=container, protocol=protocol, host_ip=ip, host_port=host)


def test_published_port_shows_both_sides() -> None:
    assert shown_ports([port(80, 8080, "127.0.0.1")]) == "127.0.0.1:8080->80/tcp"


def test_neighbours_that_are_the_same_on_both_sides_are_one_range() -> None:
    ports = [port(81, 81, "0.0.0.0"), port(80, 80, "0.0.0.0"), port(83, 83, "0.0.0.0"), port(81, 81, "127.0.0.1")]
    assert shown_ports(ports) == "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:83->83/tcp, 127.0.0.1:81->81/tcp"


def test_neighbours_published_elsewhere_are_listed_one_by_one() -> None:
    assert shown_ports([port(81, 8081), port(80, 8080)]) == "0.0.0.0:8080->80/tcp, 0.0.0.0:8081->81/tcp"


def test_exposed_ports_come_first_and_have_no_host() -> None:
    ports = [port(53, protocol="udp"), port(80, 8080), port(54, protocol="udp")]
    assert shown_ports(ports) == "53-54/udp, 0.0.0.0:8080->80/tcp"


def test_ipv6_addresses_are_in_brackets() -> None:
    assert host_address("::") == "[::]"
    assert host_address("") == "0.0.0.0"
