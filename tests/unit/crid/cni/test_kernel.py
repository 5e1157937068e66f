"""Counters of a pod's interfaces."""

from pathlib import Path

from crid.cni.kernel import Counters, is_namespace, parse_counters

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


def test_a_file_and_a_name_without_one_are_no_namespaces(tmp_path: Path) -> None:
    (tmp_path / "net").touch()
    assert not is_namespace(tmp_path / "net")
    assert not is_namespace(tmp_path / "nothing")
