"""Containers over HTTP."""

import asyncio
import json
import tempfile
from pathlib import Path

import pytest
from yarl import URL

from sampan.engine.commit import of_the_user
from sampan.resource.container import Change, ChangeKind
from sampan.resource.event import Event
from sampan.resource.listing import EVERYONE
from tests.fakes.engine import image
from tests.unit.dockerapi.support import Api, head_of, read_head, running_api, unframe


def changed(path: str, kind: str) -> Change:
    return Change(path, ChangeKind[kind])


def test_changes_leave_out_what_the_engine_made_to_mount_on() -> None:
    found = [
        changed("/dev", "ADDED"),
        changed("/etc", "MODIFIED"),
        changed("/etc/hosts", "ADDED"),
        changed("/etc/passwd", "MODIFIED"),
        changed("/proc", "ADDED"),
        changed("/root", "DELETED"),
    ]
    assert [one.path for one in of_the_user(found)] == ["/etc", "/etc/passwd", "/root"]


async def created(api: Api, *cmd: str, query: str = "", **more: object) -> str:
    if not api.fake.images.images:
        api.fake.images.add(image("busybox:latest"))
    answer = await api.post(f"/v1.50/containers/create{query}", json={"Image": "busybox", "Cmd": list(cmd)} | more)
    assert answer.status == 201
    return str(answer.json["Id"])


async def test_create_merges_the_image_and_warns_of_nothing(api: Api) -> None:
    api.fake.images.add(image("busybox:latest", env=["A=1"], labels={"from": "image"}))
    answer = await api.post("/containers/create?name=web", json={"Image": "busybox", "Env": ["B=2"]})
    assert (answer.status, answer.json["Warnings"]) == (201, [])
    inspected = (await api.get("/containers/web/json")).json
    assert inspected["Name"] == "/web"
    assert inspected["Config"]["Env"] == ["B=2", "A=1"]
    assert inspected["Config"]["Cmd"] == ["sh"]
    assert inspected["Config"]["Labels"] == {"from": "image"}


async def test_create_from_an_unknown_image_is_not_found_in_docker_s_words(api: Api) -> None:
    answer = await api.post("/containers/create", json={"Image": "nope", "Cmd": ["true"]})
    assert (answer.status, answer.message) == (404, "No such image: nope:latest")


async def test_a_name_in_use_is_a_conflict_in_docker_s_words(api: Api) -> None:
    first = await created(api, "true", query="?name=web")
    answer = await api.post("/containers/create?name=web", json={"Image": "busybox", "Cmd": ["true"]})
    assert answer.status == 409
    assert answer.message == (
        f'Conflict. The container name "/web" is already in use by container "{first}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-tar"])
async def test_create_with_another_content_type_is_a_bad_request(api: Api, content_type: str) -> None:
    answer = await api.post("/containers/create", data=b"{}", headers={"Content-Type": content_type})
    assert answer.status == 400
    assert "Content-Type" in answer.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"Image": 5}'])
async def test_create_with_a_broken_body_is_a_bad_request(api: Api, body: bytes) -> None:
    answer = await api.post("/containers/create", data=body, headers={"Content-Type": "application/json"})
    assert answer.status == 400


async def test_a_life(api: Api) -> None:
    container = await created(api, "sleep")
    path = f"/v1.50/containers/{container}"
    assert (await api.post(f"{path}/start")).status == 204
    assert (await api.post(f"{path}/start")).status == 304
    assert (await api.get(f"{path}/json")).json["State"]["Running"] is True
    assert (await api.post(f"{path}/pause")).status == 204
    assert (await api.get(f"{path}/json")).json["State"]["Status"] == "paused"
    assert (await api.post(f"{path}/unpause")).status == 204
    assert (await api.delete(path)).status == 409
    assert (await api.post(f"{path}/stop?t=1")).status == 204
    assert (await api.post(f"{path}/stop")).status == 304
    assert (await api.post(f"{path}/kill")).status == 409
    assert (await api.get(f"{path}/json")).json["State"]["ExitCode"] == 137
    assert (await api.delete(path)).status == 204
    assert (await api.get(f"{path}/json")).message == f"No such container: {container}"
    killed = await api.post(f"{path}/kill")
    assert (killed.status, killed.message) == (
        404,
        f"Cannot kill container: {container}: No such container: {container}",
    )


async def test_a_name_may_have_its_slash(api: Api) -> None:
    container = await created(api, "true", query="?name=/web")
    for path in ("/containers//web/json", "/v1.50/containers/%2Fweb/json"):
        assert (await api.get(URL(f"http://docker{path}", encoded=True))).json["Id"] == container


async def test_a_command_that_is_not_there_is_a_bad_request(api: Api) -> None:
    container = await created(api, "missing")
    answer = await api.post(f"/containers/{container}/start")
    assert answer.status == 400
    assert "executable file not found in $PATH" in answer.message


async def test_not_modified_has_no_body(api: Api) -> None:
    container = await created(api, "sleep")
    answer = await api.post(f"/containers/{container}/stop")
    assert (answer.status, answer.body) == (304, b"")


async def test_the_list_shows_running_containers_and_with_all_every_one(api: Api) -> None:
    running, _ = await created(api, "sleep", "a b", query="?name=up"), await created(api, "true")
    await api.post(f"/containers/{running}/start")
    (row,) = (await api.get("/containers/json")).json
    assert (row["Id"], row["Names"], row["State"], row["Command"]) == (running, ["/up"], "running", "sleep 'a b'")
    assert row["Status"].startswith("Up ")
    assert row["HostConfig"] == {"NetworkMode": "bridge"}
    rows = (await api.get("/containers/json?all=1")).json
    assert [row["State"] for row in rows] == ["created", "running"]
    assert len((await api.get("/containers/json?limit=1")).json) == 1


async def test_filters_arrive_in_both_forms(api: Api) -> None:
    for filters in ({"label": ["a=b"]}, {"label": {"a=b": True}}):
        await api.get("/containers/json", params={"filters": json.dumps(filters)})
        assert list(api.fake.runtime.containers.listed[-1].filters["label"].values) == ["a=b"]


async def test_an_ancestor_is_looked_up(api: Api) -> None:
    known = api.fake.images.add(image("busybox:latest"))
    await api.get("/containers/json", params={"filters": json.dumps({"ancestor": ["busybox", "gone"]})})
    values = list(api.fake.runtime.containers.listed[-1].filters["ancestor"].values)
    assert values == ["busybox", "gone", known.id]


@pytest.mark.parametrize("filters", ["{", "[]", '{"a": 1}', '{"a": [1]}'])
async def test_broken_filters_are_bad_requests(api: Api, filters: str) -> None:
    assert (await api.get("/containers/json", params={"filters": filters})).status == 400


async def test_sizes_are_told_when_asked_for(api: Api) -> None:
    container = await created(api, "true")
    plain = (await api.get(f"/containers/{container}/json")).json
    sized = (await api.get(f"/containers/{container}/json?size=1")).json
    assert "SizeRw" not in plain
    assert (sized["SizeRw"], sized["SizeRootFs"]) == (7, 3507)


async def test_volumes_from_is_resolved(api: Api) -> None:
    source = await created(api, "true", query="?name=source")
    record = api.fake.runtime.containers.held[source].record
    record.mounts.add(type="VOLUME", name="v", driver="nfs", source="/v", target="/data", read_write=True)
    container = await created(api, "true", HostConfig={"VolumesFrom": ["source:ro"]})
    (mount,) = api.fake.runtime.containers.held[container].record.spec.mounts
    assert (mount.source, mount.target, mount.volume_driver, mount.read_only) == ("v", "/data", "nfs", True)


async def test_wait_sends_its_headers_before_the_container_ends(api: Api) -> None:
    container = await created(api, "exit", "5")
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", f"/v1.50/containers/{container}/wait?condition=next-exit", upgrade=False))
        status, _ = await asyncio.wait_for(read_head(reader), 60)
        assert status == 200
        await api.post(f"/containers/{container}/start")
        text = (await asyncio.wait_for(reader.readuntil(b"}"), 60)).partition(b"{")[2]
        assert b'"StatusCode":5' in text


async def test_wait_for_a_stopped_container_ends_at_once(api: Api) -> None:
    container = await created(api, "exit", "5")
    await api.post(f"/containers/{container}/start")
    assert (await api.post(f"/containers/{container}/wait")).json == {"StatusCode": 5}
    assert (await api.post(f"/containers/{container}/wait?condition=never")).status == 400
    assert (await api.post("/containers/nope/wait")).status == 404


async def test_a_client_that_leaves_ends_its_wait(api: Api) -> None:
    container = await created(api, "sleep")
    await api.post(f"/containers/{container}/start")
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", f"/containers/{container}/wait", upgrade=False))
        await read_head(reader)
    await asyncio.wait_for(api.fake.runtime.containers.wait_cancelled.wait(), 60)


async def test_logs_are_framed_or_raw(api: Api) -> None:
    framed, raw = await created(api, "true"), await created(api, "true", Tty=True)
    answer = await api.get(f"/v1.50/containers/{framed}/logs?stdout=1&stderr=1")
    assert answer.headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
    assert unframe(answer.body) == [(1, b"one\n"), (2, b"two\n"), (1, b"three\n")]
    assert (await api.get(f"/containers/{raw}/logs?stdout=1")).body == b"one\nthree\n"


async def test_logs_with_times_and_tail(api: Api) -> None:
    container = await created(api, "true", Tty=True)
    answer = await api.get(f"/containers/{container}/logs?stdout=1&timestamps=1&tail=1")
    assert answer.body == b"2023-11-14T22:13:20.000001000Z three\n"
    assert (await api.get(f"/containers/{container}/logs?stdout=1&tail=all")).body.count(b"\n") == 2


async def test_logs_want_a_stream(api: Api) -> None:
    container = await created(api, "true")
    assert (await api.get(f"/containers/{container}/logs")).status == 400
    assert (await api.get("/containers/nope/logs?stdout=1")).status == 404
    assert (await api.get(f"/containers/{container}/logs?stdout=1&since=soon")).status == 400


async def test_stats_once_and_as_a_stream(api: Api) -> None:
    container = await created(api, "sleep", query="?name=s")
    once = (await api.get(f"/containers/{container}/stats?stream=false")).json
    assert (once["name"], once["memory_stats"]["usage"], once["cpu_stats"]["online_cpus"]) == ("/s", 4096, 2)
    assert len((await api.get(f"/containers/{container}/stats")).lines) == 2
    assert (await api.get("/containers/nope/stats?stream=false")).status == 404


async def test_top_changes_resize_rename_update_prune(api: Api) -> None:
    container = await created(api, "true")
    path = f"/containers/{container}"
    assert (await api.get(f"{path}/top")).json == {"Titles": ["PID", "CMD"], "Processes": [["1", "sh"]]}
    assert (await api.get(f"{path}/changes")).json == [{"Path": "/etc", "Kind": 0}, {"Path": "/etc/new", "Kind": 1}]
    assert (await api.post(f"{path}/resize?h=24&w=80")).status == 200
    assert api.fake.runtime.containers.resized == [(24, 80)]
    assert (await api.post(f"{path}/resize?h=tall&w=80")).status == 400
    assert (await api.post(f"{path}/rename?name=other")).status == 204
    assert (await api.post(f"{path}/rename")).status == 400
    update = {"Memory": 1 << 20, "RestartPolicy": {"Name": "always"}}
    assert (await api.post(f"{path}/update", json=update)).json == {"Warnings": None}
    assert api.fake.runtime.containers.updated[0].restart_policy.name == "always"
    pruned = (await api.post("/containers/prune")).json
    assert pruned == {"ContainersDeleted": [container], "SpaceReclaimed": 1}
    assert (await api.post("/containers/prune")).json["ContainersDeleted"] is None


@pytest.mark.parametrize(("shown_owner", "shown"), [("", ["/web"]), (EVERYONE, ["/pod", "/web"])])
async def test_a_pod_s_containers_are_shown_where_that_is_configured(shown_owner: str, shown: list[str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        async with running_api(Path(root), shown_owner=shown_owner) as api:
            api.fake.runtime.create("sleep", name="web")
            theirs = api.fake.runtime.create("sleep", name="pod", owner="cri")
            listed = (await api.get("/containers/json?all=1")).json
            assert [row["Names"][0] for row in listed] == shown
            assert (await api.get(f"/containers/{theirs[:12]}/json")).json["Name"] == "/pod"
            assert (await api.get("/containers/pod/json")).status == 404
            made = Event("container", "make", theirs, owner="cri")
            await api.fake.runtime.events.publish((made, Event("container", "make", "ours")))
            told = (await api.get("/events?since=1&until=4000000000")).body.splitlines()
            assert len(told) == len(shown)
            await api.post("/containers/prune")
            assert (await api.get(f"/containers/{theirs}/json")).status == 200
