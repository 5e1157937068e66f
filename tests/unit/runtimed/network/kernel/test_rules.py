from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from runtimed.network.kernel.rules import NAT_UNPROTECTED, ROUTED, Bridge, Forwarding, change, drop, tables, whole

PLAIN = Bridge("sp0", (IPv4Network("172.17.0.0/16"),))
OTHER = Bridge("sp1", (IPv4Network("172.18.0.0/16"),))
WEB = IPv4Address("172.17.0.2")
PUBLISHED = Forwarding("tcp", IPv4Address(0), 8080, WEB, 80)


def held(name: str, *bridges: Bridge, ports: tuple[Forwarding, ...] = ()) -> dict[str, str]:
    """Return what a set or map of IPv4's table has in it."""
    (table,) = tables(bridges, ports)
    return dict(table.elements[name])


def chain(name: str) -> list[str]:
    body = whole("t", tables([PLAIN], [])).partition(f"chain {name} {{\n")[2].partition("\n}")[0]
    return [line.strip() for line in body.splitlines()]


def test_table_is_replaced_in_the_same_transaction() -> None:
    assert whole("sampan", tables([], [])).startswith(
        "add table ip sampan\ndelete table ip sampan\ntable ip sampan {\n"
    )


def test_dropping_a_table_that_is_not_there_is_no_error() -> None:
    assert drop("sampan") == "add table ip sampan\ndelete table ip sampan\n"


def test_empty_sets_are_written_without_elements() -> None:
    assert "elements" not in whole("sampan", tables([], []))


def test_chains_are_the_same_however_many_networks_there_are() -> None:
    few, many = (whole("t", tables(bridges, [])).partition("chain")[2] for bridges in ([], [PLAIN, OTHER]))
    assert few == many


def test_ports_on_any_address_and_on_one_go_to_different_maps() -> None:
    local = Forwarding("udp", IPv4Address("127.0.0.1"), 53, WEB, 5353)
    assert held("published", PLAIN, ports=(PUBLISHED, local)) == {"tcp . 8080": "172.17.0.2 . 80"}
    assert held("published_at", PLAIN, ports=(PUBLISHED, local)) == {"127.0.0.1 . udp . 53": "172.17.0.2 . 5353"}


def test_forged_packets_for_loopback_are_not_translated() -> None:
    assert chain("prerouting")[-1].startswith("ip daddr != 127.0.0.0/8")


@pytest.mark.parametrize(
    ("bridge", "translated"),
    [
        (PLAIN, True),
        (replace(PLAIN, internal=True), False),
        (replace(PLAIN, masquerade=False), False),
        (replace(PLAIN, modes={4: ROUTED}), False),
        (replace(PLAIN, modes={4: NAT_UNPROTECTED}), True),
    ],
)
def test_network_is_masqueraded_unless_internal_or_told_not_to(bridge: Bridge, *, translated: bool) -> None:
    assert bool(held("masqueraded", bridge)) is translated


def test_network_with_an_address_of_its_own_outside_is_translated_to_that() -> None:
    bridge = replace(PLAIN, sources={4: "192.0.2.1"})
    assert held("sources", bridge) == {"172.17.0.0/16": "192.0.2.1"}
    assert not held("masqueraded", bridge)


def test_containers_may_be_kept_from_each_other() -> None:
    assert held("within", PLAIN, replace(OTHER, icc=False)) == {'"sp0" . "sp0"': "accept", '"sp1" . "sp1"': "drop"}


def test_internal_network_is_closed_before_published_ports_are_let_through() -> None:
    lines = chain("forward")
    assert lines.index("iifname @internal iifname . oifname != @inside drop") < lines.index("ct status dnat accept")
    assert list(held("internal", PLAIN, replace(OTHER, internal=True))) == ['"sp1"']


def test_what_is_not_published_is_dropped_last() -> None:
    assert chain("forward")[-2:] == ["oifname @bridges drop", "accept"]


def test_change_is_what_differs() -> None:
    before = tables([PLAIN], [PUBLISHED])
    after = tables([PLAIN, OTHER], [replace(PUBLISHED, target=IPv4Address("172.18.0.2"))])
    lines = change("t", before, after).splitlines()
    assert 'add element ip t bridges { "sp1" }' in lines
    assert 'add element ip t within { "sp1" . "sp1" : accept }' in lines
    gone, come = lines.index("delete element ip t published { tcp . 8080 }"), lines[-1]
    assert come == "add element ip t published { tcp . 8080 : 172.18.0.2 . 80 }"
    assert gone < len(lines) - 1
    assert not any("172.17" in line for line in lines)


def test_nothing_changes_between_equals() -> None:
    assert change("t", tables([PLAIN], [PUBLISHED]), tables([PLAIN], [PUBLISHED])) == ""


def test_bridges_of_ipv4_alone_are_not_in_the_table_of_ipv6() -> None:
    dual = Bridge("sp2", (IPv4Network("172.19.0.0/16"), IPv6Network("fd00::/64")))
    _, ipv6 = tables([PLAIN, dual], [], ipv6=True)
    assert ipv6.family.name == "ip6"
    assert dict(ipv6.elements["own"]) == {'"sp2" . fd00::/64': ""}
    assert list(ipv6.elements["bridges"]) == ['"sp2"']
