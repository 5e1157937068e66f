"""A network namespace's interface counters, from ``/proc/<pid>/net/dev``."""

from dataclasses import dataclass

from runtimed.cgroups.files import text


@dataclass(frozen=True, slots=True)
class Interface:
    """What went through an interface, as seen from inside."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


def read_interfaces(pid: int) -> tuple[Interface, ...]:
    """Return the interfaces of ``pid``'s network namespace but for the loopback; none if the process is gone."""
    return parse_interfaces(text(f"/proc/{pid}/net/dev"))


def parse_interfaces(content: str) -> tuple[Interface, ...]:
    """Read the table: two lines of titles, then eight columns received and eight sent."""
    interfaces = []
    for line in content.splitlines()[2:]:
        name, _, columns = line.rpartition(":")
        values = [int(value) for value in columns.split()]
        if name.strip() != "lo" and len(values) >= 12:
            interfaces.append(Interface(name.strip(), *values[0:4], *values[8:12]))
    return tuple(interfaces)
