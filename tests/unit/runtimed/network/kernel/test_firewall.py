import socket
import struct

import pytest

from runtimed.network.kernel.firewall import plan
from runtimed.network.kernel.guard import Guard
from runtimed.network.kernel.netlink import HEADER, attribute

OURS = ("-i", "sampan0", "-m", "comment", "--comment", "sampan", "-j", "ACCEPT")
BACK = ("-o", *OURS[1:])


def test_open_firewall_is_left_alone() -> None:
    assert plan("-P FORWARD ACCEPT\n", "sampan", ["sampan0"]).insert == ()


@pytest.mark.parametrize("listing", ["-P FORWARD DROP\n", "-P FORWARD ACCEPT\n-A FORWARD -j REJECT\n"])
def test_firewall_that_may_stop_us_gets_a_rule_each_way(listing: str) -> None:
    assert plan(listing, "sampan", ["sampan0"]).insert == (OURS, BACK)


def test_rules_that_are_there_are_not_put_in_again() -> None:
    listing = "-P FORWARD DROP\n" + "".join(f"-A FORWARD {' '.join(rule)}\n" for rule in (OURS, BACK))
    changes = plan(listing, "sampan", ["sampan0"])
    assert (changes.insert, changes.delete) == ((), ())


def test_rules_of_bridges_that_are_gone_are_taken_out_and_those_of_others_stay() -> None:
    listing = (
        "-P FORWARD DROP\n"
        f"-A FORWARD {' '.join(OURS)}\n"
        '-A FORWARD -i other0 -m comment --comment "sampan-1234" -j ACCEPT\n'
        "-A FORWARD -j DOCKER-USER\n"
    )
    assert plan(listing, "sampan", []).delete == (OURS,)


def test_rules_that_are_no_longer_needed_are_taken_out() -> None:
    assert plan(f"-P FORWARD ACCEPT\n-A FORWARD {' '.join(OURS)}\n", "sampan", ["sampan0"]).delete == (OURS,)


def message(kind: int, *names: tuple[int, str], family: int = socket.AF_INET, port: int = 77) -> bytes:
    body = struct.pack("!BBH", family, 0, 0) + b"".join(attribute(key, name.encode() + b"\0") for key, name in names)
    return HEADER.pack(HEADER.size + len(body), 10 << 8 | kind, 0, 0, port) + body


class OwnPort:
    """A table that is changed through the netlink socket with port ID 5."""

    def again(self) -> None:
        """Nothing to apply."""

    def is_own(self, port: int) -> bool:
        return port == 5


async def repaired() -> None:
    return


@pytest.mark.parametrize(
    ("batch", "alarmed"),
    [
        (message(2, (1, "sampan")), True),
        (message(2, (1, "sampan")) + message(0, (1, "sampan")), True),  # somebody else put another in its place
        (message(2, (1, "sampan"), port=5) + message(0, (1, "sampan"), port=5), False),
        (message(5, (1, "sampan"), (3, "forward")), True),  # a chain that went
        (message(8, (1, "sampan"), (2, "forward")), True),  # a rule
        (message(6, (1, "sampan"), (2, "forward")), True),  # a rule that came
        (message(11, (1, "sampan"), (2, "bridges")), True),  # a set
        (message(14, (1, "sampan"), (2, "bridges")), True),  # an element
        (message(8, (1, "sampan"), (2, "forward"), port=5), False),
        (message(2, (1, "other")), False),
        (message(2, (1, "sampan"), family=socket.AF_INET6), True),
        (message(2, (1, "sampan"), family=socket.AF_UNIX), False),
        (message(3, (1, "filter"), (3, "FORWARD")), True),
        (message(3, (1, "filter"), (3, "INPUT")), False),
        (message(8, (1, "filter"), (2, "FORWARD")), True),  # iptables -F
        (message(6, (1, "filter"), (2, "FORWARD")), True),
        (message(6, (1, "filter"), (2, "FORWARD"), (7, "sampan")), False),  # a rule that bears our mark
        (message(8, (1, "filter"), (2, "INPUT")), False),
        (b"\1\2\3", False),
        (b"\0" * 64, False),
    ],
)
def test_only_what_opens_containers_or_cuts_them_off_is_an_alarm(batch: bytes, alarmed: bool) -> None:
    guard = Guard("sampan", OwnPort(), repaired)
    guard.observe(batch)
    assert guard.alarmed is alarmed
