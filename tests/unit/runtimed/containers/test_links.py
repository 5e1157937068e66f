"""What a legacy link puts into a container's environment."""

from datetime import UTC, datetime

import pytest

from runtimed.containers.links import (
    has_link,
    link_names,
    link_variables,
    present_variables,
    shown_links,
    with_ids,
    without_link,
)
from sampan.errors import ConflictError, NotFoundError
from sampan.resource.container import Container, ContainerState, EndpointState, NetworkSettings, Status
from sampan.resource.container_spec import ContainerSpec, Endpoint, Namespaces, Process

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def database(*exposed: str, env: tuple[str, ...] = (), status: Status = Status.RUNNING) -> Container:
    spec = ContainerSpec(name="db", exposed_ports=exposed, process=Process(env=env))
    state = EndpointState("bridge", "n", ipv4_address="172.17.0.5", requested=Endpoint("bridge"))
    return Container("d" * 64, spec, NOW, ContainerState(status), NetworkSettings(endpoints=(state,)))


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


def linked(*links: str) -> Container:
    return Container("c" * 64, ContainerSpec(name="web", endpoints=(Endpoint("bridge", links=links),)), NOW)


def known(name: str) -> Container:
    if name not in ("db", "d" * 64):
        raise NotFoundError(f"No such container: {name}")
    return database()


def test_links_are_kept_by_id_and_shown_by_name() -> None:
    asked = linked("/db:pg", "db")
    kept = Container(asked.id, with_ids(asked.spec, known), NOW)
    assert kept.spec.endpoints[0].links == (f"{'d' * 64}:pg", f"{'d' * 64}:db")
    assert shown_links(kept, known) == ("/db:/web/pg", "/db:/web/db")
    with pytest.raises(NotFoundError):
        with_ids(linked("nosuch:x").spec, known)
    assert shown_links(linked("gone:x"), known) == ()


def test_a_link_is_taken_by_its_alias_and_no_other() -> None:
    spec = with_ids(linked("/db:pg", "db").spec, known)
    assert without_link(spec.endpoints[0], "pg").links == (f"{'d' * 64}:db",)
    assert has_link(spec, "pg")
    for alias in ("d" * 64, "cache", ""):
        assert not has_link(spec, alias)
        assert without_link(spec.endpoints[0], alias) == spec.endpoints[0]


def test_whom_it_is_linked_to_has_to_run_when_it_starts_and_not_for_an_exec() -> None:
    ended = database(status=Status.EXITED)
    with pytest.raises(ConflictError, match="Cannot link to a non running container: /db AS /web/pg"):
        link_variables(linked("db:pg"), lambda _: ended)
    assert present_variables(linked("db:pg"), lambda _: ended) == ()
    assert present_variables(linked("gone:pg"), known) == ()
    assert present_variables(linked("db:pg"), known) == ("PG_NAME=/web/pg",)


def test_whom_links_lead_to_has_a_name_for_each_of_them() -> None:
    other = database()

    def linked(name: str, *links: str, network: str = "bridge") -> Container:
        spec = ContainerSpec(name=name, namespaces=Namespaces(network), endpoints=(Endpoint(network, links=links),))
        return Container(name * 8, spec, NOW)

    containers = [other, linked("web", f"{other.id}:pg", f"{other.id}:db"), linked("api", f"{other.id}:pg")]
    assert link_names(containers) == {other.id: ("/api/pg", "/web/db", "/web/pg")}
    assert link_names([linked("web", "db:pg", network="own")]) == {}  # there they are names in DNS and no more
