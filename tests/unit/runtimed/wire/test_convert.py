from datetime import UTC, datetime
from pathlib import Path

from runtimed.containers.paths import Paths
from runtimed.events import Event
from runtimed.logs.k8s_format import LogEntry
from runtimed.wire import convert
from sampan.api.runtime.v1 import containers_pb2, execs_pb2, spec_pb2
from sampan.resource.container import (
    Container,
    ContainerState,
    EndpointState,
    Health,
    HealthStatus,
    MountPoint,
    NetworkSettings,
    Probe,
    PublishedPort,
    Status,
    Stream,
)
from sampan.resource.container_spec import (
    ConsoleSize,
    ContainerSpec,
    Device,
    Dns,
    Endpoint,
    HealthCheck,
    LogConfig,
    Mount,
    MountType,
    Namespaces,
    PortBinding,
    Process,
    Resources,
    RestartPolicy,
    Security,
    Ulimit,
)
from sampan.resource.exec import Exec, ExecSpec

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

# Every field has a value that is not its default, so that one forgotten on either way is found.
SPEC = ContainerSpec(
    name="web",
    image="busybox:1",
    image_id="sha256:aa",
    chain_id="sha256:bb",
    process=Process(
        ("/init",), ("a", "b"), ("A=1",), "/work", "me:us",
        True, True, True, True, True, True, ("wheel",), ConsoleSize(3, 4)
    ),
    labels={"k": "v"},
    hostname="h",
    domainname="d",
    stop_signal="INT",
    stop_timeout_s=2.5,
    exposed_ports=("80/tcp",),
    mounts=(
        Mount(
            MountType.VOLUME, "/t", "vol", True, "rslave", True, True, 5, 0o700, ("noexec",), True, "local",
            {"a": "b"}, {"c": "d"}, "ro",
        ),
    ),
    anonymous_volumes=("/data",),
    resources=Resources(
        1, 2, 3, 4, 5, 6, 7, "0-1", "0", -1, 8, True, -5, (Ulimit("nofile", 1, 2),), (Device("/a", "/b", "rwm"),),
        ("c 1:3 r",), 9, "/parent", 60,
    ),
    security=Security(True, ("NET_ADMIN",), ("ALL",), True, ("no-new-privileges",), ("/m",), ("/r",), True),
    namespaces=Namespaces("host", "host", "none", "host", "host", "host"),
    endpoints=(Endpoint("net", ("al",), "10.0.0.2", "fd00::2", "02:00:00:00:00:01", ("db:x",), {"o": "p"}),),
    ports=(PortBinding(80, "udp", "127.0.0.1", 8080, 8090),),
    publish_all_ports=True,
    dns=Dns(("1.1.1.1",), ("example",), ("ndots:1",)),
    extra_hosts=("a:1.2.3.4",),
    sysctls={"net.x": "1"},
    restart_policy=RestartPolicy("on-failure", 3),
    auto_remove=True,
    log=LogConfig("local", {"max-size": "1m"}),
    init=True,
    runtime="runc",
    health_check=HealthCheck(("CMD", "true"), 1.5, 2.0, 3.0, 0.25, 4),
    annotations={"x": "y"},
    platform="linux",
    docker=b"{}",
)  # fmt: skip


def test_a_spec_comes_back_equal_with_every_field_set() -> None:
    message = convert.spec_to_proto(SPEC)
    assert {field.name for field, _ in message.ListFields()} == set(spec_pb2.ContainerSpec.DESCRIPTOR.fields_by_name)
    assert convert.spec_from_proto(message) == SPEC


def test_an_empty_spec_is_all_defaults() -> None:
    assert convert.spec_from_proto(spec_pb2.ContainerSpec()) == ContainerSpec()
    assert convert.spec_from_proto(convert.spec_to_proto(ContainerSpec())) == ContainerSpec()


def test_a_container_carries_its_state_network_mounts_and_places() -> None:
    probe = Probe(NOW, NOW, 1, "no")
    container = Container(
        "a" * 64,
        SPEC,
        NOW,
        ContainerState(Status.PAUSED, 7, 0, "e", True, NOW, NOW, Health(HealthStatus.UNHEALTHY, 3, (probe,))),
        NetworkSettings(
            "s", "/ns", (EndpointState("net", "id", Endpoint("net")),), (PublishedPort(80, "tcp", "::", 81),)
        ),
        (MountPoint(MountType.BIND, "/a", "/b", mode="ro", read_write=False, propagation="rprivate"),),
        2,
        "runc",
        "/sampan/a",
    )
    paths = Paths(Path("/data"), Path("/run")).container(container.id)
    message = convert.container_to_proto(container, paths, ("e1",), 5)
    assert {field.name for field, _ in message.ListFields()} == set(containers_pb2.Container.DESCRIPTOR.fields_by_name)
    assert message.created.ToDatetime(UTC) == NOW
    assert message.state.status == containers_pb2.ContainerState.PAUSED
    assert message.state.health.log[0].exit_code == 1
    assert message.network.endpoints[0].requested.network == "net"
    assert message.mounts[0].type == spec_pb2.Mount.BIND
    assert message.log_path == f"/data/containers/{container.id}/container.log"


def test_an_exec_that_has_not_ended_has_no_exit_code() -> None:
    record = Exec("e" * 64, "c" * 64, ExecSpec(("sh",), tty=True), started=True, pid=9)
    message = convert.exec_to_proto(record)
    assert not message.HasField("exit_code")
    assert message.running
    assert message.spec.container == "c" * 64
    assert convert.exec_spec_from_proto(message.spec) == record.spec
    assert convert.exec_spec_from_proto(execs_pb2.ExecSpec(args=["x"])) == ExecSpec(("x",))


def test_log_entries_and_events_keep_their_nanoseconds() -> None:
    entry = convert.log_to_proto([LogEntry(Stream.STDERR, 1_795_492_852_786_240_777, b"x\n")]).entries[0]
    assert (entry.stream, entry.line) == (containers_pb2.Frame.STDERR, b"x\n")
    assert convert.time_ns(entry.time) == 1_795_492_852_786_240_777
    event = Event("image", "pull", "id", {"name": "x"}, 1_795_492_852_786_240_777)
    assert convert.event_from_proto(convert.event_to_proto(event)) == event
