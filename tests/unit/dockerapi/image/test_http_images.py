"""Images over HTTP."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from sampan.disk import LEASE, Holder, StoredObject
from sampan.errors import DataLossError, InvalidArgumentError, UnauthenticatedError
from sampan.oci.chain import chain_ids
from tests.fakes.engine import MANIFEST, image
from tests.fakes.engine_layers import DIFF_IDS
from tests.unit.dockerapi.support import Api, head_of, read_head


def auth(username: str) -> dict[str, str]:
    text = base64.urlsafe_b64encode(json.dumps({"username": username, "password": "p"}).encode()).decode()
    return {"X-Registry-Auth": text}


async def test_a_pull_streams_messages_and_leaves_the_image(api: Api) -> None:
    api.fake.images.remote["localhost:5000/a:1"] = image("localhost:5000/a:1")
    answer = await api.post("/images/create?fromImage=localhost:5000/a&tag=1", headers=auth("me"))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    statuses = [line["status"] for line in answer.lines]
    assert statuses[0] == "Pulling from a"
    assert statuses[-1] == "Status: Downloaded newer image for localhost:5000/a:1"
    assert {"Pulling fs layer", "Download complete", "Pull complete"} <= set(statuses)
    assert api.fake.images.credentials[0].username == "me"
    assert (await api.get("/images/localhost:5000/a:1/json")).status == 200
    again = await api.post("/images/create?fromImage=localhost:5000/a&tag=1")
    assert again.lines[-1]["status"] == "Status: Image is up to date for localhost:5000/a:1"


async def test_a_pull_without_a_tag_is_one_of_all_tags(api: Api) -> None:
    for tag in ("1", "2"):
        api.fake.images.remote[f"localhost:5000/a:{tag}"] = image(f"localhost:5000/a:{tag}")
    statuses = [line["status"] for line in (await api.post("/images/create?fromImage=localhost:5000/a")).lines]
    assert statuses.count("Pulling from a") == 2
    assert [status for status in statuses if status.startswith("Status: ")] == [
        "Status: Downloaded newer image for localhost:5000/a"
    ]
    assert statuses[-1].startswith("Status: ")
    for tag in ("1", "2"):
        assert (await api.get(f"/images/localhost:5000/a:{tag}/json")).status == 200
    again = await api.post("/images/create?fromImage=localhost:5000/a")
    assert again.lines[-1]["status"] == "Status: Image is up to date for localhost:5000/a"


async def test_a_pull_of_nothing_is_an_error_with_a_status(api: Api) -> None:
    answer = await api.post("/images/create?fromImage=nope&tag=latest")
    assert answer.status == 404
    assert answer.message.startswith("pull access denied for nope, repository does not exist or may require")


async def test_a_registry_that_wants_credentials_is_not_mistaken_for_the_engine(api: Api) -> None:
    api.fake.images.refuse = UnauthenticatedError("no basic auth credentials")
    answer = await api.post("/images/create?fromImage=nope&tag=latest")
    assert (answer.status, answer.message) == (500, "no basic auth credentials")


async def test_a_pull_that_fails_later_says_so_in_the_stream(api: Api) -> None:
    api.fake.images.remote["a:latest"] = image("a:latest")
    api.fake.images.fail_after_resolve = DataLossError("layer is not what its digest says")
    answer = await api.post("/images/create?fromImage=a&tag=latest")
    assert answer.status == 200
    assert answer.lines[-1] == {
        "errorDetail": {"message": "layer is not what its digest says"},
        "error": "layer is not what its digest says",
    }


@pytest.mark.parametrize(
    "query", ["", "?fromImage=UPPER", "?fromImage=a&platform=x/y/z/w", "?fromSrc=ftp://somewhere", "?fromSrc=http://"]
)
async def test_bad_pulls_are_bad_requests(api: Api, query: str) -> None:
    assert (await api.post(f"/images/create{query}")).status == 400


async def test_credentials_that_cannot_be_read_are_nobodys(api: Api) -> None:
    for query in ("/images/create?fromImage=a", "/images/a/push"):
        assert (await api.post(query, headers={"X-Registry-Auth": "%"})).status == 200


async def test_import_takes_the_body_and_names_the_image(api: Api) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100_000

    answer = await api.post("/images/create?fromSrc=-&repo=mine&tag=1&changes=CMD%20sh", data=body())
    assert answer.status == 200
    assert answer.lines[-1]["status"].startswith("sha256:")
    assert len(api.fake.images.imported) == 4_000_000


async def test_an_import_that_is_refused_while_its_body_still_comes_is_answered(api: Api) -> None:
    api.fake.images.refuse = InvalidArgumentError("not a tar archive")
    async with api.raw() as (reader, writer):
        writer.write(b"POST /images/create?fromSrc=- HTTP/1.1\r\nHost: docker\r\nContent-Length: 5000000\r\n\r\n")
        writer.write(b"x" * 2_000_000)
        status, headers = await asyncio.wait_for(read_head(reader), 60)
        assert (status, int(headers["content-length"])) == (400, len(b'{"message":"not a tar archive"}\n'))
        await reader.readexactly(int(headers["content-length"]))
        writer.write(b"x" * 3_000_000 + head_of("GET", "/_ping", upgrade=False))
        assert (await asyncio.wait_for(read_head(reader), 60))[0] == 200


async def test_the_list_has_docker_s_shape(api: Api) -> None:
    api.fake.images.add(image("a:1"))
    (row,) = (await api.get("/images/json")).json
    assert (row["RepoTags"], row["Size"], row["SharedSize"], row["Containers"]) == (["a:1"], 3500, -1, 0)
    (before,) = (await api.get("/v1.50/images/json")).json
    assert before["Containers"] == -1
    assert "VirtualSize" not in row
    (old,) = (await api.get("/v1.43/images/json")).json
    assert old["VirtualSize"] == 3500


async def test_the_list_leaves_out_nameless_steps_unless_it_has_filters_or_is_of_all(api: Api) -> None:
    step = api.fake.images.add(image("", created_s=1_600_000_000))
    api.fake.images.add(image("a:1")).parent = step.id
    filters = json.dumps({"dangling": ["true"]})
    lists: tuple[dict[str, str], ...] = ({}, {"all": "1"}, {"filters": filters})
    counts = [len((await api.get("/images/json", params=params)).json) for params in lists]
    assert counts == [1, 2, 1]
    assert [row["Id"] for row in (await api.get("/images/json", params={"filters": filters})).json] == [step.id]


async def test_a_dangling_image_is_spelled_out_for_old_clients_only(api: Api) -> None:
    api.fake.images.add(image(""))
    (new,) = (await api.get("/images/json")).json
    (old,) = (await api.get("/v1.42/images/json")).json
    assert (new["RepoTags"], new["RepoDigests"]) == ([], [])
    assert (old["RepoTags"], old["RepoDigests"]) == (["<none>:<none>"], ["<none>@<none>"])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"reference": ["a"]}, ["a:1"]),
        ({"reference": ["*:1"]}, ["a:1"]),
        ({"reference": ["localhost:5000/*"]}, ["localhost:5000/b:2"]),
        ({"reference": ["localhost:5000/*:2"]}, ["localhost:5000/b:2"]),
        ({"reference": ["*"]}, ["a:1"]),
        ({"label": ["x=1"]}, ["localhost:5000/b:2"]),
        ({"label": ["x"]}, ["localhost:5000/b:2"]),
        ({"label": ["x=2"]}, []),
        ({"before": ["localhost:5000/b:2"]}, ["a:1"]),
        ({"since": ["a:1"]}, ["localhost:5000/b:2"]),
        ({"dangling": ["false"]}, ["localhost:5000/b:2", "a:1"]),
        ({"dangling": ["true"]}, []),
        ({"until": ["1700000001"]}, ["a:1"]),
    ],
)
async def test_filters(api: Api, filters: dict[str, list[str]], expected: list[str]) -> None:
    api.fake.images.add(image("a:1", created_s=1_700_000_000))
    api.fake.images.add(image("localhost:5000/b:2", created_s=1_700_000_100, labels={"x": "1"}))
    rows = (await api.get("/images/json", params={"filters": json.dumps(filters)})).json
    assert [name for row in rows for name in row["RepoTags"]] == expected


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"foo": ["x"]}, "invalid filter 'foo'"),
        ({"dangling": ["maybe"]}, "invalid filter 'dangling=[maybe]'"),
        ({"dangling": ["T"]}, "invalid filter 'dangling=[T]'"),
        ({"dangling": ["true", "false"]}, "invalid filter 'dangling=[true false]'"),
        ({"until": ["xx"]}, 'failed to parse value as time or duration: "xx"'),
        ({"until": ["2022-13-01"]}, 'parsing time "2022-13-01": month out of range'),
        ({"until": ["2022-02-30"]}, 'parsing time "2022-02-30": day out of range'),
        ({"until": ["-"]}, 'parsing time "-" as "2006-01-02": cannot parse "-" as "2006"'),
        ({"reference": ["["]}, "syntax error in pattern"),
        ({"before": ["nope"]}, "No such image: nope:latest"),
        ({"since": ["nope:1"]}, "No such image: nope:1"),
    ],
)
async def test_bad_filters_are_refused_in_docker_s_words(api: Api, filters: dict[str, list[str]], message: str) -> None:
    api.fake.images.add(image("a:1"))
    assert (await api.get("/images/json", params={"filters": json.dumps(filters)})).message == message
    if "until" in filters or "dangling" in filters:
        assert (await api.post(f"/images/prune?filters={quote(json.dumps(filters))}")).message == message


async def test_of_an_image_with_several_names_only_those_that_match_are_shown(api: Api) -> None:
    known = api.fake.images.add(image("a:1"))
    known.repo_tags.append("localhost:5000/b:2")
    known.repo_digests.append(known.repo_digests[0].replace("a@", "localhost:5000/b@"))
    (row,) = (await api.get("/images/json", params={"filters": json.dumps({"reference": ["a"]})})).json
    assert (row["RepoTags"], len(row["RepoDigests"])) == (["a:1"], 1)


@pytest.mark.parametrize(
    ("filters", "status"), [({"color": ["red"]}, 400), ({"dangling": ["perhaps"]}, 400), ({"before": ["nope"]}, 404)]
)
async def test_bad_filters(api: Api, filters: dict[str, list[str]], status: int) -> None:
    assert (await api.get("/images/json", params={"filters": json.dumps(filters)})).status == status


async def test_inspect_and_history(api: Api) -> None:
    known = api.fake.images.add(image("localhost:5000/team/a:1", exposed_ports=["80/tcp"]))
    inspected = (await api.get("/images/localhost:5000/team/a:1/json")).json
    assert inspected["Id"] == known.id
    assert inspected["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert inspected["RootFS"]["Layers"] == [layer.diff_id for layer in known.layers]
    assert inspected["GraphDriver"]["Name"] == "overlayfs"
    history = (await api.get("/images/localhost:5000/team/a:1/history")).json
    assert [(row["CreatedBy"], row["Size"]) for row in history] == [
        ("RUN something", 500),
        ("CMD sh", 0),
        ("ADD rootfs", 3000),
    ]
    assert (history[0]["Id"], history[1]["Id"]) == (known.id, "<missing>")


async def test_unknown_images_are_not_found_in_docker_s_words(api: Api) -> None:
    for answer in (await api.get("/images/nope/json"), await api.delete("/images/nope")):
        assert (answer.status, answer.message) == (404, "No such image: nope:latest")


async def test_tag_and_remove(api: Api) -> None:
    api.fake.images.add(image("a:1"))
    assert (await api.post("/images/a:1/tag?repo=localhost:5000/b&tag=2")).status == 201
    assert (await api.get("/images/localhost:5000/b:2/json")).status == 200
    assert (await api.post("/images/a:1/tag")).status == 400
    assert (await api.delete("/images/a:1")).json == [{"Untagged": "a:1"}, {"Untagged": f"a@{MANIFEST}"}]
    removed = (await api.delete("/images/localhost:5000/b:2")).json
    assert {"Untagged": "localhost:5000/b:2"} in removed
    base, top = chain_ids(DIFF_IDS)
    assert [row["Deleted"] for row in removed if "Deleted" in row] == [image("a:1").id, top, base]


async def test_image_that_a_container_uses_is_not_removed(api: Api) -> None:
    one = api.fake.images.add(image("a:1"))
    created = await api.post("/containers/create", json={"Image": "a:1", "Cmd": ["sh"]})
    refused = await api.delete("/images/a:1")
    assert (refused.status, refused.message) == (
        409,
        'conflict: unable to remove repository reference "a:1" (must force) - '
        f"container {created.json['Id'][:12]} is using its referenced image {one.id[7:19]}",
    )
    assert "must be forced" in (await api.delete(f"/images/{one.id}")).message


@pytest.mark.parametrize(("offset", "is_older"), [("-14:00", True), ("+14:00", False)])
async def test_dates_are_read_in_the_zone_of_the_engine(api: Api, offset: str, is_older: bool) -> None:
    api.fake.images.add(image("", created_s=1_430_481_600))  # 2015-05-01T12:00:00Z
    api.fake.runtime.host.system_time = f"2026-05-01T12:00:00{offset}"
    filters = quote(json.dumps({"until": ["2015-05-02"]}))
    assert bool((await api.get(f"/images/json?filters={filters}")).json) is is_older
    assert bool((await api.post(f"/images/prune?filters={filters}")).json["ImagesDeleted"]) is is_older


async def test_prune_of_nothing_says_null(api: Api) -> None:
    assert (await api.post("/images/prune")).json == {"ImagesDeleted": None, "SpaceReclaimed": 0}


@pytest.mark.parametrize(
    ("filters", "gone"),
    [
        ({}, {"dangling"}),
        ({"dangling": ["true"]}, {"dangling"}),
        ({"dangling": ["false"]}, {"dangling", "old", "labelled"}),
        ({"dangling": ["0"], "until": ["2010-01-01T00:00:00Z"]}, {"old"}),
        ({"dangling": ["0"], "until": ["10000h"], "label!": ["tier"]}, {"dangling", "old"}),
        ({"dangling": ["0"], "label": ["tier=web"]}, {"labelled"}),
        ({"dangling": ["0"], "label": ["tier=web", "other"]}, set()),
    ],
)
async def test_prune_takes_what_its_filters_leave_and_no_container_uses(
    api: Api, filters: dict[str, list[str]], gone: set[str]
) -> None:
    images = {
        "dangling": api.fake.images.add(image("")),
        "old": api.fake.images.add(image("old:1", created_s=1_000_000_000)),
        "labelled": api.fake.images.add(image("new:1", labels={"tier": "web"})),
        "used": api.fake.images.add(image("used:1")),
    }
    container = api.fake.runtime.create("true")
    api.fake.runtime.containers.held[container].record.spec.image_id = images["used"].id
    deleted = (await api.post(f"/images/prune?filters={quote(json.dumps(filters))}")).json["ImagesDeleted"] or []
    went = {row["Deleted"] for row in deleted if "Deleted" in row}
    assert went == {images[name].id for name in gone} | (set(chain_ids(DIFF_IDS)) if gone else set())


@pytest.mark.parametrize(
    "filters",
    [{"reference": ["a"]}, {"dangling": ["maybe"]}, {"until": ["1h", "2h"]}, {"until": ["yesterday"]}],
)
async def test_prune_refuses_filters_that_it_does_not_know(api: Api, filters: dict[str, list[str]]) -> None:
    api.fake.images.add(image(""))
    assert (await api.post(f"/images/prune?filters={quote(json.dumps(filters))}")).status == 400
    assert len(api.fake.images.images) == 1


async def test_prunes_say_what_passes_have_reclaimed(api: Api) -> None:
    lease = Holder(LEASE, "1", ("docker.io/x",))
    api.fake.content_disk.objects = [StoredObject("blob", "a", 100), StoredObject("partial", "b", 7, (lease,))]
    api.fake.layer_disk.objects = [StoredObject("layer", "c", 1000)]
    assert (await api.post("/images/prune")).json["SpaceReclaimed"] == 1100
    filters = quote(json.dumps({"until": ["24h"]}))
    assert (await api.post(f"/build/prune?filters={filters}")).json["SpaceReclaimed"] == 0
    assert (await api.post("/build/prune?filters={}")).json == {"CachesDeleted": None, "SpaceReclaimed": 7}
    actions = [(event.type, event.action, event.attributes["reclaimed"]) for event in api.fake.runtime.events.published]
    assert actions == [("image", "prune", "1100"), ("builder", "prune", "0"), ("builder", "prune", "7")]


async def test_a_client_that_leaves_cancels_its_pull(api: Api) -> None:
    api.fake.images.remote["a:latest"] = image("a:latest")
    api.fake.images.hang = True
    async with api.raw() as (reader, writer):
        writer.write(head_of("POST", "/images/create?fromImage=a", upgrade=False))
        await read_head(reader)
    await asyncio.wait_for(api.fake.images.fetch_cancelled.wait(), 60)


async def test_docker_compose_1_is_told_of_an_image_what_it_reads(api: Api) -> None:
    api.fake.images.add(image("a:1"))
    agent = {"User-Agent": "docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1"}
    assert "ContainerConfig" in (await api.get("/v1.50/images/a:1/json", headers=agent)).json
    assert "ContainerConfig" not in (await api.get("/v1.50/images/a:1/json")).json
