"""Lists of any length: more than a message may hold, with a slow client, and broken off."""

import asyncio

import aiohttp
import pytest

from sampan.engine import listing
from sampan.errors import UnavailableError
from tests.fakes.engine import image
from tests.unit.dockerapi.support import Api, head_of, read_head

_MUCH = "x" * 4_000_000


async def test_images_with_long_labels_are_all_listed(api: Api) -> None:
    """Five of them are more than a message of 16 MiB."""
    for number in range(5):
        api.fake.images.add(image(f"long:{number}", created_s=1_700_000_000 + number, labels={"much": _MUCH}))
    expected = [([f"long:{number}"], {"much": _MUCH}) for number in reversed(range(5))]
    rows = (await api.get("/images/json")).json
    assert [(row["RepoTags"], row["Labels"]) for row in rows] == expected
    used = (await api.get("/system/df")).json
    assert [(row["RepoTags"], row["Labels"]) for row in used["Images"]] == expected
    assert (used["LayersSize"], used["Containers"]) == (3500, [])
    found = (await api.get('/images/json?filters={"before":["long:2"],"label":["much"]}')).json
    assert [row["RepoTags"] for row in found] == [["long:1"], ["long:0"]]


async def test_containers_with_long_labels_are_all_listed(api: Api) -> None:
    for number in range(5):
        made = api.fake.runtime.create("sleep", name=f"long{number}")
        api.fake.runtime.containers.held[made].record.spec.labels["much"] = _MUCH
    rows = (await api.get("/containers/json?all=1")).json
    assert [(row["Names"], len(row["Labels"]["much"])) for row in rows] == [
        ([f"/long{number}"], len(_MUCH)) for number in reversed(range(5))
    ]
    used = (await api.get("/system/df?type=container")).json["Containers"]
    assert [row["Labels"] for row in used] == [row["Labels"] for row in rows]


async def test_a_list_that_is_kept_in_memory_says_the_same_as_one_that_is_not(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.fake.images.add(image("a:1", labels={"a": "b"}))
    api.fake.runtime.create("sleep", name="one", env=["A=b"])
    paths = ("/images/json", "/system/df", "/images/json?shared-size=1&manifests=1")
    short = [(await api.get(path)).json for path in paths]
    monkeypatch.setattr(listing, "KEPT_BYTES", 0)
    assert [(await api.get(path)).json for path in paths] == short


async def test_200_000_changes_are_all_told(api: Api) -> None:
    made = api.fake.runtime.create("sleep")
    api.fake.layers.added = [f"/etc/{number:0100}" for number in range(200_000)]
    changes = (await api.get(f"/containers/{made}/changes")).json
    assert [change["Path"] for change in changes] == ["/etc", *api.fake.layers.added]


async def test_a_client_that_leaves_in_the_middle_ends_the_list_behind_it(api: Api) -> None:
    for number in range(10):
        made = api.fake.runtime.create("sleep", name=f"long{number}")
        api.fake.runtime.containers.held[made].record.spec.labels["much"] = _MUCH
    async with api.raw() as (reader, writer):
        writer.write(head_of("GET", "/containers/json?all=1", upgrade=False))
        assert (await read_head(reader))[1]["transfer-encoding"] == "chunked"
        await reader.read(1000)
    await asyncio.wait_for(api.fake.runtime.containers.list_cancelled.wait(), 60)
    assert (await api.get("/_ping")).status == 200


async def test_a_client_that_leaves_ends_the_measuring_behind_its_question(api: Api) -> None:
    api.fake.runtime.volumes.sizes_take_for_ever = True
    async with api.raw() as (_, writer):
        writer.write(head_of("GET", "/system/df", upgrade=False))
        await asyncio.wait_for(api.fake.runtime.volumes.listing.wait(), 60)
    await asyncio.wait_for(api.fake.runtime.volumes.list_cancelled.wait(), 60)
    assert (await api.get("/_ping")).status == 200


async def test_a_list_that_breaks_off_is_an_error_at_first_and_never_taken_for_whole_later(api: Api) -> None:
    api.fake.runtime.containers.list_fails = UnavailableError("runtimed was killed")
    api.fake.runtime.create("sleep")
    refused = await api.get("/containers/json?all=1")
    assert (refused.status, refused.message) == (503, "runtimed was killed")
    made = api.fake.runtime.create("sleep")
    api.fake.runtime.containers.held[made].record.spec.labels["much"] = _MUCH
    with pytest.raises(aiohttp.ClientError):
        await api.get("/containers/json?all=1")
