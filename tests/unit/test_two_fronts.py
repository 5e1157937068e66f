"""What cannot be meant is refused by the command line and by the Docker API in the same words.

Each case is one thing that a user may say, in the form that each front takes it.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dockerapi.container import create_body
from dockerapi.networks import parse_request as parse_network
from sampan.docker.options.check import warnings
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ContainerSpec
from sampan.resource.network import NetworkRequest
from sampan_cli.commands.container.create import command
from sampan_cli.commands.network.create import NetworkCreateOptions, create_network
from sampan_cli.commands.network.create import command as create_network_command
from sampan_cli.options.container import ContainerOptions
from sampan_cli.options.spec import build_spec

Flags = tuple[str, ...]
Host = dict[str, Any]


def by_flags(flags: Flags) -> ContainerSpec:
    options = ContainerOptions(**command.make_context("create", [*flags, "busybox"]).params)
    return build_spec(options, {}, Path("/work"))


def by_body(host: Host, **config: object) -> ContainerSpec:
    return create_body.parse({"Image": "busybox", "HostConfig": host} | config, "", (1, 50))


def publish(host_port: str = "", port: str = "80/tcp", address: str = "") -> Host:
    return {"PortBindings": {port: [{"HostIp": address, "HostPort": host_port}]}}


def mount(**fields: object) -> Host:
    return {"Mounts": [fields]}


PORTS = (
    (("-p", "x:80"), publish("x"), 'invalid port specification: "x"'),
    (("-p", "70000:80"), publish("70000"), 'invalid port specification: "70000"'),
    (("-p", "20-10:80"), publish("20-10"), 'invalid port specification: "20-10"'),
    (("-p", "8080:x"), publish("8080", "x"), 'invalid port specification: "x"'),
    (("-p", "0"), publish("", "0/tcp"), 'invalid port specification: "0"'),
    (("-p", "65536/udp"), publish("", "65536/udp"), 'invalid port specification: "65536"'),
    (("-p", "80/foo"), publish("", "80/foo"), "invalid proto: foo"),
    (("-p", "localhost:8080:80"), publish("8080", address="localhost"), "invalid IP address: localhost"),
)

TEXTS_OF_MOUNTS = tuple(
    (("-v", text), {"Binds": [text]}, words)
    for text, words in (
        ("", "invalid volume specification: ''"),
        ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
        ("/b:ro", "invalid volume specification: '/b:ro'"),
        ("/a:/b:fast", "invalid mode: fast"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        (
            "data:/b:rslave",
            "invalid volume specification: 'data:/b:rslave': "
            'invalid mount config for type "volume": field BindOptions must not be specified',
        ),
        (
            "/a:/b:nocopy",
            "invalid volume specification: '/a:/b:nocopy': "
            'invalid mount config for type "bind": field VolumeOptions must not be specified',
        ),
        (
            "/a:b",
            "invalid volume specification: '/a:b': "
            "invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
        ),
        (
            "data:/",
            "invalid volume specification: 'data:/': "
            "invalid mount config for type \"volume\": invalid specification: destination can't be '/'",
        ),
    )
)

MOUNTS = (
    (
        ("--mount", "type=npipe,dst=/b"),
        mount(Type="npipe", Target="/b"),
        'invalid mount config for type "npipe": mount type unknown',
    ),
    (
        ("--mount", "type=bind,src=/a"),
        mount(Type="bind", Source="/a"),
        'invalid mount config for type "bind": field Target must not be empty',
    ),
    (
        ("--mount", "type=bind,dst=/b"),
        mount(Type="bind", Target="/b"),
        'invalid mount config for type "bind": field Source must not be empty',
    ),
    (
        ("--mount", "type=bind,src=a,dst=/b"),
        mount(Type="bind", Source="a", Target="/b"),
        "invalid mount config for type \"bind\": invalid mount path: 'a' mount path must be absolute",
    ),
    (
        ("--mount", "type=bind,src=/a,dst=/b,bind-propagation=odd"),
        mount(Type="bind", Source="/a", Target="/b", BindOptions={"Propagation": "odd"}),
        'invalid mount config for type "bind": invalid propagation mode: odd',
    ),
    (
        ("--mount", "type=volume,src=data,dst=/b,bind-propagation=rslave"),
        mount(Type="volume", Source="data", Target="/b", BindOptions={"Propagation": "rslave"}),
        'invalid mount config for type "volume": field BindOptions must not be specified',
    ),
    (
        ("--mount", "type=bind,src=/a,dst=/b,volume-nocopy"),
        mount(Type="bind", Source="/a", Target="/b", VolumeOptions={"NoCopy": True}),
        'invalid mount config for type "bind": field VolumeOptions must not be specified',
    ),
    (
        ("--mount", "type=volume,dst=/b,readonly"),
        mount(Type="volume", Target="/b", ReadOnly=True),
        'invalid mount config for type "volume": must not set ReadOnly mode when using anonymous volumes',
    ),
    (
        ("--mount", "type=volume,src=data,dst=/b,volume-subpath=../x"),
        mount(Type="volume", Source="data", Target="/b", VolumeOptions={"Subpath": "../x"}),
        'invalid mount config for type "volume": subpath must be a relative path within the volume',
    ),
    (
        ("--mount", "type=image,src=tools,dst=/b,image-subpath=/x"),
        mount(Type="image", Source="tools", Target="/b", ImageOptions={"Subpath": "/x"}),
        'invalid mount config for type "image": subpath must be a relative path within the volume',
    ),
    (
        ("--mount", "type=bind,src=/a,dst=/b,bind-nonrecursive,ro,bind-recursive=readonly,bind-propagation=rprivate"),
        mount(
            Type="bind",
            Source="/a",
            Target="/b",
            ReadOnly=True,
            BindOptions={"ReadOnlyForceRecursive": True, "NonRecursive": True},
        ),
        'invalid mount config for type "bind": '
        "field ReadOnlyForceRecursive must not be specified with ReadOnlyNonRecursive or NonRecursive",
    ),
    (
        ("--mount", "type=tmpfs,src=a,dst=/b"),
        mount(Type="tmpfs", Source="a", Target="/b"),
        'invalid mount config for type "tmpfs": field Source must not be specified',
    ),
    (("--tmpfs", "/t:size=x"), {"Tmpfs": {"/t": "size=x"}}, 'invalid tmpfs option "size=x"'),
    (
        ("--tmpfs", "t"),
        {"Tmpfs": {"t": ""}},
        "invalid mount config for type \"tmpfs\": invalid mount path: 't' mount path must be absolute",
    ),
    (("-v", "/a:/b", "--tmpfs", "/b"), {"Binds": ["/a:/b"], "Tmpfs": {"/b": ""}}, "Duplicate mount point: /b"),
)

LIMITS = (
    (
        ("--ulimit", "nosuch=1"),
        {"Ulimits": [{"Name": "nosuch", "Soft": 1, "Hard": 1}]},
        "invalid ulimit type: nosuch",
    ),
    (
        ("--ulimit", "nofile=5:3"),
        {"Ulimits": [{"Name": "nofile", "Soft": 5, "Hard": 3}]},
        "ulimit soft limit must be less than or equal to hard limit: 5 > 3",
    ),
    (
        ("--ulimit", "nofile=-5"),
        {"Ulimits": [{"Name": "nofile", "Soft": -5, "Hard": -5}]},
        "invalid ulimit nofile: -5 is negative",
    ),
    (
        ("--device", "/dev/a:/dev/b:x"),
        {"Devices": [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "x"}]},
        "invalid device mode: x",
    ),
    (("--device", "dev/a"), {"Devices": [{"PathOnHost": "dev/a"}]}, "dev/a is not an absolute path"),
    (
        ("--device", "/dev/a:b"),
        {"Devices": [{"PathOnHost": "/dev/a", "PathInContainer": "b"}]},
        "b is not an absolute path",
    ),
    (
        ("--device-cgroup-rule", "c 1:x r"),
        {"DeviceCgroupRules": ["c 1:x r"]},
        "invalid device cgroup rule format: 'c 1:x r'",
    ),
    (
        ("--cpus", "1", "--cpu-quota", "5000"),
        {"NanoCpus": 1_000_000_000, "CpuQuota": 5000},
        "Conflicting options: Nano CPUs and CPU Quota cannot both be set.",
    ),
    (
        ("--memory-swappiness", "101"),
        {"MemorySwappiness": 101},
        "Invalid value: 101, valid memory swappiness range is 0-100",
    ),
    (("-m", "4m"), {"Memory": 4 << 20}, "Minimum memory limit allowed is 6MB"),
    (("--blkio-weight", "5"), {"BlkioWeight": 5}, "Range of blkio weight is from 10 to 1000"),
    (
        ("--oom-score-adj", "2000"),
        {"OomScoreAdj": 2000},
        "Invalid value 2000, range for oom score adj is [-1000, 1000]",
    ),
)

UNKNOWN_POLICY = (
    "invalid restart policy: unknown policy 'often'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
)
ALL_RESTARTS = (
    (("--restart", "often"), {"RestartPolicy": {"Name": "often"}}, UNKNOWN_POLICY),
    (
        ("--restart", "always:3"),
        {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}},
        "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    ),
    (
        ("--restart", "on-failure:-1"),
        {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}},
        "invalid restart policy: maximum retry count cannot be negative",
    ),
    (
        ("--rm", "--restart", "always"),
        {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
        "can't create 'AutoRemove' container with restart policy",
    ),
)

NAMESPACES = (
    (("--pid", "odd"), {"PidMode": "odd"}, "invalid PID mode: odd"),
    (("--pid", "container:"), {"PidMode": "container:"}, "invalid PID mode: container:"),
    (("--ipc", "odd"), {"IpcMode": "odd"}, "invalid IPC mode: odd"),
    (("--uts", "container:web"), {"UTSMode": "container:web"}, "invalid UTS mode: container:web"),
    (("--cgroupns", "odd"), {"CgroupnsMode": "odd"}, "invalid cgroup namespace mode: odd"),
    (("--userns", "odd"), {"UsernsMode": "odd"}, "invalid userns mode: odd"),
)

SECURITY = (
    (("--security-opt", "odd"), {"SecurityOpt": ["odd"]}, 'invalid --security-opt 1: "odd"'),
    (("--security-opt", "odd=1"), {"SecurityOpt": ["odd=1"]}, 'invalid --security-opt 2: "odd=1"'),
    (("--security-opt", "label"), {"SecurityOpt": ["label"]}, 'invalid --security-opt 1: "label"'),
)

LOGS = (
    (
        ("--log-driver", "odd"),
        {"LogConfig": {"Type": "odd"}},
        "logger: no log driver named 'odd' is registered",
    ),
    (
        ("--log-opt", "odd=1"),
        {"LogConfig": {"Config": {"odd": "1"}}},
        "unknown log opt 'odd' for json-file log driver",
    ),
    (
        ("--log-opt", "=1"),
        {"LogConfig": {"Config": {"": "1"}}},
        "unknown log opt '' for json-file log driver",
    ),
    (("--log-opt", "max-file=0"), {"LogConfig": {"Config": {"max-file": "0"}}}, "invalid value for max-file: 0"),
)

HOSTS = (
    (("--add-host", "db"), {"ExtraHosts": ["db"]}, 'bad format for add-host: "db"'),
    (("--add-host", "db:ten"), {"ExtraHosts": ["db:ten"]}, 'invalid IP address in add-host: "ten"'),
)

STORAGE: tuple[tuple[Flags, Host, str], ...] = (
    (
        ("--storage-opt", "size=1G"),
        {"StorageOpt": {"size": "1G"}},
        "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
    ),
    (("--storage-opt", "inodes=5"), {"StorageOpt": {"inodes": "5"}}, "Unknown option inodes"),
)
REFUSED = (*STORAGE, *PORTS, *TEXTS_OF_MOUNTS, *MOUNTS, *LIMITS, *ALL_RESTARTS, *NAMESPACES, *SECURITY, *LOGS, *HOSTS)


@pytest.mark.parametrize(("flags", "host", "words"), REFUSED)
def test_a_bad_value_gets_one_answer(flags: Flags, host: Host, words: str) -> None:
    with pytest.raises(InvalidArgumentError) as told:
        by_flags(flags)
    with pytest.raises(InvalidArgumentError) as sent:
        by_body(host)
    assert (str(told.value), str(sent.value)) == (words, words)


@pytest.mark.parametrize(
    ("flags", "config", "words"),
    [
        (("--expose", "x"), {"ExposedPorts": {"x": {}}}, 'invalid port specification: "x"'),
        (("--expose", "80:80"), {"ExposedPorts": {"80:80": {}}}, 'invalid port specification: "80:80"'),
        (
            ("-w", "tmp"),
            {"WorkingDir": "tmp"},
            "the working directory 'tmp' is invalid, it needs to be an absolute path",
        ),
        (("-h", "a b"), {"Hostname": "a b"}, "invalid hostname format: a b"),
        (
            ("--network", "bridge", "--network-alias", "db"),
            {"NetworkingConfig": {"EndpointsConfig": {"bridge": {"Aliases": ["db"]}}}},
            "invalid config for network bridge: invalid endpoint settings:\n"
            "network-scoped aliases are only supported for user-defined networks",
        ),
        (
            ("--network", "bridge", "--network", "host"),
            {"NetworkingConfig": {"EndpointsConfig": {"bridge": {}, "host": {}}}},
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ),
    ],
)
def test_a_bad_value_beside_the_host_s_gets_one_answer(flags: Flags, config: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError) as told:
        by_flags(flags)
    with pytest.raises(InvalidArgumentError) as sent:
        by_body({}, **config)
    assert (str(told.value), str(sent.value)) == (words, words)


@pytest.mark.parametrize(
    ("flags", "host"),
    [
        (("-p", "127.0.0.1:8080:80"), publish("8080", address="127.0.0.1")),
        (("-p", "8000-8010:53/udp"), publish("8000-8010", "53/udp")),
        (("-p", "80"), publish()),
        (("-v", "/a:/b:ro,rslave"), {"Binds": ["/a:/b:ro,rslave"]}),
        (("-v", "data:/b:nocopy"), {"Binds": ["data:/b:nocopy"]}),
        (
            ("--mount", "type=bind,src=/a,dst=/b,readonly,bind-nonrecursive"),
            mount(Type="bind", Source="/a", Target="/b", ReadOnly=True, BindOptions={"NonRecursive": True}),
        ),
        (
            ("--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770"),
            mount(Type="tmpfs", Target="/t", TmpfsOptions={"SizeBytes": 1 << 20, "Mode": 0o1770}),
        ),
        (("--tmpfs", "/t:size=64k,noexec"), {"Tmpfs": {"/t": "size=64k,noexec"}}),
        (("--ulimit", "nofile=1:2"), {"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}]}),
        (("--device", "/dev/a:r"), {"Devices": [{"PathOnHost": "/dev/a", "CgroupPermissions": "r"}]}),
        (("--restart", "on-failure:3"), {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}),
        (("--pid", "container:web"), {"PidMode": "container:web"}),
        (("--security-opt", "label:disable"), {"SecurityOpt": ["label:disable"]}),
        (("--log-opt", "max-size=10m"), {"LogConfig": {"Config": {"max-size": "10m"}}}),
        (("--network", "default"), {"NetworkMode": "default"}),
    ],
)
def test_what_can_be_meant_becomes_one_value(flags: Flags, host: Host) -> None:
    told, sent = by_flags(flags), by_body(host)
    for field in ("ports", "mounts", "resources", "security", "log"):
        assert getattr(told, field) == getattr(sent, field), field
    assert told.namespaces == sent.namespaces
    assert (told.restart_policy.name or "no") == (sent.restart_policy.name or "no")
    assert told.restart_policy.maximum_retries == sent.restart_policy.maximum_retries


def test_the_volume_driver_of_a_container_is_that_of_the_volumes_it_names() -> None:
    flags = (
        "--volume-driver",
        "depot",
        "-v",
        "goods:/data:ro",
        "-v",
        "/srv:/srv",
        "--mount",
        "type=volume,src=x,dst=/x",
    )
    host = {
        "VolumeDriver": "depot",
        "Binds": ["goods:/data:ro", "/srv:/srv"],
        "Mounts": [{"Type": "volume", "Source": "x", "Target": "/x"}],
    }
    for spec in (by_flags(flags), by_body(host)):
        assert {mount.target: mount.volume_driver for mount in spec.mounts} == {"/data": "depot", "/srv": "", "/x": ""}


@pytest.mark.parametrize(
    ("flags", "fields", "warned"),
    [
        ("type=volume,src=x,dst=/x", {"Type": "volume", "Source": "x"}, True),
        ("src=x,dst=/x", {"Type": "volume", "Source": "x"}, True),
        (
            "src=x,dst=/x,volume-driver=depot",
            {"Type": "volume", "Source": "x", "VolumeOptions": {"DriverConfig": {"Name": "depot"}}},
            False,
        ),
        ("type=bind,src=/x,dst=/x", {"Type": "bind", "Source": "/x"}, False),
    ],
)
def test_who_names_a_volume_driver_is_told_where_it_is_for_nothing(
    flags: str, fields: dict[str, Any], warned: bool
) -> None:
    host = {"VolumeDriver": "depot", "Binds": ["goods:/data"], **mount(Target="/x", **fields)}
    told = warnings(by_flags(("--volume-driver", "depot", "-v", "goods:/data", "--mount", flags)))
    sent = create_body.read({"Image": "busybox", "HostConfig": host}, "", (1, 50))[1]
    assert told == sent
    assert [text.split(" is ")[0] for text in told] == [
        "WARNING: the container-wide volume-driver configuration"
    ] * warned


@pytest.mark.parametrize(
    ("flags", "body", "kept"),
    [
        ((), {}, {"com.docker.network.enable_ipv4": "false", "com.docker.network.enable_ipv6": "false"}),
        (("--ipv6",), {"EnableIPv6": True}, {"com.docker.network.enable_ipv4": "false"}),
        (("--ipv4",), {"EnableIPv4": True}, {"com.docker.network.enable_ipv6": "false"}),
        (("--no-ipv4", "--ipv6"), {"EnableIPv4": False, "EnableIPv6": True}, {}),
    ],
)
async def test_what_a_request_says_of_a_family_prevails_over_options(
    flags: Flags, body: dict[str, Any], kept: dict[str, str]
) -> None:
    options = {f"com.docker.network.enable_ipv{version}": "false" for version in (4, 6)}
    asked: list[NetworkRequest] = []

    class Networks:
        async def create(self, request: NetworkRequest) -> str:
            asked.append(request)
            return "id"

    opts = [text for name, value in options.items() for text in ("-o", f"{name}={value}")]
    params = create_network_command.make_context("create", [*flags, *opts, "web"]).params
    await create_network(SimpleNamespace(networks=Networks()), NetworkCreateOptions(**params))
    asked.append(parse_network({"Name": "web", "Driver": "bridge", "Options": options} | body, (1, 50)))
    assert [dict(each.options) for each in asked] == [kept, kept]
    assert len({(each.disable_ipv4, each.enable_ipv6) for each in asked}) == 1
