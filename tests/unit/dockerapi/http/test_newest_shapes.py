"""What versions 1.51 and 1.52 show otherwise than those before."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from sampan.build.request import UsageRecord
from sampan.docker.views.image_view import config_json
from sampan.docker.views.network_view import status_json
from sampan.oci.image_config import RunConfig
from sampan.resource.event import Event
from sampan.resource.network import AddressPool, Network, NetworkMember
from tests.fakes.engine import image
from tests.unit.dockerapi.support import Api

_GONE = (
    "Bridge",
    "HairpinMode",
    "EndpointID",
    "Gateway",
    "IPAddress",
    "IPPrefixLen",
    "MacAddress",
    "GlobalIPv6Address",
)


async def test_a_container_s_addresses_are_those_of_its_networks_alone(api: Api) -> None:
    name = api.fake.runtime.create("true")
    new, old = [(await api.get(f"{prefix}/containers/{name}/json")).json for prefix in ("/v1.52", "/v1.51")]
    assert list(new["NetworkSettings"]) == ["SandboxID", "SandboxKey", "Ports", "Networks"]
    assert set(_GONE) <= set(old["NetworkSettings"])
    assert "OnBuild" not in new["Config"]
    assert old["Config"]["OnBuild"] is None


def test_image_without_a_thing_says_nothing_of_it() -> None:
    assert config_json(RunConfig(), (1, 52)) == {}
    assert set(config_json(RunConfig(), (1, 51))) == {
        "User",
        "Env",
        "Cmd",
        "Volumes",
        "WorkingDir",
        "Entrypoint",
        "OnBuild",
        "Labels",
    }


async def test_image_that_no_old_builder_made_has_none_of_its_fields(api: Api) -> None:
    api.fake.images.add(image("a:1"))
    new, old = [(await api.get(f"{prefix}/images/a:1/json")).json for prefix in ("/v1.52", "/v1.51")]
    assert {"Parent", "DockerVersion", "Comment", "Author"} <= set(old)
    assert not {"Parent", "DockerVersion"} & set(new)


@pytest.mark.parametrize(
    ("accept", "content_type", "lead"),
    [
        ("", "application/json", b""),
        ("*/*", "application/json", b""),
        ("application/x-ndjson", "application/x-ndjson", b""),
        ("application/jsonl", "application/jsonl", b""),
        ("application/json-seq", "application/json-seq", b"\x1e"),
        ("application/json-seq;q=0.2, application/x-ndjson;q=0.9", "application/x-ndjson", b""),
        ("application/json-seq;q=0, text/html", "application/json", b""),
        ("application/json-seq;q=much", "application/json", b""),
    ],
)
async def test_events_come_in_the_form_that_is_asked_for(api: Api, accept: str, content_type: str, lead: bytes) -> None:
    await api.fake.runtime.events.publish([Event("container", "die", "c", {"image": "x"}, time_ns=5 * 10**9)])
    query = "since=1&until=2000000000"
    async with api.session.get(f"http://docker/v1.52/events?{query}", headers={"Accept": accept}) as answer:
        body = await asyncio.wait_for(answer.read(), 60)
    assert answer.content_type == content_type
    assert body.startswith(lead + b"{")
    assert not {"status", "id", "from"} & set(json.loads(body.removeprefix(lead)))


async def test_disk_usage_has_totals_and_rows_where_they_are_asked_for(api: Api) -> None:
    api.fake.images.add(image("a:1"))
    api.fake.runtime.create("true")
    both, verbose = [(await api.get(f"/v1.52/system/df{query}")).json for query in ("", "?verbose=1")]
    assert both["ImageUsage"] == {"TotalCount": 1, "TotalSize": 3500, "Reclaimable": 3500}
    assert both["ContainerUsage"]["TotalCount"] == 1
    assert (len(both["Images"]), len(both["Containers"])) == (1, 1)
    assert set(verbose) == {"ImageUsage", "ContainerUsage", "VolumeUsage", "BuildCacheUsage"}
    assert verbose["ImageUsage"]["Items"] == both["Images"]
    assert "Items" not in verbose["VolumeUsage"]
    assert "ImageUsage" not in (await api.get("/v1.51/system/df?verbose=1")).json


async def test_disk_usage_tells_apart_what_is_in_use(api: Api) -> None:
    busy, _ = api.fake.runtime.create("sleep"), api.fake.runtime.create("true")
    await api.post(f"/containers/{busy}/start")
    await api.post("/volumes/create", json={"Name": "v"})
    api.builder.records = [
        UsageRecord("a", 1000),
        UsageRecord("b", 3000, in_use=True),
        UsageRecord("c", 9, shared=True),
    ]
    told = (await api.get("/v1.52/system/df")).json
    assert told["ContainerUsage"] == {"TotalCount": 2, "ActiveCount": 1}
    assert told["VolumeUsage"] == {"TotalCount": 1, "TotalSize": 5, "Reclaimable": 5}
    assert told["BuildCacheUsage"] == {"TotalCount": 3, "ActiveCount": 1, "TotalSize": 4000, "Reclaimable": 1000}


async def test_hardware_address_of_a_container_as_a_whole_is_refused_by_name(api: Api) -> None:
    body = {"Image": "a", "MacAddress": "02:00:00:00:00:01"}
    refused = await api.post("/v1.52/containers/create", json=body)
    assert refused.status == 400
    assert "MacAddress" in refused.message


@pytest.mark.parametrize(
    ("version", "host", "said"),
    [
        ("1.52", {"PortBindings": {"81/udp": [], "80/tcp": None, "82/tcp": [{}]}}, "port-bindings: 80/tcp, 81/udp. "),
        ("1.52", {"PortBindings": {"80/tcp": [{"HostPort": ""}]}}, ""),
        ("1.51", {"PortBindings": {"80/tcp": []}}, ""),
        (
            "1.48",
            {"VolumeDriver": "local", "Mounts": [{"Type": "volume", "Target": "/v"}]},
            "the container-wide volume-driver configuration is",
        ),
        ("1.48", {"VolumeDriver": "local", "Mounts": [{"Type": "tmpfs", "Target": "/v"}]}, ""),
        ("1.47", {"VolumeDriver": "local", "Mounts": [{"Type": "volume", "Target": "/v"}]}, ""),
    ],
)
async def test_create_warns_as_of_the_version_that_began_to(
    api: Api, version: str, host: dict[str, object], said: str
) -> None:
    api.fake.images.add(image("a:1"))
    made = await api.post(f"/v{version}/containers/create", json={"Image": "a:1", "HostConfig": host})
    assert made.status == 201, made.message
    if said:
        assert [said in warning for warning in made.json["Warnings"]] == [True]
    else:
        assert made.json["Warnings"] == []


async def test_more_platforms_than_one_are_refused_by_older_versions(api: Api) -> None:
    two = '?platform={"os":"linux","architecture":"amd64"}&platform={"os":"linux","architecture":"arm64"}'
    assert "multiple platforms" in (await api.get(f"/v1.51/images/a/get{two}")).message
    assert (await api.get(f"/v1.52/images/a/get{two}")).status == 404


def test_network_tells_how_many_addresses_are_left() -> None:
    pools = (
        AddressPool("10.0.0.0/29", "10.0.0.1", "10.0.0.4/30", {"a": "10.0.0.2", "b": "10.0.0.5"}),
        AddressPool("fd00::/48", "fd00::1"),
    )
    member = NetworkMember("c", "web", ipv4_address="10.0.0.4/29", ipv6_address="fd00::2/48")
    network = Network("f" * 64, "n", "bridge", datetime.now(UTC), pools=pools, members=(member,))
    assert status_json(network) == {
        "IPAM": {
            "Subnets": {
                "10.0.0.0/29": {"IPsInUse": 6, "DynamicIPsAvailable": 1},
                "fd00::/48": {"IPsInUse": 3, "DynamicIPsAvailable": 2**64 - 1},
            }
        }
    }
    assert status_json(Network("f" * 64, "host", "host", datetime.now(UTC))) is None
