"""Versions, errors and the engine itself, over HTTP."""

import asyncio
from collections.abc import Sequence

import pytest

from sampan.build.request import UsageRecord
from sampan.engine import df
from sampan.engine.parts import LayerFacts
from sampan.errors import ServiceGoneError
from tests.unit.dockerapi.support import Api


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.50"])
async def test_ping_says_all_that_clients_negotiate_by(api: Api, method: str, prefix: str) -> None:
    answer = await api.request(method, f"{prefix}/_ping")
    assert answer.status == 200
    assert answer.body == (b"OK" if method == "GET" else b"")
    assert answer.headers["Api-Version"] == "1.52"
    assert answer.headers["Docker-Experimental"] == "false"
    assert answer.headers["Ostype"] == "linux"
    assert answer.headers["Builder-Version"] == "2"
    assert answer.headers["Server"].startswith("Docker/")


async def test_versions_out_of_range_are_bad_requests(api: Api) -> None:
    new, old = await api.get("/v1.99/info"), await api.get("/v1.12/info")
    assert (new.status, old.status) == (400, 400)
    assert new.message == "client version 1.99 is too new. Maximum supported API version is 1.52"
    assert old.message.startswith("client version 1.12 is too old. Minimum supported API version is 1.24")


@pytest.mark.parametrize(("method", "path"), [("GET", "/nope"), ("PUT", "/info"), ("GET", "/v1.50/containers/a/b/c")])
async def test_unknown_paths_and_methods_are_not_found(api: Api, method: str, path: str) -> None:
    answer = await api.request(method, path)
    assert (answer.status, answer.json) == (404, {"message": "page not found"})
    assert answer.headers["Api-Version"] == "1.52"


async def test_swarm_answers_as_a_node_outside_of_one(api: Api) -> None:
    listed, left = await api.get("/v1.50/services"), await api.post("/swarm/leave")
    assert (listed.status, left.status) == (503, 503)
    assert listed.message.startswith("This node is not a swarm manager.")
    assert left.message == "This node is not part of a swarm"


async def test_what_cannot_be_done_is_said_by_name(api: Api) -> None:
    answer = await api.post("/swarm/init")
    assert answer.status == 501
    assert answer.message == "swarm mode is not supported by this version of the engine"


async def test_a_service_that_is_gone_is_unavailable(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockerapi.http.server.RESTART_S", 0.3)  # how long it may take to come back
    api.fake.layout.socket("snapshotter").unlink()
    answer = await api.get("/info")
    assert answer.status == 503


async def test_a_bug_is_a_500_that_gives_nothing_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockerapi.system.system.version_json", lambda _: 1 / 0)
    answer = await api.get("/version")
    assert answer.status == 500
    assert "division" not in answer.message


async def test_version_names_the_engine_and_its_tools(api: Api) -> None:
    version = (await api.get("/version")).json
    assert (version["ApiVersion"], version["MinAPIVersion"], version["Os"]) == ("1.52", "1.24", "linux")
    assert [part["Name"] for part in version["Components"]] == ["Engine", "conmon", "runc"]


async def test_info_is_put_together_from_all_services(api: Api) -> None:
    info = (await api.get("/info")).json
    assert (info["Containers"], info["ContainersRunning"], info["Images"]) == (3, 1, 0)
    assert (info["Driver"], info["CgroupVersion"], info["DefaultRuntime"]) == ("overlayfs", "2", "runc")
    assert info["DriverStatus"][:2] == [
        ["driver-type", "io.containerd.snapshotter.v1"],
        ["Backing Filesystem", "extfs"],
    ]
    assert info["DockerRootDir"] == str(api.fake.layout.data_root)
    assert info["Swarm"]["LocalNodeState"] == "inactive"


async def test_requests_are_counted_by_route_and_never_by_name(api: Api) -> None:
    await api.get("/containers/some-name/json")
    await api.get("/v1.50/nonsense/some-name")
    labels = {"method": "GET", "route": "/containers/{id}/json", "code": "404"}
    assert api.registry.get_sample_value("sampan_http_requests_total", labels) == 1
    unknown = {"method": "unknown", "route": "unknown", "code": "404"}
    assert api.registry.get_sample_value("sampan_http_requests_total", unknown) == 1


async def test_container_actions_have_dockerd_s_series(api: Api) -> None:
    container = api.fake.runtime.create("true")
    await api.post(f"/containers/{container}/start")
    name = "engine_daemon_container_actions_seconds_count"
    assert api.registry.get_sample_value(name, {"action": "start"}) == 1
    assert api.registry.get_sample_value(name, {"action": "create"}) == 0


async def test_disk_usage_counts_shared_layers_once(api: Api) -> None:
    from tests.fakes.engine import image

    api.fake.images.add(image("a:1"))
    api.fake.images.add(image("b:1"))
    api.fake.runtime.create("true")
    usage = (await api.get("/system/df")).json
    assert usage["LayersSize"] == 3500
    assert [row["SharedSize"] for row in usage["Images"]] == [3500, 3500]
    assert len(usage["Containers"]) == 1
    assert usage["BuildCache"] == []
    assert list((await api.get("/v1.51/system/df?type=volume")).json) == ["Volumes"]
    assert (await api.get("/system/df?type=dust")).message == "unknown object type: dust"


async def test_disk_usage_without_a_builder_is_the_rest_and_a_warning(api: Api) -> None:
    api.fake.runtime.create("true")
    assert "Warning" not in (await api.get("/system/df")).headers
    api.fake.builder.records = ServiceGoneError("gone")
    answer = await api.get("/system/df")
    assert (len(answer.json["Containers"]), answer.json["BuildCache"]) == (1, [])
    assert "the build cache is not counted: service buildd does not answer" in answer.headers["Warning"]
    assert "Warning" not in (await api.get("/system/df?type=image")).headers


async def test_disk_usage_does_not_begin_with_the_builder_when_the_rest_is_known(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The builder may have to be started: each is asked while the other has not answered."""
    both = asyncio.Barrier(2)
    usage, sizes = api.fake.builder.usage, df.sizes

    async def usage_with_the_rest() -> Sequence[UsageRecord]:
        await both.wait()
        return await usage()

    async def sizes_with_the_builder(layers: LayerFacts, *, measure: bool = False) -> df.Sizes:
        await both.wait()
        return await sizes(layers, measure=measure)

    monkeypatch.setattr(api.fake.builder, "usage", usage_with_the_rest)
    monkeypatch.setattr(df, "sizes", sizes_with_the_builder)
    async with asyncio.timeout(60):
        assert (await api.get("/system/df")).status == 200


async def test_login(api: Api) -> None:
    right = await api.post("/auth", json={"username": "me", "password": "right", "serveraddress": "localhost:5000"})
    wrong = await api.post("/auth", json={"username": "me", "password": "wrong", "serveraddress": "localhost:5000"})
    assert (right.status, right.json["Status"]) == (200, "Login Succeeded")
    assert (wrong.status, wrong.message) == (401, "unauthorized: incorrect username or password")
