"""What each version of the API began with, as its reference says: there from then on, and not before."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from dockerapi.container.create_body import read
from dockerapi.http.versions import NEWEST, OLDEST, Version
from dockerapi.networks import parse_request
from sampan.build.request import UsageRecord
from sampan.docker.views.network_view import endpoint_json
from sampan.errors import InvalidArgumentError
from sampan.resource.container import EndpointState
from sampan.resource.container_spec import ContainerSpec, Endpoint
from sampan.resource.event import Event
from tests.fakes.engine import image
from tests.unit.dockerapi.support import Api

_MAC: Final = "02:42:ac:11:00:09"
_SYSCTL: Final = "net.ipv4.conf.eth0.log_martians"
_SYSCTLS: Final = "com.docker.network.endpoint.sysctls"


def mount(kind: str, **options: object) -> dict[str, object]:
    source = {} if kind == "tmpfs" else {"Source": "/src" if kind == "bind" else "data"}
    return {"Type": kind, "Target": "/t", **source, **options}


@dataclass(frozen=True)
class Begins:
    """What a create's body means since a version; before it the same body without that, or a refusal."""

    since: str
    host: dict[str, object]
    meant: Callable[[ContainerSpec], object]
    value: object
    before: object
    config: dict[str, object] | None = None


def bind(**options: object) -> dict[str, object]:
    return {"Mounts": [mount("bind", **options)]}


def endpoint(**settings: object) -> dict[str, object]:
    return {"NetworkingConfig": {"EndpointsConfig": {"n": settings}}}


BODIES: Final = (
    Begins("1.25", {"AutoRemove": True}, lambda spec: spec.auto_remove, True, False),
    Begins("1.40", bind(BindOptions={"NonRecursive": True}), lambda spec: spec.mounts[0].non_recursive, True, False),
    Begins("1.40", {}, lambda spec: spec.namespaces.ipc, "", "shareable"),
    Begins("1.42", {"ConsoleSize": [3, 4]}, lambda spec: spec.process.console_size is not None, True, False),
    Begins(
        "1.42", bind(BindOptions={"CreateMountpoint": True}), lambda spec: spec.mounts[0].create_source, True, False
    ),
    Begins(
        "1.42",
        {"Mounts": [mount("bind", VolumeOptions={"NoCopy": True})]},
        lambda spec: spec.mounts[0].no_copy,
        'invalid mount config for type "bind": field VolumeOptions must not be specified',
        False,
    ),
    Begins("1.43", {"Annotations": {"a": "b"}}, lambda spec: dict(spec.annotations), {"a": "b"}, {}),
    Begins(
        "1.44",
        {},
        lambda spec: spec.health_check and spec.health_check.start_interval_s,
        1.0,
        0.0,
        {"Healthcheck": {"Test": ["CMD", "true"], "StartInterval": 10**9}},
    ),
    Begins("1.44", bind(ReadOnly=True), lambda spec: spec.mounts[0].read_only_non_recursive, False, True),
    Begins("1.44", {"Binds": ["/a:/b:ro"]}, lambda spec: spec.mounts[0].read_only_non_recursive, False, True),
    Begins(
        "1.44",
        bind(ReadOnly=True, BindOptions={"ReadOnlyForceRecursive": True}),
        lambda spec: spec.mounts[0].read_only_force_recursive,
        True,
        "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
    ),
    Begins(
        "1.44",
        {"NetworkMode": "n"},
        lambda spec: [each.network for each in spec.endpoints],
        ["n", "m"],
        "Container cannot be connected to network endpoints: n, m",
        {"NetworkingConfig": {"EndpointsConfig": {"n": None, "m": {}}}},
    ),
    Begins(
        "1.44", {"NetworkMode": "n"}, lambda spec: spec.endpoints[0].mac_address, _MAC, "", endpoint(MacAddress=_MAC)
    ),
    Begins(
        "1.45",
        {"Mounts": [mount("volume", VolumeOptions={"Subpath": "a"})]},
        lambda spec: spec.mounts[0].subpath,
        "a",
        "VolumeOptions.Subpath needs API v1.45 or newer",
    ),
    Begins(
        "1.48",
        {"Mounts": [mount("image")]},
        lambda spec: spec.mounts[0].type.value,
        "image",
        'Mount type "Image" needs API v1.48 or newer',
    ),
    Begins("1.48", {"NetworkMode": "n"}, lambda spec: spec.endpoints[0].gw_priority, 7, 0, endpoint(GwPriority=7)),
    Begins(
        "1.48",
        {"NetworkMode": "n", "Sysctls": {_SYSCTL: "1", "net.ipv4.ip_forward": "1"}},
        lambda spec: (dict(spec.sysctls), dict(spec.endpoints[0].driver_options)),
        f"interface specific sysctl setting \"{_SYSCTL}\" must be supplied using driver option '{_SYSCTLS}'",
        ({"net.ipv4.ip_forward": "1"}, {_SYSCTLS: "net.ipv4.conf.IFNAME.log_martians=1"}),
    ),
    Begins(
        "1.52",
        {"NetworkMode": "n"},
        lambda spec: spec.endpoints[0].mac_address,
        "MacAddress in Config is not supported from API version 1.52 on: use that of an endpoint's settings",
        _MAC,
        {"MacAddress": _MAC},
    ),
)


def number(text: str) -> Version:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def around(text: str) -> list[tuple[Version, bool]]:
    """The versions to look at, and whether they know what began then."""
    major, minor = number(text)
    return [(OLDEST, False), ((major, minor - 1), False), ((major, minor), True), (NEWEST, True)]


@pytest.mark.parametrize("row", BODIES, ids=lambda row: f"{row.since}-{sorted(row.host)}")
def test_a_create_means_what_its_version_knows(row: Begins) -> None:
    for version, knows in around(row.since):
        if not knows and version < (1, 25):  # had next to nothing of it
            version = (1, 25) if number(row.since) > (1, 25) else version
        body = {"Image": "a", "HostConfig": row.host, **(row.config or {})}
        meant: object
        try:
            meant = row.meant(read(body, "", version)[0])
        except InvalidArgumentError as error:
            meant = str(error)
        assert (version, meant) == (version, row.value if knows else row.before)


def test_a_body_is_as_it_was_sent_where_it_was_read() -> None:
    body = {"Image": "a", "hostconfig": {"annotations": {"a": "b"}, "autoremove": True}}
    spec, _ = read(body, "", (1, 24))
    assert (dict(spec.annotations), spec.auto_remove) == ({}, False)
    assert body == {"Image": "a", "hostconfig": {"annotations": {"a": "b"}, "autoremove": True}}


@pytest.mark.parametrize(
    ("version", "body", "said"),
    [
        ((1, 41), {"HostConfig": {"KernelMemory": 1}}, ["kernel memory limit"]),
        ((1, 42), {"HostConfig": {"KernelMemory": 1}}, []),
        ((1, 51), {"HostConfig": {"KernelMemoryTCP": 1}}, ["kernel memory TCP limit"]),
        ((1, 52), {"HostConfig": {"KernelMemoryTCP": 1}}, []),
        ((1, 43), {"MacAddress": _MAC}, []),
        ((1, 44), {"MacAddress": _MAC}, ["MacAddress field is now deprecated"]),
        ((1, 47), {"HostConfig": {"Sysctls": {_SYSCTL: "1"}}}, [f'Migrated sysctl "{_SYSCTL}" to DriverOpts{{']),
    ],
)
def test_who_asks_for_what_has_moved_or_gone_is_told(version: Version, body: dict[str, Any], said: list[str]) -> None:
    spec, warnings = read({"Image": "a", **body}, "", version)
    assert len(warnings) == len(said)
    assert all(part in warning for part, warning in zip(said, warnings, strict=True))
    assert b"KernelMemory" not in spec.docker


@pytest.mark.parametrize(
    ("version", "body", "said"),
    [
        ((1, 44), {"MacAddress": _MAC, **endpoint(MacAddress="02:00:00:00:00:01")}, "must match the endpoint-specific"),
        ((1, 44), {"MacAddress": _MAC, **endpoint()}, "HostConfig.NetworkMode must match the identity of a network"),
        ((1, 43), {"MacAddress": _MAC, "HostConfig": {"NetworkMode": "host"}}, "mac-address and the network mode"),
        ((1, 47), {"HostConfig": {"Sysctls": {"net.ipv6.conf.eth1.x": "1"}}}, "unable to determine network endpoint"),
    ],
)
def test_what_could_be_meant_of_several_networks_is_refused(version: Version, body: dict[str, Any], said: str) -> None:
    mode = {"HostConfig": {"NetworkMode": "n"}} if "must match the endpoint" in said else {}
    with pytest.raises(InvalidArgumentError, match=said):
        read({"Image": "a", **mode, **body}, "", version)


Asked = Callable[[Api, str], Awaitable[bool]]


async def _info(api: Api, at: str, *path: str) -> bool:
    found = (await api.get(f"{at}/info")).json
    for name in path:
        if name not in found:
            return False
        found = found[name]
    return True


def info(*path: str) -> Asked:
    return lambda api, at: _info(api, at, *path)


def gone(asked: Asked) -> Asked:
    async def absent(api: Api, at: str) -> bool:
        return not await asked(api, at)

    return absent


def shown(path: str, *names: str) -> Asked:
    """Whether the answer has a field, looked for as deep as it lies; a number is a place in a list."""

    async def present(api: Api, at: str) -> bool:
        answer = await api.get(f"{at}{path}")
        assert answer.status == 200, answer.body
        found = answer.json
        for name in names[:-1]:
            found = found[int(name)] if name.isdecimal() else found[name]
        return names[-1] in found

    return present


def asked_for(path: str, method: str = "GET") -> Asked:
    """Whether a bad value of a parameter is refused, and so looked at."""

    async def looked_at(api: Api, at: str) -> bool:
        return (await api.request(method, f"{at}{path}")).status == 400

    return looked_at


async def tags_are_a_list(api: Api, at: str) -> bool:
    rows = (await api.get(f"{at}/images/json?all=1")).json
    return [] in [row["RepoTags"] for row in rows]


async def created_is_left_out(api: Api, at: str) -> bool:
    return "Created" not in (await api.get(f"{at}/images/timeless:1/json")).json


async def shares_are_counted(api: Api, at: str) -> bool:
    return {row["SharedSize"] for row in (await api.get(f"{at}/images/json?shared-size=1")).json} != {-1}


async def a_new_image_is_told(api: Api, at: str) -> bool:
    events = (await api.get(f"{at}/events?since=1&until=9")).lines
    assert [event["Action"] for event in events if event["Action"] != "create"] == ["pull"]
    return len(events) == 2


async def volumes_of_clusters_are_known(api: Api, at: str) -> bool:
    status = (await api.request("PUT", f"{at}/volumes/v?version=1", json={})).status
    assert status in (404, 503)
    return status == 503


ANSWERS: Final[tuple[tuple[str, str, Asked], ...]] = (
    ("1.42", "no KernelMemory in info", gone(info("KernelMemory"))),
    ("1.42", "no BuilderSize in df", gone(shown("/system/df", "BuilderSize"))),
    ("1.42", "no Parent of a cache record", gone(shown("/system/df", "BuildCache", "0", "Parent"))),
    ("1.42", "Parents of a cache record", shown("/system/df", "BuildCache", "0", "Parents")),
    ("1.42", "volumes of clusters", volumes_of_clusters_are_known),
    ("1.42", "df by type", asked_for("/system/df?type=x")),
    ("1.42", "shared-size of images", shares_are_counted),
    ("1.30", "wait's condition", asked_for("/containers/web/wait?condition=x", "POST")),
    ("1.43", "no <none> among tags", tags_are_a_list),
    ("1.44", "no VirtualSize of an image", gone(shown("/images/a:1/json", "VirtualSize"))),
    ("1.44", "no VirtualSize of images", gone(shown("/images/json?all=1", "0", "VirtualSize"))),
    ("1.44", "no VirtualSize in df", gone(shown("/system/df", "Images", "0", "VirtualSize"))),
    ("1.44", "no Created that nobody knows", created_is_left_out),
    ("1.44", "runtimes' features", info("Runtimes", "runc", "status")),
    ("1.45", "no Container of an image", gone(shown("/images/a:1/json", "Container"))),
    ("1.45", "no ContainerConfig of an image", gone(shown("/images/a:1/json", "ContainerConfig"))),
    ("1.46", "annotations in a list", shown("/containers/json?all=1", "0", "HostConfig", "Annotations")),
    ("1.46", "image create among events", a_new_image_is_told),
    ("1.46", "push by platform", asked_for("/images/a/push?platform=x", "POST")),
    ("1.47", "manifests of images", shown("/images/json?all=1&manifests=1", "0", "Manifests")),
    ("1.48", "manifests of an image", shown("/images/a:1/json?manifests=1", "Manifests")),
    ("1.48", "manifest of a container", shown("/containers/web/json", "ImageManifestDescriptor")),
    ("1.48", "manifest of a container in a list", shown("/containers/json?all=1", "0", "ImageManifestDescriptor")),
    ("1.48", "history by platform", asked_for("/images/a:1/history?platform=x")),
    ("1.48", "save by platform", asked_for("/images/get?names=a:1&platform=x")),
    ("1.48", "descriptor of an image", shown("/images/a:1/json", "Descriptor")),
    ("1.49", "image by platform", asked_for("/images/a:1/json?platform=x")),
    ("1.49", "firewall in info", info("FirewallBackend")),
    ("1.49", "no expected commits", gone(info("RuncCommit", "Expected"))),
    (
        "1.49",
        "no artifacts that are not passed on",
        gone(info("RegistryConfig", "AllowNondistributableArtifactsCIDRs")),
    ),
    ("1.50", "no br_netfilter in info", gone(info("BridgeNfIptables"))),
    ("1.50", "removal by platform", asked_for("/images/nosuch?platforms=x", "DELETE")),
    ("1.50", "no Hostname of an image", gone(shown("/images/a:1/json", "Config", "Hostname"))),
    ("1.52", "health in a list", shown("/containers/json?all=1", "0", "Health")),
    ("1.52", "storage of a container", shown("/containers/web/json", "Storage")),
    ("1.52", "networks' statistics", shown("/networks/n", "Status")),
    ("1.52", "no Bridge of a container", gone(shown("/containers/web/json", "NetworkSettings", "Bridge"))),
    ("1.52", "totals in df", shown("/system/df", "ImageUsage")),
)


@pytest.mark.parametrize(("since", "what", "asked"), ANSWERS, ids=lambda value: value if isinstance(value, str) else "")
async def test_an_answer_has_what_its_version_knows(api: Api, since: str, what: str, asked: Asked) -> None:
    await prepare(api)
    for version, knows in around(since):
        assert (version, await asked(api, f"/v{version[0]}.{version[1]}")) == (version, knows), what


async def prepare(api: Api) -> None:
    nameless = image("")
    nameless.ClearField("repo_digests")
    timeless = image("timeless:1")
    timeless.ClearField("created")
    for each in (image("a:1"), timeless, nameless):
        api.fake.images.add(each)
    api.builder.records = [UsageRecord("one", 100, parents=("two",))]
    made = await api.post("/networks/create", json={"Name": "n"})
    assert made.status == 201, made.body
    for action in ("create", "pull"):
        await api.fake.runtime.events.publish([Event("image", action, "i", {}, time_ns=5 * 10**9)])
    body = {"Image": "a:1", "Cmd": ["true"], "HostConfig": {"NetworkMode": "n", "Annotations": {"a": "b"}}}
    made = await api.post("/containers/create?name=web", json=body)
    assert made.status == 201, made.body


@pytest.mark.parametrize(("version", "knows"), around("1.48"))
def test_networks_without_ipv4_and_priorities_are_of_1_48(version: Version, knows: bool) -> None:
    assert parse_request({"Name": "n", "EnableIPv4": False}, version).disable_ipv4 is knows
    assert ("GwPriority" in endpoint_json(EndpointState("n", "", Endpoint("n")), ("c",), version)) is knows


@pytest.mark.parametrize(("version", "knows"), around("1.45"))
def test_a_container_is_among_its_own_aliases_until_1_45_where_names_are_looked_up(
    version: Version, knows: bool
) -> None:
    def aliases(network: str) -> object:
        endpoint = EndpointState(network, "", Endpoint(network), aliases=("db", "c1"))
        return endpoint_json(endpoint, ("c1", "host"), version)["Aliases"]

    assert aliases("n") == (["db", "c1"] if knows else ["db", "c1", "host"])
    assert aliases("bridge") == ["db", "c1"]
