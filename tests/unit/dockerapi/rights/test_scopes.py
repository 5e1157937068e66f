"""Sockets whose clients may not do everything: what goes, what does not, and what is tried to get around it."""

import asyncio
import dataclasses
import inspect
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from dockerapi.http.connection import Entrance
from dockerapi.listen.addresses import UnixAddress
from dockerapi.listen.sockets import open_unix
from dockerapi.main import ROUTES
from dockerapi.rights import host_access
from dockerapi.rights.methods import METHODS
from dockerapi.rights.operations import OPERATIONS, Reach
from dockerapi.rights.scope import Scope, make_scope
from dockerapi.system import swarm, unsupported
from sampan.api.runtime.v1.spec_pb2 import Mount
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ContainerSpec, Namespaces
from tests.fakes.engine import image
from tests.unit.dockerapi.support import Answer, Api, head_of, read_head

LABEL = ("team", "blue")


def privileged_one(api: Api) -> str:
    container = api.fake.runtime.create("cat")
    api.fake.runtime.containers.held[container].record.spec.security.privileged = True
    return container


def labelled(api: Api, team: str) -> str:
    container = api.fake.runtime.create("cat")
    api.fake.runtime.containers.held[container].record.spec.labels["team"] = team
    return container


def running(api: Api, container: str) -> bool:
    return bool(api.fake.runtime.containers.held[container].record.state.pid)


class Limited:
    """A client of a socket with a scope."""

    def __init__(self, session: aiohttp.ClientSession, path: Path) -> None:
        self._session, self.path = session, path

    async def __call__(self, method: str, path: str, json: Any = None) -> Answer:
        url = URL(f"http://docker{path}", encoded=True)
        async with self._session.request(method, url, json=json) as response:
            return Answer(response.status, response.headers, await response.read())

    async def raw(self, data: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(data)
        writer.write_eof()
        try:
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def limited(api: Api, scope: Scope) -> AsyncIterator[Limited]:
    with tempfile.TemporaryDirectory(prefix="lim") as root:
        path = Path(root) / "s"
        opened = await open_unix(UnixAddress(path), "", api.server.protocols(Entrance("limited", scope)))
        try:
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
                yield Limited(session, path)
        finally:
            opened.close()


def test_every_route_is_an_operation_and_every_operation_a_route() -> None:
    refused = {(route.method, route.path) for route in (*swarm.ROUTES, *unsupported.ROUTES)}  # whoever asks
    assert {(route.method, route.path) for route in ROUTES} - refused == set(OPERATIONS) - refused


def test_what_changes_something_is_no_look() -> None:
    for (method, path), operation in OPERATIONS.items():
        if operation.reach is Reach.LOOKS:
            assert method in ("GET", "HEAD", "OPTIONS"), path
        if "upgrade" in path or (method, path) in (("POST", "/grpc"), ("POST", "/session")):
            assert operation.reach is Reach.OPENS


def test_every_field_of_a_spec_is_looked_at_or_known_to_be_harmless() -> None:
    source = inspect.getsource(host_access)
    for kind, harmless in host_access.HARMLESS.items():
        names = {field.name for field in dataclasses.fields(kind)}
        assert harmless <= names
        for name in names - harmless:
            assert f".{name}" in source or f'"{name}"' in source, f"{kind.__name__}.{name} is new: is it the host's?"


async def test_read_only_looks_and_nothing_else(api: Api) -> None:
    container = api.fake.runtime.create("cat")
    async with limited(api, Scope(read_only=True)) as ask:
        for path in ("/_ping", "/version", "/v1.44/containers/json", f"/containers/{container}/json", "/networks"):
            assert (await ask("GET", path)).status == 200
        for (method, path), operation in OPERATIONS.items():
            if operation.looks or operation.reach is Reach.CARRIES or method == "OPTIONS":
                continue
            concrete = path.replace("{id}", container).replace("{name}", "x").replace("{name+}", "x")
            answer = await ask(method, concrete.replace("{id+}", "x"), json={})
            assert answer.status == 403, (method, path)
            assert answer.message == f"this socket is read-only: {operation.name} is not allowed"
    assert container in api.fake.runtime.containers.held  # all of them are there


async def test_who_may_look_cannot_have_the_engine_ask_whoever_it_can_reach(api: Api) -> None:
    """A registry's address is any address, and the engine may be where its client is not."""
    async with limited(api, Scope(read_only=True)) as ask:
        for path in ("/images/search?term=10.0.0.1:80/x", "/distribution/10.0.0.1:80/x/json"):
            assert (await ask("GET", path)).status == 403
    assert {METHODS[f"/sampan.image.v1.Images/{name}"].looks for name in ("Inspect", "Search", "Tags")} == {False}


@pytest.mark.parametrize(
    "path",
    [
        "//containers/{}/start", "/v1.44//containers//{}/start", "/v1.44/containers/{}%2Fstart",
        "/%76%31.44/containers/{}/start", "/containers/x/%2e%2e/{}/start", "/containers/{}/start?x=/json",
        "/containers/{}/%73tart", "/v1.44/containers/{}/start#", "/CONTAINERS/{}/start",
        "/v1.44/v1.44/containers/{}/start",
    ],
)  # fmt: skip
async def test_ways_of_writing_a_path_do_not_get_around_it(api: Api, path: str) -> None:
    container = api.fake.runtime.create("cat")
    async with limited(api, Scope(read_only=True)) as ask:
        assert (await ask("POST", path.format(container))).status in (400, 403, 404)
    assert not running(api, container)


async def test_upgrades_and_ambiguous_lengths_do_not_get_around_it(api: Api) -> None:
    container = api.fake.runtime.create("cat")
    start = head_of("POST", f"/containers/{container}/start", upgrade=False)
    async with limited(api, Scope(read_only=True)) as ask:
        for path in (
            f"/containers/{container}/attach?stream=1",
            f"/containers/{container}/attach/ws",
            "/grpc",
            "/session",
        ):
            method = "GET" if path.endswith("ws") else "POST"
            assert b" 403 " in (await ask.raw(head_of(method, path))).splitlines()[0]
        assert b"101" not in (await ask.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))[:20]
        both = start.replace(b"Content-Length: 0", b"Content-Length: 4\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n"
        two = start.replace(b"Content-Length: 0", b"Content-Length: 0\r\nContent-Length: 60")
        for data in (both, two, head_of("GET", "/_ping", upgrade=False) + start):
            assert b" 204 " not in await ask.raw(data)
    assert not running(api, container)


HOST = [
    {"Privileged": True}, {"privileged": True}, {"PRIVILEGED": True}, {"NetworkMode": "host"}, {"PidMode": "host"},
    {"IpcMode": "host"}, {"UTSMode": "host"}, {"CgroupnsMode": "host"}, {"UsernsMode": "host"},
    {"CapAdd": ["SYS_ADMIN"]}, {"CapAdd": ["ALL"]}, {"CapAdd": ["cap_sys_ptrace"]}, {"Binds": ["/:/host"]},
    {"binds": ["/etc:/host:ro"]}, {"Binds": ["/srv/ok/../..:/host"]}, {"Binds": ["/srv/ok/below:/host"]},
    {"Mounts": [{"Type": "bind", "Source": "/", "Target": "/host"}]},
    {"mounts": [{"type": "bind", "source": "/", "target": "/host"}]},
    {"Mounts": [{"Type": "volume", "Target": "/host", "VolumeOptions": {"DriverConfig": {"Options": {
        "type": "none", "o": "bind", "device": "/"}}}}]},
    {"Mounts": [{"Type": "volume", "Target": "/h", "VolumeOptions": {"driverconfig": {"name": "local", "options": {
        "device": "/"}}}}]},
    {"Devices": [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda", "CgroupPermissions": "rwm"}]},
    {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["vendor.example/gpu=all"]}]},
    {"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]},
    {"DeviceCgroupRules": ["a *:* rwm"]}, {"SecurityOpt": ["seccomp=unconfined"]},
    {"SecurityOpt": ["apparmor=unconfined"]},
    {"SecurityOpt": ["systempaths=unconfined"]}, {"SecurityOpt": ["label=disable"]}, {"MaskedPaths": []},
    {"ReadonlyPaths": []}, {"CgroupParent": "/"}, {"Runtime": "runc"}, {"Annotations": {"run.oci.hooks": "x"}},
    {"Sysctls": {"kernel.shmmax": "1"}}, {"LogConfig": {"Type": "syslog", "Config": {}}}, {"OomScoreAdj": -1000},
    {"Binds": ["/srv/ok:/host:rshared"]}, {"VolumesFrom": ["{privileged}"]}, {"PidMode": "container:{privileged}"},
    {"NetworkMode": "container:{privileged}"}, {"Binds": ["evil:/host"]},
    {"Tmpfs": {"/link-to-sys": "remount,rw"}}, {"Tmpfs": {"/t": "exec,rbind"}}, {"Tmpfs": {"/t": "rshared"}},
    {"Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"Options": [["exec"], ["remount"]]}}]},
    {"Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"Options": [["rw,remount"]]}}]},
    {"Sysctls": {"net.core/../../kernel/core_pattern": "1"}}, {"Sysctls": {"net.//.kernel.core_pattern": "1"}},
    {"Sysctls": {"net.": "1"}}, {"Sysctls": {"net.ipv4.ip_forward\n": "1"}},
    {"Ulimits": [{"Name": "rtprio", "Soft": 99, "Hard": 99}]}, {"Ulimits": [{"Name": "nice", "Soft": 40, "Hard": 40}]},
]  # fmt: skip


@pytest.mark.parametrize("host", HOST, ids=lambda host: str(host)[:60])
async def test_no_host_gives_nobody_the_host(api: Api, host: dict[str, Any]) -> None:
    privileged = privileged_one(api)
    if host == {"Binds": ["evil:/host"]}:  # made elsewhere, by somebody who may
        assert (await api.post("/volumes/create", json={"Name": "evil", "DriverOpts": {"device": "/"}})).status == 201
    given = eval(repr(host).replace("{privileged}", privileged))
    before = len(api.fake.runtime.containers.held)
    async with limited(api, Scope(no_host=True, binds=("/srv/ok",))) as ask:
        answer = await ask("POST", "/containers/create", json={"Image": "busybox", "HostConfig": given})
        assert answer.status == 403, answer.body
        assert "this socket gives nobody the host: container.create is not allowed: " in answer.message
    assert len(api.fake.runtime.containers.held) == before


async def test_no_host_lets_the_rest_be(api: Api) -> None:
    async with limited(api, Scope(no_host=True, binds=("/srv/ok",))) as ask:
        host = {
            "Binds": ["/srv/ok:/data", "named:/v"], "NetworkMode": "bridge", "Memory": 1 << 24, "MaskedPaths": None,
            "SecurityOpt": ["no-new-privileges"], "CapDrop": ["ALL"], "CapAdd": ["CHOWN"],
            "Tmpfs": {"/t": "exec,size=1m,mode=1777,huge=never,uid=0"},
            "Sysctls": {"net.ipv4.ip_forward": "1", "net.ipv4.conf.all/rp_filter": "0"},
        }  # fmt: skip
        made = await ask("POST", "/containers/create", json={"Image": "busybox", "HostConfig": host})
        assert made.status in (201, 404), made.body  # the fake has no such image, maybe; nobody objects
        assert "this socket" not in made.body.decode()


async def test_no_host_keeps_out_of_containers_that_have_it(api: Api) -> None:
    privileged = privileged_one(api)
    plain = api.fake.runtime.create("cat")
    async with limited(api, Scope(no_host=True)) as ask:
        for method, path in (
            ("POST", "start"), ("POST", "restart"), ("POST", "exec"), ("POST", "attach"), ("GET", "archive?path=/"),
            ("PUT", "archive?path=/"), ("GET", "export"), ("POST", "rename?name=x"), ("GET", "attach/ws"),
        ):  # fmt: skip
            answer = await ask(method, f"/containers/{privileged}/{path}", json={"Cmd": ["id"]})
            assert answer.status == 403, path
            assert "privileged" in answer.message
        for name in (privileged, privileged[:12]):
            answer = await ask("POST", f"/commit?container={name}&repo=x", json={})
            assert (answer.status, answer.message.endswith("has privileged")) == (403, True), answer.message
        body = {"Cmd": ["id"], "Privileged": True}
        assert (await ask("POST", f"/containers/{plain}/exec", json=body)).status == 403
        assert (await ask("POST", f"/containers/{plain}/exec", json={"Cmd": ["id"], "pRIVILEGED": True})).status == 403
        assert (await ask("POST", f"/containers/{plain}/start")).status == 204
        update = {"Devices": [{"PathOnHost": "/dev/sda"}]}
        assert (await ask("POST", f"/containers/{plain}/update", json=update)).status == 403
        for path in ("/build", "/grpc", "/session"):
            assert (await ask("POST", path)).status == 403
        for options in ({"DriverOpts": {"device": "/"}}, {"driveropts": {"device": "/"}}, {"Driver": "other"}):
            assert (await ask("POST", "/volumes/create", json={"Name": "v", **options})).status == 403
        for network in ({"Driver": "macvlan"}, {"Options": {"parent": "eth0"}}, {"ConfigFrom": {"Network": "x"}}):
            assert (await ask("POST", "/networks/create", json={"Name": "n", **network})).status == 403
        assert (await ask("POST", "/images/create?fromSrc=http://169.254.169.254/")).status == 403


async def test_what_others_have_of_the_host_is_found_where_it_is(api: Api) -> None:
    """In a volume that mounts a directory, in namespaces of a container that is in the host's, in a prepared exec."""
    await api.post("/volumes/create", json={"Name": "evil", "DriverOpts": {"device": "/"}})
    holder, sharer, after, plain = (api.fake.runtime.create("cat") for _ in range(4))
    held = api.fake.runtime.containers.held
    held[holder].record.mounts.add(type=Mount.VOLUME, name="evil", target="/host")
    privileged = privileged_one(api)
    held[sharer].record.spec.namespaces.pid = f"container:{privileged}"
    held[after].record.spec.namespaces.network = "container:gone"
    async with limited(api, Scope(no_host=True)) as ask:
        for container, what in (
            (holder, "volume evil, which has options"),
            (sharer, "which has privileged"),
            (after, "namespaces of a container that is gone"),
        ):
            answer = await ask("POST", f"/containers/{container}/exec", json={"Cmd": ["id"]})
            assert (answer.status, answer.message.endswith(what)) == (403, True), answer.message
            body = {"Image": "busybox", "HostConfig": {"VolumesFrom": [container]}}
            assert (await ask("POST", "/containers/create", json=body)).status == 403
        await api.post(f"/containers/{plain}/start")
        prepared = (await api.post(f"/containers/{plain}/exec", json={"Cmd": ["id"], "Privileged": True})).json["Id"]
        assert (await ask("GET", f"/exec/{prepared}/json")).status == 200
        assert (await ask("POST", f"/exec/{prepared}/start", json={})).status == 403


async def test_addresses_that_could_be_somebody_else_s_are_not_for_who_has_no_host(api: Api) -> None:
    pool = {"IPAM": {"Config": [{"Subnet": "8.8.8.0/24", "Gateway": "8.8.8.8"}]}}
    async with limited(api, Scope(no_host=True)) as ask:
        answer = await ask("POST", "/networks/create", json={"Name": "n", **pool})
        assert answer.message.endswith("the addresses 8.8.8.0/24, which could be somebody else's")
        assert (await ask("POST", "/networks/create", json={"Name": "n"})).status == 201


async def test_names_mean_what_was_looked_at_though_they_are_given_up_meanwhile(api: Api) -> None:
    """What is named as another one's ID begins stands in front of it, for as long as it is there."""
    privileged = privileged_one(api)
    mine, other = api.fake.runtime.create("cat"), api.fake.runtime.create("cat")
    held = api.fake.runtime.containers.held
    held[mine].record.spec.name = privileged[:12]
    api.fake.images.add(image("busybox:latest"))
    network = (await api.post("/networks/create", json={"Name": "fedcba"})).json["Id"]
    body = {
        "Image": "busybox",
        "HostConfig": {"PidMode": f"container:{privileged[:12]}", "NetworkMode": "fedcba", "VolumesFrom": [other]},
        "NetworkingConfig": {"EndpointsConfig": {"fedcba": {}}},
    }
    async with limited(api, Scope(no_host=True)) as ask:
        made = (await ask("POST", "/containers/create", json=body)).json["Id"]
        asked = held[made].record.spec
        assert asked.namespaces.pid == f"container:{mine}"
        assert asked.namespaces.network == network
        assert [endpoint.network for endpoint in asked.endpoints] == [network]
        linking = {"Image": "busybox", "HostConfig": {"Links": [f"{privileged[:12]}:db"]}}
        linked = (await ask("POST", "/containers/create", json=linking)).json["Id"]
        assert [list(endpoint.links) for endpoint in held[linked].record.spec.endpoints] == [[f"{mine}:db"]]
        assert (await ask("POST", "/networks/fedcba/connect", json={"Container": privileged[:12]})).status == 200
        assert [(to, container) for to, container, _ in api.fake.runtime.networks.connected] == [(network, mine)]


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"\xff", b'"x"', b'{"HostConfig":[]}', b'{"HostConfig":{"Privileged":"yes"}}']
)
async def test_a_body_that_cannot_be_read_is_refused(api: Api, body: bytes) -> None:
    before = len(api.fake.runtime.containers.held)
    async with limited(api, Scope(no_host=True)) as ask:
        answer = await ask.raw(head_of("POST", "/containers/create", upgrade=False, body=body))
    assert int(answer.split()[1]) in (400, 403)
    assert len(api.fake.runtime.containers.held) == before


async def test_only_what_has_the_label_is_there(api: Api) -> None:
    mine = labelled(api, "blue")
    other = labelled(api, "red")
    async with limited(api, Scope(no_host=True, label=LABEL)) as ask:
        assert (await ask("GET", f"/containers/{mine}/json")).status == 200
        for method, path in (("GET", "json"), ("POST", "start"), ("POST", "exec"), ("GET", "logs?stdout=1")):
            answer = await ask(method, f"/containers/{other}/{path}", json={"Cmd": ["id"]})
            assert (answer.status, answer.message) == (404, f"No such container: {other}")
        await api.post(f"/containers/{other}/start")
        theirs = (await api.post(f"/containers/{other}/exec", json={"Cmd": ["id"]})).json["Id"]
        for method, path in (("GET", "json"), ("POST", "start"), ("POST", "resize?h=1&w=1")):
            answer = await ask(method, f"/exec/{theirs}/{path}", json={})
            assert (answer.status, answer.message) == (404, f"No such exec instance: {theirs}")
        assert (await ask("DELETE", f"/containers/{other}?force=1")).status == 404
        for labels in ({}, {"team": "red"}, {"Team": "blue"}):
            body = {"Image": "busybox", "Labels": labels}
            answer = await ask("POST", "/containers/create", json=body)
            assert answer.message == "this socket makes nothing without the label team=blue"
        joining = {"Image": "busybox", "Labels": {"team": "blue"}, "HostConfig": {"PidMode": f"container:{other}"}}
        assert (await ask("POST", "/containers/create", json=joining)).message == f"No such container: {other}"
        assert (await ask("POST", "/volumes/create", json={"Name": "v"})).status == 403
        for method, path in (
            ("GET", "/system/df"),
            ("DELETE", "/images/x"),
            ("POST", "/commit"),
            ("POST", "/images/prune"),
        ):
            assert (await ask(method, path)).status == 403
    assert set(api.fake.runtime.containers.held) == {mine, other}


async def test_operations_are_a_list(api: Api) -> None:
    container = api.fake.runtime.create("cat")
    scope = make_scope(
        read_only=False, no_host=False, binds=(), only_label="", operations=("*.list", "container.start")
    )
    async with limited(api, scope) as ask:
        assert (await ask("GET", "/containers/json")).status == 200
        assert (await ask("GET", "/networks/")).status == 200
        assert (await ask("POST", f"/containers/{container}/start")).status == 204
        assert (await ask("GET", f"/containers/{container}/json")).message == (
            "this socket does not allow container.inspect"
        )
        assert (await ask("GET", "/nothing")).status == 404


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"operations": ("container.inspekt",)}, "did you mean 'container.inspect'"),
        ({"binds": ("/srv",)}, "no_host, which is not set"),
        ({"no_host": True, "binds": ("srv",)}, "not an absolute path"),
        ({"no_host": True, "binds": ("/srv/../etc",)}, "not an absolute path"),
        ({"no_host": True, "binds": ("/srv", "/srv/a")}, "could swap"),
        ({"only_label": "a=b"}, "keeps nobody in"),
        ({"no_host": True, "only_label": "=b"}, "is no label"),
    ],
)
def test_a_scope_that_keeps_nobody_in_is_refused(given: dict[str, Any], said: str) -> None:
    default: dict[str, Any] = {"read_only": False, "no_host": False, "binds": (), "only_label": "", "operations": ()}
    with pytest.raises(InvalidArgumentError, match=said):
        make_scope(**default | given)


def test_the_default_spec_has_nothing_of_the_host() -> None:
    assert not list(host_access.of_container(ContainerSpec(), ()))


def test_control_groups_are_the_hosts_for_who_asks_and_not_where_the_engine_has_chosen_so() -> None:
    spec = ContainerSpec(namespaces=Namespaces(cgroup="host", pid="host"))
    assert list(host_access.of_container(spec, ())) == ["the host's pid namespace", "the host's cgroup namespace"]
    made = host_access.without_defaults(spec)
    assert list(host_access.of_container(made, ())) == ["the host's pid namespace"]


async def test_what_the_engine_fills_in_keeps_nobody_out(api: Api) -> None:
    container = api.fake.runtime.create("cat")
    spec = api.fake.runtime.containers.held[container].record.spec
    spec.log.driver, spec.namespaces.cgroup, spec.resources.cgroup_parent = "syslog", "host", "/team"
    spec.resources.ulimits.add(name="rtprio", soft=1, hard=1)
    spec.security.options.append("seccomp=unconfined")
    async with limited(api, Scope(no_host=True)) as ask:
        answer = await ask("POST", f"/containers/{container}/start")
        assert answer.message.endswith("a seccomp profile of one's own")  # the engine's own is the built-in one
        api.fake.runtime.host.seccomp_profile = "unconfined"
        assert (await ask("POST", f"/containers/{container}/start")).status == 204


async def test_a_socket_without_a_scope_knows_no_limits(api: Api) -> None:
    container = privileged_one(api)
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", f"/containers/{container}/attach?stream=1&stdout=1"))
        assert (await read_head(reader))[0] == 101
