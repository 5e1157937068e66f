"""A network namespace per engine, so that each has the loopback, the bridge and the firewall for itself.

dockerd sets the policy of the FORWARD chain to DROP and takes the bridge docker0: in one namespace, engines would not
measure the same thing. An engine in a namespace of its own works as it does on a machine of its own.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.tools import eventually


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace with its loopback up, alive as long as the process ``pid``."""

    pid: int

    def enter(self, *command: str) -> list[str]:
        """Return the command line that runs ``command`` inside.

        Not ``ip netns exec``: that mounts another /sys, without the control groups.
        """
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *command]


@contextlib.contextmanager
def network_namespace() -> Iterator[Namespace]:
    """Make a namespace; with the block everything in it goes, interfaces and firewall rules included."""
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up && exec sleep infinity"])
    namespace = Namespace(holder.pid)
    try:
        eventually(lambda: _loopback_is_up(namespace), "loopback is up in a new network namespace")
        yield namespace
    finally:
        holder.kill()
        holder.wait()


def _loopback_is_up(namespace: Namespace) -> bool:
    shown = subprocess.run(namespace.enter("ip", "-o", "addr", "show", "lo"), capture_output=True, text=True)
    return "127.0.0.1" in shown.stdout
