"""Tell the supervisor how we are, as sd_notify(3) does, and take what it holds for us."""

import os
import socket
from typing import Final

from sampan.handing import passing

# What a service says with a number of microseconds when it needs as long to stop.
EXTEND_TIMEOUT: Final = "EXTEND_TIMEOUT_USEC"
_ANSWER_S: Final = 5.0
_AT_ONCE: Final = 200  # descriptors in one message; the kernel takes 253
_NAMES_BYTES: Final = 64 << 10


def notify(state: str) -> None:
    """Send ``state`` (``READY=1``, ``STOPPING=1``) to $NOTIFY_SOCKET, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # Linux's abstract namespace
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError:
            return  # the supervisor is gone; nobody is left to tell


def kept(address: str) -> dict[str, socket.socket]:
    """Return the sockets that the supervisor at ``address``, $NOTIFY_SOCKET, holds for us, by name; blocks.

    Raises:
        OSError: it does not answer.
    """
    path = f"\0{address[1:]}" if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as supervisor:
        supervisor.connect(path)
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with near:
            with far:
                socket.send_fds(supervisor, [b"FDGIVE=1"], [far.fileno()])
            near.settimeout(_ANSWER_S)
            found: dict[str, socket.socket] = {}
            while True:
                names, fds = passing.receive(near, _NAMES_BYTES, _AT_ONCE)
                if not fds:
                    return found
                for name, fd in zip(names.decode().split("\n"), fds, strict=True):
                    found[name] = socket.socket(fileno=fd)
