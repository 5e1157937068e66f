import contextlib
import socket
from collections.abc import Iterator

import pytest

from runtimed.network.publish.ports import PortTable, Reach, exposed_only, requests
from sampan.errors import InvalidArgumentError, StartError
from sampan.resource.container import PublishedPort
from sampan.resource.container_spec import ContainerSpec, PortBinding

LOOPBACK = "127.0.0.1"


@pytest.fixture
def table() -> Iterator[PortTable]:
    made = PortTable()
    yield made
    made.close()


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def binding(host_port: int = 0, end: int = 0, host_ip: str = LOOPBACK, protocol: str = "tcp") -> PortBinding:
    return PortBinding(80, protocol, host_ip, host_port, end)


def test_all_exposed_ports_are_published_if_asked_once_each() -> None:
    spec = ContainerSpec(
        exposed_ports=("80/tcp", "53/udp"), publish_all_ports=True, ports=(PortBinding(80, host_port=8080),)
    )
    assert requests(spec) == (PortBinding(80, "tcp", "", 8080), PortBinding(53, "udp"))


def test_network_may_say_where_ports_are_published() -> None:
    (wanted,) = requests(ContainerSpec(ports=(PortBinding(80),)), "192.0.2.1")
    assert wanted.host_ip == "192.0.2.1"


def test_exposed_ports_that_are_not_published_are_shown_in_order() -> None:
    spec = ContainerSpec(exposed_ports=("9/udp", "80/tcp", "7"))
    assert exposed_only(spec, (PublishedPort(80, "tcp", LOOPBACK, 1),)) == (
        PublishedPort(7, "tcp"),
        PublishedPort(9, "udp"),
    )


@pytest.mark.parametrize(
    "bad",
    [
        PortBinding(0),
        PortBinding(80, "icmp"),
        PortBinding(80, host_port=70000),
        PortBinding(80, host_port=9, host_port_end=8),
        PortBinding(80, host_ip="::g"),
    ],
)
def test_binding_that_makes_no_sense_is_refused(bad: PortBinding) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid"):
        requests(ContainerSpec(ports=(bad,)))


def test_reserved_port_cannot_be_bound_by_anybody_else(table: PortTable) -> None:
    port = free_port()
    table.reserve("a", [binding(port)], "a (1)")
    with pytest.raises(OSError, match="in use"):
        socket.create_server((LOOPBACK, port))
    table.release("a")
    socket.create_server((LOOPBACK, port)).close()


@pytest.mark.parametrize("second", [LOOPBACK, "0.0.0.0"])
def test_port_is_given_out_once_whatever_the_address(table: PortTable, second: str) -> None:
    port = free_port()
    table.reserve("a", [binding(port)], "a (1)")
    with pytest.raises(StartError, match=rf"Bind for {second}:{port} failed: port is already allocated"):
        table.reserve("b", [binding(port, host_ip=second)], "b (2)")


def test_same_port_of_another_protocol_is_another_port(table: PortTable) -> None:
    port = free_port()
    table.reserve("a", [binding(port)], "a (1)")
    assert table.reserve("b", [binding(port, protocol="udp")], "b (2)")[0].host_port == port


def test_one_port_that_is_taken_gives_the_others_back(table: PortTable) -> None:
    first, second = free_port(), free_port()
    with socket.create_server((LOOPBACK, second)), pytest.raises(StartError, match="address already in use"):
        table.reserve("a", [binding(first), binding(second)], "a (1)")
    socket.create_server((LOOPBACK, first)).close()


def test_first_free_port_of_a_range_is_taken(table: PortTable) -> None:
    port = free_port()
    with socket.create_server((LOOPBACK, port)):
        assert port < table.reserve("a", [binding(port, port + 20)], "a (1)")[0].host_port <= port + 20


def test_range_without_a_free_port_is_refused(table: PortTable) -> None:
    port = free_port()
    two = [binding(port, port + 1)]
    for _ in range(2):
        with contextlib.suppress(StartError):  # the second one may belong to somebody else
            table.reserve("a", two, "a (1)")
    with pytest.raises(StartError, match=r"^driver failed .* on endpoint b \(2\): all ports are allocated$"):
        table.reserve("b", two, "b (2)")


def test_any_free_port_moves_on_from_the_last(table: PortTable) -> None:
    (first,) = table.reserve("a", [binding()], "a (1)")
    table.release("a")
    (second,) = table.reserve("a", [binding()], "a (1)")
    assert first.host_port != second.host_port


def test_address_that_is_not_ours_is_refused(table: PortTable) -> None:
    with pytest.raises(StartError, match=r"listen tcp4 203.0.113.9:80: bind: cannot assign requested address"):
        table.reserve("a", [binding(80, host_ip="203.0.113.9")], "a (1)")


def test_after_a_restart_ports_are_taken_again_and_losses_told(table: PortTable) -> None:
    kept, lost = PublishedPort(80, "tcp", LOOPBACK, free_port()), PublishedPort(81, "tcp", LOOPBACK, free_port())
    with socket.create_server((LOOPBACK, lost.host_port)):
        assert table.reacquire("a", [kept, lost, PublishedPort(82, "tcp")]) == (lost,)
    with pytest.raises(StartError, match="already allocated"):
        table.reserve("b", [binding(lost.host_port)], "b (2)")


def test_port_without_an_address_is_the_same_one_of_both_families(table: PortTable) -> None:
    taken = table.reserve("a", [binding(host_ip="")], "a (1)", Reach(v4=True, v6=True))
    assert [port.host_ip for port in taken] == ["0.0.0.0", "::"]
    assert len({port.host_port for port in taken}) == 1
    with pytest.raises(StartError, match=r"Bind for \[::1\]:\d+ failed: port is already allocated"):
        table.reserve("b", [binding(taken[0].host_port, host_ip="::1")], "b (2)", Reach(v6=True))


def test_port_that_is_taken_in_one_family_is_given_back_in_the_other(table: PortTable) -> None:
    port = free_port()
    with socket.create_server(("::1", port), family=socket.AF_INET6):
        with pytest.raises(StartError, match=rf"listen tcp6 \[::\]:{port}: bind: address already in use"):
            table.reserve("a", [binding(port, host_ip="")], "a (1)", Reach(v6=True))
        assert table.reserve("a", [binding(port, host_ip="0.0.0.0")], "a (1)")[0].host_port == port


@pytest.mark.parametrize(("host_ip", "reach"), [("127.0.0.1", Reach(v4=False, v6=True)), ("::1", Reach())])
def test_address_that_cannot_lead_to_the_container_is_refused(table: PortTable, host_ip: str, reach: Reach) -> None:
    with pytest.raises(StartError, match="the container is not reached by IPv"):
        table.reserve("a", [binding(80, host_ip=host_ip)], "a (1)", reach)


def test_port_of_a_routed_network_takes_nothing_of_the_hosts(table: PortTable) -> None:
    (port,) = table.reserve("a", [binding(host_ip="")], "a (1)", Reach(direct=frozenset({4})))
    assert (port.host_ip, port.host_port, table.held(port)) == ("0.0.0.0", 0, None)
