"""What of a pod is on the machine without its containers: namespaces, files of name and resolver, shared memory.

    <run root>/crid/sandboxes/<id>/ns/{net,ipc,uts,user}   held namespaces
    <run root>/crid/sandboxes/<id>/{hostname,hosts,resolv.conf}
    <run root>/crid/sandboxes/<id>/shm                     a tmpfs, /dev/shm of all containers

A reboot ends all of it, and nothing brings a pod's namespaces back: its sandbox is not ready then.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crid.model.config import DNSConfig
from crid.model.security import NamespaceMode
from crid.sandboxes import namespaces
from crid.sandboxes.model import Sandbox
from sampan.cancellation import to_the_end
from sampan.sys import netns
from sampan.sys.mounts import MNT_DETACH, MS_NODEV, MS_NOEXEC, MS_NOSUID, mount, umount2

_SHM_BYTES: Final = 64 << 20
_MODE: Final = 0o644  # whoever a container's process is reads them


@dataclass(frozen=True, slots=True)
class Places:
    """Where a sandbox's files are."""

    directory: Path

    def namespace(self, kind: str) -> Path:
        """The file that holds a namespace: ``net``, ``ipc``, ``uts`` or ``user``."""
        return self.directory / "ns" / kind

    @property
    def hostname(self) -> Path:
        """What is ``/etc/hostname`` in containers."""
        return self.directory / "hostname"

    @property
    def hosts(self) -> Path:
        """What is ``/etc/hosts`` in containers that bring none."""
        return self.directory / "hosts"

    @property
    def resolv_conf(self) -> Path:
        """What is ``/etc/resolv.conf`` in containers."""
        return self.directory / "resolv.conf"

    @property
    def shm(self) -> Path:
        """What is ``/dev/shm`` in containers."""
        return self.directory / "shm"


def kinds_of(sandbox: Sandbox) -> frozenset[str]:
    """Return which namespaces a sandbox has of its own."""
    kinds = set()
    if not sandbox.host_network:
        kinds |= {"net", "uts"}
    if sandbox.namespaces.ipc is NamespaceMode.POD:
        kinds.add("ipc")
    return frozenset(kinds)


class SandboxHost:
    """Satisfies ``protocol.SandboxHost``."""

    def __init__(self, root: Path, bring_up: Callable[[Path], Awaitable[None]], etc: Path = Path("/etc")) -> None:
        """``root`` is ``<run root>/crid/sandboxes``; ``bring_up`` lets a network namespace reach itself.

        ``etc`` is where the host's resolver is configured.
        """
        self._root = root
        self._bring_up = bring_up
        self._etc = etc

    def places(self, id: str) -> Places:
        """Return where a sandbox's files are."""
        return Places(self._root / id)

    async def make(self, sandbox: Sandbox) -> None:
        """Make all but ``/etc/hosts``, which needs addresses."""
        await netns.in_own_thread(lambda: self._make(sandbox), f"namespaces of {sandbox.id[:12]}")
        if not sandbox.host_network:
            await self._bring_up(self.places(sandbox.id).namespace("net"))

    async def name(self, sandbox: Sandbox) -> None:
        """Write ``/etc/hosts``."""
        await to_the_end(asyncio.to_thread(self._write_hosts, sandbox))

    async def clear(self, id: str) -> None:
        """Remove all that there is of a sandbox."""
        # To the end, also for a caller who has left: two at once would trip over each other.
        await to_the_end(asyncio.to_thread(self._clear, id))

    async def is_whole(self, sandbox: Sandbox) -> bool:
        """Say whether its namespaces are there."""
        held = [self.places(sandbox.id).namespace(kind) for kind in kinds_of(sandbox)]
        return await asyncio.to_thread(lambda: self.places(sandbox.id).hosts.exists() and all(map(netns.exists, held)))

    async def leftovers(self, known: Iterable[str]) -> list[str]:
        """Return sandboxes that have something here and are none of ``known``."""
        found = await asyncio.to_thread(lambda: list(self._root.iterdir()) if self._root.exists() else [])
        return sorted({each.name for each in found}.difference(known))

    def _make(self, sandbox: Sandbox) -> None:
        places = self.places(sandbox.id)
        places.directory.mkdir(parents=True, mode=0o711)
        places.namespace("").mkdir()
        kinds, users = kinds_of(sandbox), sandbox.namespaces.mappings
        hostname = sandbox.config.hostname
        sysctls = sandbox.config.linux.sysctls
        _write(places.hostname, f"{hostname or socket.gethostname()}\n", _owner(sandbox))
        _write(places.resolv_conf, self._resolver(sandbox.config.dns_config), _owner(sandbox))
        if "ipc" in kinds:
            places.shm.mkdir()
            flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
            mount("shm", str(places.shm), "tmpfs", flags, f"mode=1777,size={_SHM_BYTES}")
        if users is not None:
            namespaces.make_of_users(places.namespace(""), kinds, users, hostname, sysctls)
        else:
            namespaces.make(places.namespace(""), kinds, hostname, sysctls)

    def _resolver(self, dns: DNSConfig) -> str:
        if not (dns.servers or dns.searches or dns.options):
            with suppress(FileNotFoundError):
                return (self._etc / "resolv.conf").read_text(errors="replace")
            return ""
        lines = [f"search {' '.join(dns.searches)}"] if dns.searches else []
        lines += [f"nameserver {server}" for server in dns.servers]
        lines += [f"options {' '.join(dns.options)}"] if dns.options else []
        return "".join(f"{line}\n" for line in lines)

    def _write_hosts(self, sandbox: Sandbox) -> None:
        if sandbox.host_network:
            with suppress(FileNotFoundError):
                _write(self.places(sandbox.id).hosts, (self._etc / "hosts").read_text(errors="replace"), 0)
                return
        lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
        name = sandbox.config.hostname or socket.gethostname()
        lines += [f"{address}\t{name}" for address in sandbox.addresses]
        _write(self.places(sandbox.id).hosts, "".join(f"{line}\n" for line in lines), _owner(sandbox))

    def _clear(self, id: str) -> None:
        places = self.places(id)
        namespaces.let_go(places.namespace(""))
        try:
            umount2(str(places.shm), MNT_DETACH)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
        with suppress(FileNotFoundError):
            places.shm.rmdir()
        with suppress(FileNotFoundError):
            for file in places.directory.iterdir():
                file.unlink()
            places.directory.rmdir()


def _owner(sandbox: Sandbox) -> int:
    """Return who on the host is a pod's root."""
    users = sandbox.namespaces.mappings
    return users.uids[0].host_id if users is not None else 0


def _write(path: Path, text: str, owner: int) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.chmod(_MODE)
    if owner:
        os.chown(temporary, owner, owner)
    temporary.rename(path)
