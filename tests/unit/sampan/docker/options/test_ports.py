import pytest

from sampan.docker.options.ports import parse_exposed, parse_host_ports, parse_port, published
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import PortBinding


@pytest.mark.parametrize(
    ("text", "port"), [("80", (80, "tcp")), ("80/", (80, "tcp")), ("53/UDP", (53, "udp")), ("9/sctp", (9, "sctp"))]
)
def test_a_port_is_tcp_s_unless_it_says_otherwise(text: str, port: tuple[int, str]) -> None:
    assert parse_port(text) == port


@pytest.mark.parametrize("text", ["", "0", "65536", "80-81", "x", "٣", "-1", "80:80", "1_0"])
def test_what_is_no_port_is_refused_as_it_was_written(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        parse_port(text)
    assert str(refused.value) == f'invalid port specification: "{text}"'


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match="invalid proto: tcp/udp"):
        parse_port("80/tcp/udp")


def test_exposed_ranges_become_their_ports() -> None:
    assert parse_exposed(["8000-8001/udp", "80"]) == ["8000/udp", "8001/udp", "80/tcp"]


@pytest.mark.parametrize("text", ["a", "80:80", "9-8", "80/x", "", "0-1"])
def test_what_cannot_be_exposed_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_exposed([text])


@pytest.mark.parametrize(
    ("text", "ports"), [("", (0, 0)), ("0", (0, 0)), ("8080", (8080, 8080)), ("8000-8010", (8000, 8010))]
)
def test_host_ports_are_one_some_or_any(text: str, ports: tuple[int, int]) -> None:
    assert parse_host_ports(text) == ports


@pytest.mark.parametrize("text", ["x", "70000", "20-10", "-1", "80-"])
def test_what_is_no_host_port_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f'invalid port specification: "{text}"'):
        parse_host_ports(text)


def test_only_a_range_has_an_end() -> None:
    assert published(80, "tcp", "::1", (8080, 8080)) == PortBinding(80, "tcp", "::1", 8080)
    assert published(80, "tcp", "", (8000, 8010)) == PortBinding(80, "tcp", "", 8000, 8010)


def test_a_host_name_is_no_address() -> None:
    with pytest.raises(InvalidArgumentError, match="invalid IP address: localhost"):
        published(80, "tcp", "localhost", (0, 0))
