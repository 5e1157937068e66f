import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from runtimed.containers.filters import select
from runtimed.containers.memory_store import Entry, MemoryStore
from runtimed.containers.store import ContainerStore, Intent
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.resource.container import (
    Container,
    ContainerState,
    EndpointState,
    Health,
    HealthStatus,
    MountPoint,
    NetworkSettings,
    PublishedPort,
    Status,
)
from sampan.resource.container_spec import ContainerSpec, Endpoint, MountType, PortBinding
from sampan.resource.listing import Filters, Selection
from sampan.service.set_aside import SetAside

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def make(number: int, name: str, status: Status, **fields: object) -> Container:
    spec = ContainerSpec(
        name=name,
        image="busybox",
        image_id="sha256:" + "ab" * 32,
        labels={"number": str(number), "team": "a"} if number % 2 else {},
        exposed_ports=("80/tcp",) if number == 1 else (),
        ports=(PortBinding(53, "udp"),) if number == 2 else (),
    )
    container = Container(f"{number:x}" * 64, spec, BEGIN + timedelta(days=number), ContainerState(status))
    return replace(container, **fields)  # type: ignore[arg-type]


CONTAINERS = (
    make(1, "web", Status.RUNNING, mounts=(MountPoint(MountType.VOLUME, "/v", "/data", name="vol"),)),
    make(2, "db", Status.PAUSED, network=NetworkSettings(endpoints=(EndpointState("back", "f00", Endpoint("back")),))),
    make(3, "web-old", Status.EXITED, state=ContainerState(Status.EXITED, exit_code=137)),
    make(4, "fresh", Status.CREATED, network=NetworkSettings(ports=(PublishedPort(443, "tcp", "0.0.0.0", 8444),))),
    make(5, "again", Status.RESTARTING),
    make(
        6,
        "well",
        Status.RUNNING,
        state=ContainerState(Status.RUNNING, health=Health(HealthStatus.HEALTHY)),
        network=NetworkSettings(ports=(PublishedPort(443, "tcp", "0.0.0.0", 8443),)),
    ),
)


class Known(MemoryStore):
    """Knows ``CONTAINERS`` and has no store."""

    def __init__(self, containers: Iterable[Container]) -> None:
        super().__init__(cast("ContainerStore", None), random.Random(0), SetAside())
        for container in containers:
            self._by_id[container.id] = Entry(container, Intent.SETTLED)
            self._ids_by_name["", container.name] = container.id


def names(filters: Filters, **selection: object) -> list[str]:
    chosen = Selection(**({"all": True} | selection))  # type: ignore[arg-type]
    return [c.name for c in select(CONTAINERS, chosen, filters, Known(CONTAINERS))]


def test_without_all_only_those_that_are_up_are_listed_newest_first() -> None:
    assert names({}, all=False) == ["well", "again", "db", "web"]
    assert names({}) == ["well", "again", "fresh", "web-old", "db", "web"]


def test_a_limit_and_the_latest_count_those_that_do_not_run() -> None:
    assert names({}, all=False, limit=3) == ["well", "again", "fresh"]
    assert names({}, all=False, latest=True) == ["well"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"id": ("11",)}, ["web"]),
        ({"name": ("web",)}, ["web-old", "web"]),
        ({"name": ("^/web$",)}, ["web"]),
        ({"name": ("^web$", "^db$")}, ["db", "web"]),
        ({"label": ("team",)}, ["again", "web-old", "web"]),
        ({"label": ("team=a", "number=3")}, ["web-old"]),
        ({"status": ("exited", "created")}, ["fresh", "web-old"]),
        ({"exited": ("137",)}, ["web-old"]),
        ({"exited": ("0",)}, []),
        ({"ancestor": ("busybox:latest",), "name": ("^db$",)}, ["db"]),
        ({"ancestor": ("abababab",), "name": ("^db$",)}, ["db"]),
        ({"ancestor": ("alpine",)}, []),
        ({"before": ("db",)}, ["web"]),
        ({"since": ("again",)}, ["well"]),
        ({"volume": ("vol",)}, ["web"]),
        ({"volume": ("/data",)}, ["web"]),
        ({"network": ("back",)}, ["db"]),
        ({"network": ("f00",)}, ["db"]),
        ({"publish": ("8443",)}, ["well"]),
        ({"publish": ("8444",)}, []),  # it does not run: nothing is published
        ({"publish": ("443",)}, []),
        ({"expose": ("50-60/udp",)}, ["db"]),
        ({"expose": ("80",)}, ["web"]),
        ({"health": ("healthy",)}, ["well"]),
        ({"health": ("none",), "status": ("running",)}, ["web"]),
        ({"is-task": ("true",)}, []),
        ({"is-task": ("false",), "name": ("^db$",)}, ["db"]),
        ({"until": ("2026-01-03T00:00:00Z",)}, ["web"]),
        ({"name": ("web",), "status": ("running",)}, ["web"]),
        ({"name": ()}, ["well", "again", "fresh", "web-old", "db", "web"]),
    ],
)
def test_filters_choose(filters: Filters, expected: list[str]) -> None:
    assert names(filters) == expected


@pytest.mark.parametrize(
    "filters",
    [
        {"colour": ("red",)},
        {"status": ("asleep",)},
        {"exited": ("often",)},
        {"health": ("fine",)},
        {"publish": ("99999",)},
        {"name": ("(",)},
        {"until": ("tomorrow",)},
    ],
)
def test_what_is_no_filter_is_refused(filters: Filters) -> None:
    with pytest.raises(InvalidArgumentError, match=r"invalid|failed to parse"):
        names(filters)


def test_before_an_unknown_container_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="No such container: nobody"):
        names({"before": ("nobody",)})


def test_a_status_filter_looks_at_all_though_only_running_ones_were_asked_for() -> None:
    assert names({"status": ("exited",)}, all=False) == ["web-old"]
