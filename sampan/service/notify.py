"""Tell the supervisor how we are, as sd_notify(3) does."""

import os
import socket
from typing import Final

# What a service says with a number of microseconds when it needs as long to stop.
EXTEND_TIMEOUT: Final = "EXTEND_TIMEOUT_USEC"


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
