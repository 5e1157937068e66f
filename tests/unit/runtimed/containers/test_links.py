"""What a legacy link puts into a container's environment."""

from datetime import UTC, datetime

from runtimed.containers.links import link_variables
from sampan.resource.container import Container, EndpointState, NetworkSettings
from sampan.resource.container_spec import ContainerSpec, Endpoint, Namespaces, Process

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def database(*exposed: str, env: tuple[str, ...] = ()) -> Container:
    spec = ContainerSpec(name="db", exposed_ports=exposed, process=Process(env=env))
    state = EndpointState("bridge", "n", ipv4_address="172.17.0.5", requested=Endpoint("bridge"))
    return Container("d" * 64, spec, NOW, network=NetworkSettings(endpoints=(state,)))


def variables(other: Container, *, link: str = "db:my-db", network: str = "bridge") -> list[str]:
    spec = ContainerSpec(name="web", namespaces=Namespaces(network), endpoints=(Endpoint(network, links=(link,)),))
    return list(link_variables(Container("c" * 64, spec, NOW), lambda name: {"db": other}[name]))


def test_a_port_has_an_address_a_number_and_a_protocol() -> None:
    assert variables(database("5432/tcp")) == [
        "MY_DB_PORT=tcp://172.17.0.5:5432",
        "MY_DB_PORT_5432_TCP=tcp://172.17.0.5:5432",
        "MY_DB_PORT_5432_TCP_ADDR=172.17.0.5",
        "MY_DB_PORT_5432_TCP_PORT=5432",
        "MY_DB_PORT_5432_TCP_PROTO=tcp",
        "MY_DB_NAME=/web/my-db",
    ]


def test_ports_that_follow_on_one_another_are_a_range_too() -> None:
    found = variables(database("81/tcp", "80/tcp", "90/udp"))
    assert "MY_DB_PORT=tcp://172.17.0.5:80" in found
    assert "MY_DB_PORT_80_TCP_START=tcp://172.17.0.5:80" in found
    assert "MY_DB_PORT_80_TCP_END=tcp://172.17.0.5:81" in found
    assert "MY_DB_PORT_80_TCP_PORT_END=81" in found
    assert "MY_DB_PORT_90_UDP_PROTO=udp" in found


def test_variables_of_the_other_one_come_too_but_for_its_own() -> None:
    found = variables(database(env=("SECRET=a=b", "PATH=/bin", "HOME=/x", "UNSET")), link="/db")
    assert found == ["DB_NAME=/web/db", "DB_ENV_SECRET=a=b"]


def test_links_on_other_networks_set_nothing() -> None:
    assert variables(database("80/tcp"), network="mine") == []
