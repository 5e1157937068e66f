from datetime import UTC, datetime

import pytest

from sampan.api.runtime.v1 import containers_pb2, execs_pb2, networks_pb2, spec_pb2
from sampan.client.convert import containers, execs, networks, streams
from sampan.client.convert.events import EVENT
from sampan.client.convert.volumes import VOLUME
from sampan.errors import InvalidArgumentError
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
    ConsoleSize,
    ContainerSpec,
    Device,
    Dns,
    Endpoint,
    HealthCheck,
    ImageManifest,
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
from sampan.resource.event import Event
from sampan.resource.exec import Exec, ExecSpec
from sampan.resource.network import AddressPool, Network, NetworkMember
from sampan.resource.streams import (
    Attached,
    AttachOptions,
    Detached,
    ExecStart,
    Frame,
    LogBatch,
    LogEntry,
    LogQuery,
    Output,
    Stream,
)
from sampan.resource.volume import Volume

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
    owner="cri",
    image_manifest=ImageManifest("application/x", "sha256:cc", 400, "linux", "arm", "v7"),
    volume_driver="depot",
    docker=b"{}",
)  # fmt: skip


def test_a_spec_comes_back_equal_with_every_field_set() -> None:
    message = containers.SPEC.encode(SPEC)
    assert {field.name for field, _ in message.ListFields()} == set(spec_pb2.ContainerSpec.DESCRIPTOR.fields_by_name)
    assert containers.SPEC.decode(message) == SPEC


def test_an_empty_spec_is_all_defaults() -> None:
    assert containers.SPEC.decode(spec_pb2.ContainerSpec()) == ContainerSpec()
    assert containers.SPEC.decode(containers.SPEC.encode(ContainerSpec())) == ContainerSpec()


def test_a_container_comes_back_equal_with_its_state_network_mounts_and_places() -> None:
    probe = Probe(NOW, NOW, 1, "no")
    container = ContainerDetails(
        "a" * 64,
        SPEC,
        NOW,
        ContainerState(Status.PAUSED, 7, 3, "e", True, NOW, NOW, Health(HealthStatus.UNHEALTHY, 3, (probe,))),
        NetworkSettings(
            "s", "/ns", (EndpointState("net", "id", Endpoint("net")),), (PublishedPort(80, "tcp", "::", 81),)
        ),
        (MountPoint(MountType.BIND, "/a", "/b", mode="ro", read_write=False, propagation="rprivate"),),
        2,
        "runc",
        "/sampan/a",
        driver="overlayfs",
        log_path="/data/container.log",
        hostname_path="/data/hostname",
        hosts_path="/data/hosts",
        resolv_conf_path="/data/resolv.conf",
        exec_ids=("e1",),
        size_rw_bytes=0,
        root_path="/run/rootfs",
        graph_data={"UpperDir": "/data/fs"},
        links=("/db:/web/db",),
        link_names=("/api/pg",),
    )
    message = containers.CONTAINER.encode(container)
    assert {field.name for field, _ in message.ListFields()} == set(containers_pb2.Container.DESCRIPTOR.fields_by_name)
    assert message.created.ToDatetime(UTC) == NOW
    assert containers.CONTAINER.decode(message) == container


def test_a_size_that_nobody_asked_for_is_none_and_not_zero() -> None:
    message = containers.CONTAINER.encode(ContainerDetails("a" * 64, ContainerSpec(), NOW))
    assert not message.HasField("size_rw_bytes")
    assert containers.CONTAINER.decode(message).size_rw_bytes is None


def test_an_exec_that_has_not_ended_has_no_exit_code() -> None:
    record = Exec("e" * 64, "c" * 64, ExecSpec(("sh",), tty=True), started=True, pid=9)
    message = execs.exec_to_proto(record)
    assert not message.HasField("exit_code")
    assert message.running
    assert message.spec.container == "c" * 64
    assert execs.exec_from_proto(message) == record
    assert execs.SPEC.decode(execs_pb2.ExecSpec(args=["x"])) == ExecSpec(("x",))


@pytest.mark.parametrize("exit_code", [None, 0, 3])
def test_an_exec_that_did_not_start_or_has_ended_comes_back_equal(exit_code: int | None) -> None:
    record = Exec("e" * 64, "c" * 64, ExecSpec(("sh",)), started=exit_code is not None, exit_code=exit_code)
    assert execs.exec_from_proto(execs.exec_to_proto(record)) == record


def test_log_entries_and_events_keep_their_nanoseconds() -> None:
    batch = LogBatch([LogEntry(Stream.STDERR, 1_795_492_852_786_240_777, b"x\n")], tty=True)
    assert streams.logs_from_proto(streams.logs_to_proto(batch)) == batch
    event = Event("image", "pull", "id", {"name": "x"}, 1_795_492_852_786_240_777)
    assert EVENT.decode(EVENT.encode(event)) == event


@pytest.mark.parametrize(
    "output", [Attached(), Attached(tty=True), Detached(), [Frame(Stream.STDOUT, b"a"), Frame(Stream.STDERR, b"b")]]
)
def test_each_item_of_output_comes_back_equal(output: Output) -> None:
    assert streams.output_from_proto(streams.output_to_proto(output)) == output


def test_what_a_client_attaches_to_and_which_entries_it_wants_comes_back_equal() -> None:
    options = AttachOptions(True, frozenset((Stream.STDERR,)), False, True, "ctrl-x")
    assert streams.attach_from_proto(streams.attach_to_proto("c", options).start) == options
    start = ExecStart(True, ConsoleSize(3, 4))
    assert streams.exec_start_from_proto(streams.exec_start_to_proto("e", start).start) == start
    assert streams.exec_start_from_proto(streams.exec_start_to_proto("e", ExecStart()).start) == ExecStart()
    query = LogQuery(True, False, True, 0, 1_500_000_000, 2_000_000_001)
    assert streams.query_from_proto(streams.query_to_proto("c", query)) == query
    assert streams.query_from_proto(streams.query_to_proto("c", LogQuery())).tail is None


def test_networks_and_volumes_come_back_equal_with_every_field_set() -> None:
    pool = AddressPool("10.0.0.0/24", "10.0.0.1", "10.0.0.128/25", {"router": "10.0.0.2"})
    member = NetworkMember("c", "web", "e", "02:00:00:00:00:01", "10.0.0.3/24", "fd00::3/64")
    network = Network(
        "n",
        "net",
        "bridge",
        NOW,
        True,
        True,
        True,
        True,
        True,
        "configuration",
        (pool,),
        {"a": "b"},
        {"c": "d"},
        (member,),
        "i",
        {"e": "f"},
    )
    message = networks.NETWORK.encode(network)
    assert {field.name for field, _ in message.ListFields()} == set(networks_pb2.Network.DESCRIPTOR.fields_by_name)
    assert networks.NETWORK.decode(message) == network
    volume = Volume("v", NOW, "local", {"a": "b"}, {"c": "d"}, True, ("c1",), "/data/v", 0)
    assert VOLUME.decode(VOLUME.encode(volume)) == volume


def test_a_terminal_that_struct_winsize_does_not_hold_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="70000x1"):
        containers.CONSOLE_SIZE.decode(spec_pb2.ConsoleSize(height=70000, width=1))
