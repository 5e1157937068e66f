"""From the body of a create to the spec, and back into an inspect."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dockerapi.container.create_body import parse, read, volumes_from
from sampan.docker.views.container_view import inspect_json, summary_json
from sampan.errors import InvalidArgumentError
from sampan.resource.container import (
    ContainerDetails,
    ContainerState,
    EndpointState,
    NetworkSettings,
    PublishedPort,
    Status,
)
from sampan.resource.container_spec import (
    ContainerSpec,
    DeviceLimit,
    Endpoint,
    Mount,
    MountType,
    PortBinding,
    RestartPolicy,
)


def spec_of(host: dict[str, Any] | None = None, *, version: tuple[int, int] = (1, 50), **config: Any) -> Any:
    body = {"Image": "busybox"} | config | ({"HostConfig": host} if host is not None else {})
    return parse(body, "web", version)


def shown(spec: ContainerSpec | None = None, **fields: Any) -> ContainerDetails:
    return ContainerDetails("c" * 64, spec or ContainerSpec(), datetime.fromtimestamp(0, UTC), **fields)


def inspected(spec: ContainerSpec, version: tuple[int, int] = (1, 50)) -> dict[str, Any]:
    return inspect_json(shown(spec), version)


def test_process_fields_arrive() -> None:
    spec = spec_of(
        Cmd=["a", "b"],
        Entrypoint=["sh", "-c"],
        Env=["A=1"],
        WorkingDir="/w",
        User="1:2",
        Tty=True,
        OpenStdin=True,
        StdinOnce=True,
        AttachStdout=True,
        StopSignal="SIGQUIT",
        StopTimeout=3,
        Labels={"k": "v"},
        Hostname="h",
    )
    process = spec.process
    assert (list(process.entrypoint), list(process.cmd)) == (["sh", "-c"], ["a", "b"])
    assert (process.working_dir, process.user, list(process.env)) == ("/w", "1:2", ["A=1"])
    assert (process.tty, process.open_stdin, process.stdin_once, process.attach_stdout) == (True, True, True, True)
    assert (spec.name, spec.hostname, spec.stop_signal, spec.stop_timeout_s) == ("web", "h", "SIGQUIT", 3)


def test_a_command_may_be_a_string() -> None:
    assert list(spec_of(Cmd="true").process.cmd) == ["true"]


def test_an_empty_entrypoint_keeps_its_one_empty_word() -> None:
    assert list(spec_of(Entrypoint=[""]).process.entrypoint) == [""]


def test_null_is_absent() -> None:
    spec = spec_of({"Binds": None, "PortBindings": None, "Memory": None}, Cmd=None, Env=None, Labels=None, Volumes=None)
    assert (list(spec.process.cmd), list(spec.mounts), spec.resources.memory_bytes) == ([], [], 0)


def test_keys_are_found_in_any_case() -> None:
    assert list(parse({"image": "x", "cmd": ["true"]}, "", (1, 50)).process.cmd) == ["true"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"Cmd": 5}, "Cmd"),
        ({"Env": [1]}, "Env"),
        ({"HostConfig": []}, "HostConfig"),
        ({"HostConfig": {"Memory": "lots"}}, "HostConfig.Memory"),
        ({"HostConfig": {"Memory": True}}, "HostConfig.Memory"),
        ({"Labels": {"a": 1}}, "Labels"),
        ({"HostConfig": {"PortBindings": {"80/tcp": [5]}}}, "HostConfig.PortBindings"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=field):
        parse({"Image": "x"} | body, "", (1, 50))


def test_without_an_image_there_is_no_container() -> None:
    with pytest.raises(InvalidArgumentError, match="no image specified"):
        parse({"Cmd": ["true"]}, "", (1, 50))


def test_limits_arrive_and_come_back() -> None:
    host = {
        "Memory": 1 << 28,
        "NanoCpus": 500_000_000,
        "PidsLimit": 50,
        "ShmSize": 1 << 20,
        "CpuShares": 512,
        "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}],
        "OomScoreAdj": -5,
        "MemorySwappiness": 10,
    }
    spec = spec_of(host)
    assert spec.resources.memory_bytes == 1 << 28
    back = inspected(spec)["HostConfig"]
    assert {key: back[key] for key in host} == host


def test_swappiness_of_minus_one_is_none() -> None:
    assert spec_of({"MemorySwappiness": -1}).resources.memory_swappiness is None


def test_limits_of_devices_are_read_and_shown() -> None:
    host = {
        "BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 200}],
        "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1}],
        "BlkioDeviceWriteBps": [{"Path": "/dev/sda", "Rate": 1 << 40}],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [{"Path": "/dev/sda", "Rate": 3}, {"Path": "/dev/sdb", "Rate": 4}],
        "CpuRealtimePeriod": 1_000_000,
        "CpuRealtimeRuntime": 950_000,
    }
    spec = spec_of(host)
    assert spec.resources.device_write_iops == (DeviceLimit("/dev/sda", 3), DeviceLimit("/dev/sdb", 4))
    back = inspected(spec)["HostConfig"]
    assert {key: back[key] for key in host} == host


@pytest.mark.parametrize(("name", "said"), [("size", "xfs with 'pquota' mount option"), ("x", "Unknown option x")])
def test_a_size_that_no_quota_can_hold_is_refused(name: str, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        spec_of({"StorageOpt": {name: "1G"}})


def test_disabled_network_is_a_namespace_with_nothing_in_it() -> None:
    assert spec_of(NetworkDisabled=True).namespaces.network == "none"


def test_an_entrypoint_that_is_an_empty_list_is_not_the_image_s() -> None:
    assert spec_of(Entrypoint=[]).process.own_entrypoint
    assert not spec_of(Entrypoint=None).process.own_entrypoint
    assert not spec_of().process.own_entrypoint


def test_security_arrives_and_comes_back() -> None:
    host = {
        "CapAdd": ["NET_ADMIN"],
        "CapDrop": ["ALL"],
        "ReadonlyRootfs": True,
        "SecurityOpt": ["no-new-privileges"],
        "GroupAdd": ["audio"],
    }
    back = inspected(spec_of(host))["HostConfig"]
    assert {key: back[key] for key in host} == host
    assert back["MaskedPaths"]


def test_empty_path_lists_unmask_everything() -> None:
    spec = spec_of({"MaskedPaths": [], "ReadonlyPaths": []})
    assert (spec.security.own_paths, list(spec.security.masked_paths)) == (True, [])
    assert inspected(spec)["HostConfig"]["MaskedPaths"] == []


def test_one_path_list_leaves_the_other_to_the_default() -> None:
    security = spec_of({"MaskedPaths": ["/proc/kcore"]}).security
    assert list(security.masked_paths) == ["/proc/kcore"]
    assert "/proc/sys" in security.readonly_paths


def test_ports_arrive_and_come_back() -> None:
    bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "53/udp": [{"HostIp": "", "HostPort": ""}]}
    spec = spec_of({"PortBindings": bindings}, ExposedPorts={"80/tcp": {}, "90": {}})
    asked = {(port.container_port, port.protocol, port.host_ip, port.host_port) for port in spec.ports}
    assert asked == {(80, "tcp", "127.0.0.1", 8080), (53, "udp", "", 0)}
    assert list(spec.exposed_ports) == ["80/tcp", "90/tcp"]
    assert inspected(spec)["HostConfig"]["PortBindings"] == bindings


def test_a_range_of_host_ports() -> None:
    (port,) = spec_of({"PortBindings": {"80/tcp": [{"HostPort": "8000-8010"}]}}).ports
    assert (port.host_port, port.host_port_end) == (8000, 8010)


def test_the_default_network_needs_no_endpoint() -> None:
    spec = spec_of({"NetworkMode": "default"}, NetworkingConfig={"EndpointsConfig": {"default": {}}})
    assert (spec.namespaces.network, list(spec.endpoints)) == ("bridge", [])


def test_a_network_s_endpoint_carries_what_was_asked() -> None:
    endpoints = {"net": {"Aliases": ["db"], "IPAMConfig": {"IPv4Address": "10.0.0.5"}}}
    (endpoint,) = spec_of({"NetworkMode": "net"}, NetworkingConfig={"EndpointsConfig": endpoints}).endpoints
    assert (endpoint.network, list(endpoint.aliases), endpoint.ipv4_address) == ("net", ["db"], "10.0.0.5")


def test_the_mode_s_network_comes_first_and_is_joined_even_if_not_listed() -> None:
    endpoints: dict[str, Any] = {"b": {}, "c": None}
    spec = spec_of({"NetworkMode": "a"}, NetworkingConfig={"EndpointsConfig": endpoints})
    assert [endpoint.network for endpoint in spec.endpoints] == ["a", "b", "c"]


def test_several_networks_need_version_1_44() -> None:
    body = {"Image": "x", "NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {}}}}
    with pytest.raises(InvalidArgumentError, match="cannot be connected to network endpoints: a, b"):
        parse(body, "", (1, 43))


@pytest.mark.parametrize("mode", ["none", "host", "container:abc"])
def test_modes_without_a_network_of_their_own_have_no_endpoints(mode: str) -> None:
    spec = spec_of({"NetworkMode": mode}, NetworkingConfig={"EndpointsConfig": {mode: {}}})
    assert list(spec.endpoints) == []


def test_health_check_durations_are_nanoseconds() -> None:
    check = {"Test": ["CMD", "true"], "Interval": 1_500_000_000, "Retries": 3}
    spec = spec_of(Healthcheck=check)
    assert spec.health_check.interval_s == 1.5
    assert inspected(spec)["Config"]["Healthcheck"] == check


def test_inspect_gives_unmodelled_fields_back_as_sent() -> None:
    spec = spec_of({"ContainerIDFile": "/x", "Isolation": "default", "CpuCount": 3}, Cmd=["true"])
    back = inspected(spec)["HostConfig"]
    assert (back["ContainerIDFile"], back["Isolation"], back["CpuCount"]) == ("/x", "default", 3)


def test_inspect_of_a_container_that_no_docker_client_made_is_complete() -> None:
    mount = Mount(MountType.BIND, "/b", "/a", read_only=True)
    spec = ContainerSpec(image="x", mounts=(mount,), ports=(PortBinding(80, host_port=8080),))
    back = inspected(spec)
    assert back["HostConfig"]["Binds"] == ["/a:/b:ro"]
    assert back["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    assert back["HostConfig"]["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}


def test_limits_changed_later_win_over_what_was_sent() -> None:
    spec = spec_of({"Memory": 8 << 20, "RestartPolicy": {"Name": "always"}})
    resources = replace(spec.resources, memory_bytes=9 << 20)
    back = inspected(replace(spec, resources=resources, restart_policy=RestartPolicy("no")))["HostConfig"]
    assert (back["Memory"], back["RestartPolicy"]["Name"]) == (9 << 20, "no")


@pytest.mark.parametrize(("version", "expected"), [((1, 44), ["db", "c" * 12]), ((1, 45), ["db"])])
def test_the_short_id_is_an_alias_for_older_clients(version: tuple[int, int], expected: list[str]) -> None:
    container = shown(network=NetworkSettings(endpoints=(EndpointState("net", "", Endpoint("net"), aliases=("db",)),)))
    assert inspect_json(container, version)["NetworkSettings"]["Networks"]["net"]["Aliases"] == expected


def test_published_ports_have_addresses_and_exposed_ones_null() -> None:
    ports = [PublishedPort(80, "tcp", address, 8080) for address in ("0.0.0.0", "::")]
    network = NetworkSettings(ports=(*ports, PublishedPort(443, "tcp")))
    container = shown(state=ContainerState(Status.RUNNING), network=network)
    assert inspect_json(container, (1, 50))["NetworkSettings"]["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "443/tcp": None,
    }


def test_a_stopped_container_has_neither_addresses_nor_ports() -> None:
    endpoint = EndpointState("bridge", "", Endpoint("bridge"), "e", "172.17.0.2", aliases=("db",))
    network = NetworkSettings("s", endpoints=(endpoint,), ports=(PublishedPort(80, "tcp", "", 8080),))
    container = shown(state=ContainerState(Status.EXITED), network=network)
    settings = inspect_json(container, (1, 50))["NetworkSettings"]
    assert (settings["Ports"], settings["SandboxID"], settings["IPAddress"]) == ({}, "", "")
    assert settings["Networks"]["bridge"]["EndpointID"] == ""
    assert settings["Networks"]["bridge"]["Aliases"] == ["db"]
    listed = summary_json(container, (1, 50), 0.0)
    assert (listed["Ports"], listed["NetworkSettings"]["Networks"]["bridge"]["Aliases"]) == ([], None)


def test_a_limit_of_kernel_memory_is_warned_of() -> None:
    _, (said,) = read({"Image": "busybox", "HostConfig": {"KernelMemory": 64 << 20}}, "web", (1, 41))
    assert said.startswith("Your kernel does not support kernel memory limit capabilities")


def test_file_systems_in_memory_are_shown_as_they_can_be_asked_for() -> None:
    sized = Mount(MountType.TMPFS, "/u", tmpfs_size_bytes=4096, read_only=True)
    host = inspected(ContainerSpec(mounts=(Mount(MountType.TMPFS, "/t", options=("size=1m", "exec")), sized)))
    assert host["HostConfig"]["Tmpfs"] == {"/t": "size=1m,exec"}
    (asked,) = host["HostConfig"]["Mounts"]
    assert asked == {"Type": "tmpfs", "Target": "/u", "TmpfsOptions": {"SizeBytes": 4096}, "ReadOnly": True}
    assert "Tmpfs" not in inspected(ContainerSpec())["HostConfig"]


@pytest.mark.parametrize("sent", [{}, {"HostConfig": None}])
def test_options_of_the_host_may_stand_outside_where_there_is_no_host_config(sent: dict[str, Any]) -> None:
    body = sent | {"Image": "busybox", "Privileged": True, "memory": 64 << 20, "Runtime": "runc", "VolumesFrom": ["a"]}
    spec = parse(body, "", (1, 52))
    assert (spec.security.privileged, spec.resources.memory_bytes, spec.runtime) == (True, 64 << 20, "runc")
    assert volumes_from(body) == ["a"]
    assert inspected(spec)["HostConfig"]["Memory"] == 64 << 20


def test_a_few_are_also_taken_from_beside_a_host_config_which_comes_first() -> None:
    outside: dict[str, Any] = {"Memory": 64 << 20, "CpuShares": 7, "Cpuset": "0", "Privileged": True}
    spec = spec_of({"memory": 32 << 20, "CpuShares": 0}, **outside)
    limits = spec.resources
    assert (limits.memory_bytes, limits.cpu_shares, limits.cpuset_cpus) == (32 << 20, 7, "0")
    assert not spec.security.privileged
