"""What is done in a pod's network namespace without a plugin: the loopback interface, and reading counters."""

import fcntl
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.sys.netns import enter, in_own_thread

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1
_IFREQ: Final = struct.Struct("16sh22x")  # struct ifreq with ifr_flags


@dataclass(frozen=True, slots=True)
class Counters:
    """What has passed through one interface."""

    interface: str
    received_bytes: int
    received_packets: int
    received_errors: int
    received_dropped: int
    sent_bytes: int
    sent_packets: int
    sent_errors: int
    sent_dropped: int


async def bring_up_loopback(netns: Path) -> None:
    """Let a pod reach itself at 127.0.0.1 and ::1. Raises OSError."""

    def up() -> None:
        enter(netns)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            _, flags = _IFREQ.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0)))
            fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))

    await in_own_thread(up, "loopback of a pod")


async def read_counters(places: Mapping[str, Path]) -> dict[str, tuple[Counters, ...]]:
    """Return the counters of interfaces of many pods, by their keys; those without a namespace are left out."""

    def read() -> dict[str, tuple[Counters, ...]]:
        found = {}
        for key, netns in places.items():
            with suppress(OSError):
                enter(netns)
                # "thread-self": the process's own "net" is that of its first thread.
                with open("/proc/thread-self/net/dev", "rb", buffering=0) as file:
                    found[key] = parse_counters(file.readall().decode(errors="replace"))
        return found

    return await in_own_thread(read, "counters of pods") if places else {}


def parse_counters(text: str) -> tuple[Counters, ...]:
    """Return what ``/proc/net/dev`` says."""
    found = []
    for line in text.removesuffix("\n").split("\n")[2:]:  # names may have what ends lines elsewhere
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        found.append(Counters(name.strip(), *numbers[:4], *numbers[8:12]))
    return tuple(found)
