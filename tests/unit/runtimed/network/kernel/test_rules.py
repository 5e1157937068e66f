from ipaddress import IPv4Address, IPv4Network

from runtimed.network.kernel.rules import Bridge, Forwarding, drop, table

PLAIN = Bridge("sp0", (IPv4Network("172.17.0.0/16"),))
WEB = IPv4Address("172.17.0.2")


def chain(text: str, name: str) -> list[str]:
    body = text.partition(f"chain {name} {{\n")[2].partition("\n}")[0]
    return [line.strip() for line in body.splitlines()]


def test_table_is_replaced_in_the_same_transaction() -> None:
    assert table("sampan", [PLAIN], []).startswith("add table ip sampan\ndelete table ip sampan\ntable ip sampan {")


def test_dropping_a_table_that_is_not_there_is_no_error() -> None:
    assert drop("sampan") == "add table ip sampan\ndelete table ip sampan\n"


def test_empty_sets_are_written_without_elements() -> None:
    assert "elements" not in table("sampan", [], [])


def test_ports_on_any_address_and_on_one_go_to_different_maps() -> None:
    ports = [
        Forwarding("tcp", IPv4Address(0), 8080, WEB, 80),
        Forwarding("udp", IPv4Address("127.0.0.1"), 53, WEB, 5353),
    ]
    text = table("sampan", [PLAIN], ports)
    assert "elements = { tcp . 8080 : 172.17.0.2 . 80 }" in text
    assert "elements = { 127.0.0.1 . udp . 53 : 172.17.0.2 . 5353 }" in text


def test_forged_packets_for_loopback_are_not_translated() -> None:
    assert chain(table("sampan", [PLAIN], []), "prerouting")[-1].startswith("ip daddr != 127.0.0.0/8")


def test_network_is_masqueraded_unless_internal_or_told_not_to() -> None:
    def out(bridge: Bridge) -> bool:
        return any('oifname != "sp0"' in line for line in chain(table("t", [bridge], []), "postrouting"))

    assert out(PLAIN)
    assert not out(Bridge("sp0", PLAIN.subnets, internal=True))
    assert not out(Bridge("sp0", PLAIN.subnets, masquerade=False))


def test_containers_may_be_kept_from_each_other() -> None:
    lines = chain(table("t", [Bridge("sp0", PLAIN.subnets, icc=False)], []), "forward")
    assert 'iifname "sp0" oifname "sp0" drop' in lines


def test_internal_network_is_closed_before_published_ports_are_let_through() -> None:
    lines = chain(table("t", [Bridge("sp0", PLAIN.subnets, internal=True)], []), "forward")
    assert lines.index('iifname "sp0" oifname != "sp0" drop') < lines.index("ct status dnat accept")


def test_what_is_not_published_is_dropped_last() -> None:
    assert chain(table("t", [PLAIN], []), "forward")[-2:] == ["oifname @bridges drop", "accept"]
