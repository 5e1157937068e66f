"""``sampan inspect`` says of a container what ``docker inspect`` says, and a little more."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sampan.docker.views.container_view import inspect_json
from sampan.resource.container import (
    ContainerDetails,
    ContainerState,
    EndpointState,
    Health,
    HealthStatus,
    MountPoint,
    NetworkSettings,
    Probe,
    PublishedPort,
    Status,
)
from sampan.resource.container_spec import (
    ContainerSpec,
    Endpoint,
    HealthCheck,
    LogConfig,
    Mount,
    MountType,
    Namespaces,
    PortBinding,
    Process,
)
from sampan_cli.shape.go import shape_container
from sampan_cli.template.functions import plain
from sampan_cli.template.template import Template

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
OWN = {"RootPath", "CgroupPath"}


def container(status: Status = Status.EXITED, spec: ContainerSpec | None = None, **fields: Any) -> ContainerDetails:
    endpoint = EndpointState("bridge", "n" * 64, Endpoint("bridge"), "e" * 64, "172.17.0.2", 16, "172.17.0.1")
    ports = (PublishedPort(80, "tcp", "0.0.0.0", 8080), PublishedPort(443, "tcp"))
    network = NetworkSettings("s", "/run/netns", (endpoint,), ports)
    return ContainerDetails(
        "c" * 64, spec or ContainerSpec("web"), NOW, ContainerState(status, finished_at=NOW), network, **fields
    )


FULL = ContainerSpec(
    "web",
    "busybox",
    "sha256:" + "a" * 64,
    process=Process(("sh",), ("-c", "true"), ("A=1",)),
    labels={"tier": "web"},
    stop_signal="INT",
    stop_timeout_s=3,
    exposed_ports=("80/tcp",),
    mounts=(Mount(MountType.BIND, "/b", "/a", read_only=True),),
    anonymous_volumes=("/data",),
    ports=(PortBinding(80, host_port=8080),),
    log=LogConfig("local", {"max-size": "1m"}),
    health_check=HealthCheck(("CMD", "true"), 1.5, retries=3),
)


@pytest.mark.parametrize("status", [Status.RUNNING, Status.EXITED])
@pytest.mark.parametrize("spec", [ContainerSpec("plain"), FULL])
def test_every_field_is_the_one_that_docker_shows(status: Status, spec: ContainerSpec) -> None:
    health = Health(HealthStatus.HEALTHY, 0, (Probe(NOW, NOW, 0, "fine"),))
    shown = container(status, spec, mounts=(MountPoint(MountType.BIND, "/a", "/b"),), size_rw_bytes=7)
    shown = replace(shown, state=replace(shown.state, health=health))
    ours = json.loads(json.dumps(plain(shape_container(shown))))
    dockers = json.loads(json.dumps(inspect_json(shown)))
    assert {key: value for key, value in ours.items() if key not in OWN} == dockers
    assert set(ours) - set(dockers) == OWN


def test_a_stopped_container_has_neither_addresses_nor_ports() -> None:
    address = Template("{{.NetworkSettings.IPAddress}} {{.NetworkSettings.Ports}}")
    assert address.render(shape_container(container(Status.EXITED))) == " map[]"
    running = address.render(shape_container(container(Status.RUNNING)))
    assert running == "172.17.0.2 map[443/tcp:[] 80/tcp:[map[HostIp:0.0.0.0 HostPort:8080]]]"


@pytest.mark.parametrize(("network", "hostname"), [("host", ""), ("bridge", "c" * 12)])
def test_with_the_hosts_network_there_is_no_host_name_of_its_own(network: str, hostname: str) -> None:
    shown = shape_container(container(spec=ContainerSpec("web", namespaces=Namespaces(network))))
    assert Template("{{.Config.Hostname}}").render(shown) == hostname


def test_a_health_check_shows_what_is_set_and_is_left_out_if_there_is_none() -> None:
    template = Template("{{json .Config.Healthcheck}}")
    assert template.render(shape_container(container(spec=FULL))) == (
        '{"Test":["CMD","true"],"Interval":1500000000,"Retries":3}'
    )
    assert Template("{{.Config.Healthcheck}}").render(shape_container(container())) == "<nil>"


def test_a_label_that_is_not_there_is_nothing_and_a_field_that_is_not_there_an_error() -> None:
    shown = shape_container(container(spec=FULL))
    assert Template("{{.Config.Labels.tier}}").render(shown) == "web"
    assert Template("{{.Config.Labels.nosuch}}").render(shown) == "<no value>"
    with pytest.raises(Exception, match="nosuch"):
        Template("{{.Config.nosuch}}").render(shown)


@pytest.mark.parametrize(
    ("field", "shown"), [("Init", "<nil>"), ("Mounts", "[]"), ("Sysctls", "map[]"), ("Tmpfs", "map[]"),
                         ("StorageOpt", "map[]"), ("Annotations", "map[]")],
)  # fmt: skip
def test_what_docker_leaves_out_of_the_host_s_part_can_be_asked_for(field: str, shown: str) -> None:
    template = Template("{{.HostConfig." + field + "}}")
    assert template.render(shape_container(container())) == shown
    assert field not in json.loads(json.dumps(plain(shape_container(container()))))["HostConfig"]
