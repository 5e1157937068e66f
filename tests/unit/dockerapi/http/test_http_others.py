"""Networks, volumes and events over HTTP."""

import asyncio
import json

import pytest

from sampan.resource.event import Event
from tests.unit.dockerapi.support import Api


async def test_networks(api: Api) -> None:
    body = {"Name": "net", "IPAM": {"Config": [{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1"}]}, "Labels": {"a": "b"}}
    made = await api.post("/networks/create", json=body)
    assert made.status == 201
    network_id = made.json["Id"]
    assert (await api.post("/networks/create", json=body)).status == 409
    inspected = (await api.get(f"/networks/{network_id}")).json
    assert inspected["IPAM"]["Config"] == [{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1"}]
    assert (inspected["Driver"], inspected["Labels"], inspected["Scope"]) == ("bridge", {"a": "b"}, "local")
    assert [network["Name"] for network in (await api.get("/networks")).json] == ["net", "bridge"]
    connect = {"Container": "web", "EndpointConfig": {"Aliases": ["db"]}}
    assert (await api.post("/networks/net/connect", json=connect)).status == 200
    assert api.fake.runtime.networks.connected[0][2].aliases == ("db",)
    assert (await api.post("/networks/net/disconnect", json={"Container": "web", "Force": True})).status == 200
    assert (await api.delete("/networks/net")).status == 204
    assert (await api.get("/networks/net")).message == "network net not found"
    assert (await api.post("/networks/prune")).json == {"NetworksDeleted": None}


@pytest.mark.parametrize(
    ("sent", "what"), [({"Scope": "swarm"}, "Scope 'swarm'"), ({"Ingress": True, "Scope": "local"}, "Ingress")]
)
async def test_network_is_of_one_machine(api: Api, sent: dict[str, object], what: str) -> None:
    refused = await api.post("/networks/create", json={"Name": "net"} | sent)
    assert (refused.status, refused.message) == (
        400,
        f"{what} is of swarm networks, which this engine does not support: scope is 'local'",
    )
    assert [network["Name"] for network in (await api.get("/networks")).json] == ["bridge"]
    assert (await api.post("/networks/create", json={"Name": "net", "Scope": "local"})).status == 201


async def test_volumes(api: Api) -> None:
    made = await api.post("/volumes/create", json={"Name": "v", "DriverOpts": {"type": "tmpfs"}})
    assert (made.status, made.json["Name"], made.json["Options"]) == (201, "v", {"type": "tmpfs"})
    assert (await api.get("/volumes/v")).json["Mountpoint"] == "/volumes/v/_data"
    listed = (await api.get("/volumes")).json
    assert ([volume["Name"] for volume in listed["Volumes"]], listed["Warnings"]) == (["v"], None)
    assert (await api.post("/volumes/prune")).json == {"VolumesDeleted": [], "SpaceReclaimed": 0}
    everything = await api.post("/volumes/prune", params={"filters": '{"all": ["true"]}'})
    assert everything.json == {"VolumesDeleted": ["v"], "SpaceReclaimed": 5}
    await api.post("/volumes/create", json={"Name": "v"})
    assert (await api.delete("/volumes/v")).status == 204
    assert (await api.delete("/volumes/v")).status == 404
    assert (await api.delete("/volumes/v?force=1")).status == 204


async def test_events_flow_as_they_happen(api: Api) -> None:
    async with api.session.get(
        "http://docker/v1.51/events", params={"filters": json.dumps({"type": ["container"]})}
    ) as answer:
        assert answer.status == 200
        await api.fake.runtime.events.publish([Event("container", "die", "c", {"exitCode": "3", "image": "x"})])
        line = json.loads(await asyncio.wait_for(answer.content.readline(), 60))
    assert (line["Type"], line["Action"], line["status"], line["id"], line["from"]) == (
        "container",
        "die",
        "die",
        "c",
        "x",
    )
    assert line["Actor"] == {"ID": "c", "Attributes": {"exitCode": "3", "image": "x"}}
    assert line["timeNano"] // 1_000_000_000 == line["time"]
    assert api.fake.runtime.events.subscriptions[0] == {"type": ("container",)}


async def test_events_of_the_past_end(api: Api) -> None:
    await api.fake.runtime.events.publish([Event("image", "pull", "i", time_ns=5 * 10**9)])
    answer = await api.get("/events?since=1&until=2000000000")
    assert [line["Action"] for line in answer.lines] == ["pull"]
    assert "from" not in answer.lines[0]
    assert (await api.get("/events?since=whenever")).status == 400


async def test_an_answer_says_that_events_it_is_asked_for_are_not_kept(api: Api) -> None:
    api.fake.runtime.events.kept_since_s = 1_700_000_000
    older = await api.get("/events?since=1600000000&until=2000000000")
    assert older.headers["Warning"] == '299 - "events before 2023-11-14T22:13:20Z are not kept any more"'
    assert older.lines == []
    for query in ("since=1700000001&until=2000000000", "until=2000000000"):
        assert "Warning" not in (await api.get(f"/events?{query}")).headers


async def test_name_of_a_link_is_no_unknown_path(api: Api) -> None:
    refused = await api.delete("/containers/web/db?link=1")
    assert (refused.status, refused.message) == (404, "No such container: web")
    refused = await api.delete("/containers/web?link=1")
    assert (refused.status, "cannot remove the default link name" in refused.message) == (409, True)
    assert (await api.delete("/containers/web/db")).message == "No such container: web/db"
    assert (await api.delete("/containers/web/checkpoints/one")).status == 501  # nor does it hide a path that is known
