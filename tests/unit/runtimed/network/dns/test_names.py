import struct
from ipaddress import IPv4Address

import pytest

from runtimed.network.core.model import Sandbox
from runtimed.network.core.names import KernelNames, mac_for
from runtimed.network.dns import message as dns
from runtimed.network.dns.directory import Directory
from sampan.layout import Layout
from sampan.resource.container_spec import Endpoint
from tests.unit.runtimed.network_values import attached, sandbox

WEB, DB, TWIN, LONER = "1" * 64, "2" * 64, "3" * 64, "4" * 64
SANDBOXES: dict[str, Sandbox] = {
    WEB: sandbox(
        attached(
            "shop",
            "10.0.0.2",
            dns_names=("web", "www"),
            requested=Endpoint("shop", links=("db:store", "/db:/web/base")),
        ),
        id=WEB,
    ),
    DB: sandbox(attached("shop", "10.0.0.3", dns_names=("db", "backend", "222222222222")), id=DB, name="db"),
    TWIN: sandbox(attached("shop", "10.0.0.4", dns_names=("Twin", "backend")), id=TWIN, name="twin"),
    LONER: sandbox(attached("bridge", "172.17.0.2", gateway=""), id=LONER, name="loner"),
}
DIRECTORY = Directory(SANDBOXES)


def question(name: str, kind: int = dns.A, *, flags: int = 0x0100, klass: int = 1, count: int = 1) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".") if part)
    return struct.pack("!HHHHHH", 7, flags, count, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, klass)


def parsed(name: str, kind: int = dns.A) -> dns.Query:
    query = dns.parse(question(name, kind))
    assert query is not None
    return query


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("db", ["10.0.0.3"]),
        ("222222222222", ["10.0.0.3"]),
        ("db.shop", ["10.0.0.3"]),
        ("backend", ["10.0.0.3", "10.0.0.4"]),
        ("twin", ["10.0.0.4"]),
        ("web", ["10.0.0.2"]),
        ("store", ["10.0.0.3"]),
        ("base", ["10.0.0.3"]),
        ("loner", None),
        ("db.other", None),
    ],
)
def test_container_finds_those_on_its_networks(name: str, expected: list[str] | None) -> None:
    found = DIRECTORY.addresses(WEB, name)
    assert (found and [str(address) for address in found]) == expected


def test_names_do_not_resolve_on_the_default_network_nor_for_strangers() -> None:
    assert DIRECTORY.addresses(LONER, "loner") is None
    assert DIRECTORY.addresses("9" * 64, "web") is None


def test_links_are_the_askers_alone() -> None:
    assert DIRECTORY.addresses(DB, "store") is None


def test_address_is_named_after_its_container_and_network() -> None:
    assert DIRECTORY.name(WEB, IPv4Address("10.0.0.3")) == "db.shop"
    assert DIRECTORY.name(WEB, IPv4Address("172.17.0.2")) is None


def test_only_who_has_a_gateway_asks_the_world() -> None:
    assert DIRECTORY.leads_out(WEB)
    assert not DIRECTORY.leads_out("9" * 64)


def test_question_is_read_without_regard_to_case() -> None:
    assert (parsed("DB.Shop").name, parsed("DB.Shop").type) == ("db.shop", dns.A)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0" * 12,
        question("db", flags=0x8100),  # an answer
        question("db", flags=0x2000),  # another kind of request
        question("db", klass=3),
        question("db", count=2),
        question("db")[:-1],
        b"\0\7\1\0\0\1\0\0\0\0\0\0\x3fab",  # a label that ends beyond the message
        b"\0\7\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1",  # a pointer, to itself
    ],
)
def test_what_is_no_plain_question_is_not_ours(message: bytes) -> None:
    assert dns.parse(message) is None


def test_answer_repeats_the_question_and_points_at_it() -> None:
    answer = dns.addresses(parsed("Db"), [IPv4Address("10.0.0.3")], 512)
    assert struct.unpack_from("!HHHHHH", answer) == (7, 0x8180, 1, 1, 0, 0)
    assert answer[12:20] == b"\2Db\0\0\1\0\1"
    assert answer[20:] == b"\xc0\x0c\0\1\0\1" + struct.pack("!IH", dns.TTL_S, 4) + bytes([10, 0, 0, 3])


def test_answer_that_is_too_long_is_cut_and_says_so() -> None:
    many = [IPv4Address(f"10.0.1.{number}") for number in range(100)]
    answer = dns.addresses(parsed("backend"), many, 512)
    _, flags, _, count, _, _ = struct.unpack_from("!HHHHHH", answer)
    assert (len(answer) <= 512, bool(flags & 0x0200), count) == (True, True, (512 - 25) // 16)


def test_known_name_without_such_a_record_is_an_empty_answer() -> None:
    assert struct.unpack_from("!HHHH", dns.addresses(parsed("db", dns.AAAA), [], 512)) == (7, 0x8180, 1, 0)


def test_error_travels_in_the_flags() -> None:
    assert struct.unpack_from("!HH", dns.failure(parsed("db"), dns.NO_SUCH_NAME)) == (7, 0x8183)


def test_reverse_answer_holds_the_name() -> None:
    assert dns.pointer(parsed("3.0.0.10.in-addr.arpa", dns.PTR), "db.shop").endswith(b"\0\x09\2db\4shop\0")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("3.0.0.10.in-addr.arpa", "10.0.0.3"),
        ("3.0.10.in-addr.arpa", None),
        ("x.0.0.10.in-addr.arpa", None),
        ("db", None),
    ],
)
def test_reverse_name_is_read(name: str, expected: str | None) -> None:
    found = dns.reversed_address(name)
    assert (found and str(found)) == expected


def test_main_engine_has_short_names_and_others_carry_their_tag() -> None:
    main, other = KernelNames.of(Layout()), KernelNames.of(Layout(data_root=Layout().data_root / "x"))
    assert (main.table, main.default_bridge, main.bridge("ab" * 32)) == ("sampan", "sampan0", "sp-abababababab")
    assert {main.table, main.default_bridge}.isdisjoint({other.table, other.default_bridge})
    assert len(other.default_bridge) <= 15
    assert len(other.bridge("ab" * 32)) == 15


def test_hardware_address_is_dockers() -> None:
    assert mac_for(IPv4Address("172.17.0.2")) == "02:42:ac:11:00:02"
