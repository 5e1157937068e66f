"""A machine beside this one: a network namespace with a link to this machine, and through it to where this one gets."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from bench.netns import Namespace, network_namespace
from tests.support.tools import need, need_root


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The namespace, and this machine's address as seen from it."""

    namespace: Namespace
    here: str


@contextlib.contextmanager
def neighbour(number: int) -> Iterator[Neighbour]:
    """Make one; ``number``, below 64, tells those of one test run apart."""
    need_root()
    need("ip", "nft", "nsenter")
    # 198.18.0.0/15 is for tests of networks (RFC 2544): nobody's bridge is there. Four addresses for each.
    first = (os.getpid() % 256 * 64 + number) * 4
    here, there = (f"198.18.{(first + host) // 256}.{(first + host) % 256}" for host in (1, 2))
    name = f"nb{os.getpid():x}n{number}"
    table = f"table ip {name}"
    with network_namespace() as namespace:
        try:
            _run("ip", "link", "add", name, "type", "veth", "peer", "name", "up0", "netns", str(namespace.pid))
            _run("ip", "address", "add", f"{here}/30", "dev", name)
            _run("ip", "link", "set", name, "up")
            _run(*namespace.enter("ip", "address", "add", f"{there}/30", "dev", "up0"))
            _run(*namespace.enter("ip", "link", "set", "up0", "up"))
            _run(*namespace.enter("ip", "route", "add", "default", "via", here))
            hook = "type nat hook postrouting priority 100"
            rule = f'ip saddr {there} oifname != "{name}" masquerade'
            _run("nft", f"{table} {{\nchain out {{\n{hook}\n{rule}\n}}\n}}")
            yield Neighbour(namespace, here)
        finally:
            subprocess.run(["nft", "delete", table], capture_output=True)
            subprocess.run(["ip", "link", "delete", name], capture_output=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
