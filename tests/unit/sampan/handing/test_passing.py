import os
import socket

from sampan.handing import passing


def test_descriptors_that_come_are_closed_in_programs_that_are_started() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far, open("/dev/null", "rb") as first, open("/dev/zero", "rb") as second:
        socket.send_fds(near, [b"two"], [first.fileno(), second.fileno()])
        said, (null, zero) = passing.receive(far, 16, 2)
        assert said == b"two"
        assert not os.get_inheritable(null)
        assert not os.get_inheritable(zero)
        assert (os.read(null, 1), os.read(zero, 1)) == (b"", b"\0")
        os.close(null)
        os.close(zero)


def test_more_than_was_expected_is_closed_and_a_plain_message_brings_none() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far, open("/dev/null", "rb") as first, open("/dev/zero", "rb") as second:
        before = set(os.listdir("/proc/self/fd"))
        socket.send_fds(near, [b"two"], [first.fileno(), second.fileno()])
        _, fds = passing.receive(far, 16, 1)
        assert len(set(os.listdir("/proc/self/fd")) - before) == len(fds) == 1
        os.close(fds[0])
        near.send(b"none")
        assert passing.receive(far, 16, 1) == (b"none", [])
