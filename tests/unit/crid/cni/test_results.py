"""Results of ADD, of every version, and what is none."""

from ipaddress import ip_address, ip_interface

import pytest

from crid.cni.results import parse
from sampan.json_types import JsonObject
from tests.fakes.cni_plugins import ALL_VERSIONS, result


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_every_version_is_read(version: str) -> None:
    parsed = parse(result("10.1.0.2/16", version), version)
    assert parsed.addresses[0].address == ip_interface("10.1.0.2/16")
    assert parsed.of_interface("eth0") == (ip_address("10.1.0.2"),)
    assert parsed.of_interface("net1") == ()


def test_addresses_of_links_on_the_host_are_not_the_pods() -> None:
    document = result("10.1.0.2/16")
    document["interfaces"].append({"name": "eth0"})  # so called on the host
    document["ips"].append({"address": "192.0.2.1/24", "interface": 2})
    document["ips"].append({"address": "2001:db8::2/64"})  # by a plugin that knows no interfaces
    assert parse(document, "1.0.0").of_interface("eth0") == (ip_address("10.1.0.2"), ip_address("2001:db8::2"))


def test_what_is_said_of_names_is_kept() -> None:
    dns = {"nameservers": ["192.0.2.53"], "domain": "pods.example", "search": ["a.example"], "options": ["ndots:5"]}
    parsed = parse({**result("10.1.0.2/16"), "dns": dns}, "1.0.0").dns
    assert (parsed.servers, parsed.searches, parsed.options, parsed.domain) == (
        ("192.0.2.53",), ("a.example",), ("ndots:5",), "pods.example",
    )  # fmt: skip


def test_the_form_is_that_of_the_version_that_plugins_are_told() -> None:
    older = parse(result("2001:db8::2/64", "1.0.0"), "0.4.0").document
    assert older["cniVersion"] == "0.4.0"
    assert older["ips"][0]["version"] == "6"
    newer = parse(result("10.1.0.2/16", "0.3.1"), "1.0.0").document
    assert newer["cniVersion"] == "1.0.0"
    assert "version" not in newer["ips"][0]


def test_fields_that_nobody_here_knows_reach_the_next_plugin() -> None:
    document = result("10.1.0.2/16", "1.1.0")
    document["routes"] = [{"dst": "0.0.0.0/0", "mtu": 1400, "table": 100}]
    document["interfaces"][1]["mtu"] = 1450
    assert parse(document, "1.1.0").document == document


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cniVersion": "0.2.0"}, "'0.2.0'"),
        ({"cniVersion": {}}, "is of CNI"),
        ({"ips": {}}, "ips of the result"),
        ({"ips": [1]}, "ips of the result"),
        ({"ips": [{"address": "10.1.0.2"}]}, "length of its prefix"),
        ({"ips": [{"address": 5}]}, "length of its prefix"),
        ({"ips": [{"address": "10.1.0.300/16"}]}, "address of the result"),
        ({"ips": [{"address": "0.0.0.0/0"}]}, "no pod can have"),
        ({"ips": [{"address": "127.0.0.1/8"}]}, "no pod can have"),
        ({"ips": [{"address": "10.1.0.2/16", "gateway": "far"}]}, "gateway"),
        ({"ips": [{"address": "10.1.0.2/16", "gateway": 5}]}, "gateway"),
        ({"ips": [{"address": "10.1.0.2/16", "interface": 2}]}, "there are 2"),
        ({"ips": [{"address": "10.1.0.2/16", "interface": -1}]}, "there are 2"),
        ({"ips": [{"address": "10.1.0.2/16", "interface": True}]}, "there are 2"),
        ({"ips": [{"address": f"10.1.0.{n}/16"} for n in range(1, 100)]}, "the most is"),
        ({"interfaces": [{}]}, "no name"),
        ({"interfaces": "eth0"}, "interfaces of the result"),
        ({"routes": [7]}, "routes of the result"),
        ({"dns": []}, "dns of the result"),
        ({"dns": "x"}, "dns of the result"),
        ({"dns": {"nameservers": "x"}}, "nameservers of the result"),
    ],
)
def test_nonsense_is_named(change: JsonObject, words: str) -> None:
    document = {**result("10.1.0.2/16"), **change}
    with pytest.raises(ValueError, match=words):
        parse(document, "1.0.0")


@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_what_is_no_object_is_no_result(document: object) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        parse(document, "1.0.0")
