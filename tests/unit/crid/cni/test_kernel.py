"""Counters of a pod's interfaces."""

from crid.cni.kernel import Counters, parse_counters

TEXT = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0
  eth0: 6135000    4512    3    4    0     0          0         0 18446744073709551615 3971    5    6    0     0       0          0
"""  # noqa: E501


def test_counters_are_read_by_interface() -> None:
    loopback, eth0 = parse_counters(TEXT)
    assert loopback == Counters("lo", 100, 2, 0, 0, 100, 2, 0, 0)
    assert eth0 == Counters("eth0", 6135000, 4512, 3, 4, 18446744073709551615, 3971, 5, 6)


def test_a_name_that_has_a_line_s_end_elsewhere_is_one_name() -> None:
    named = TEXT.replace("eth0", "e\u2028h\x1c")
    assert [each.interface for each in parse_counters(named)] == ["lo", "e\u2028h"]
