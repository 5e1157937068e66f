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
