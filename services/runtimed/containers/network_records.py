"""Containers as operations on networks see them, and the files in them that follow from their networks."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from runtimed.containers.memory_store import UP, MemoryStore
from runtimed.containers.paths import Paths
from runtimed.containers.store import Intent
from runtimed.protocol import Networking
from sampan.resource.container import Container, NetworkSettings
from sampan.resource.container_spec import Endpoint


class NetworkRecords:
    """Finds containers, and records how they are connected."""

    def __init__(self, memory: MemoryStore, paths: Paths, networking: Networking) -> None:
        self._memory = memory
        self._paths = paths
        self._networking = networking

    async def find(self, reference: str) -> Container:
        """Return the container with this ID, prefix of one, or name; NotFoundError in Docker's words."""
        return self._memory.find(reference).container

    async def all(self) -> Collection[Container]:
        """Return every container."""
        return [entry.container for entry in self._memory if entry.intent is not Intent.CREATING]

    async def set_network(self, container_id: str, endpoints: tuple[Endpoint, ...], settings: NetworkSettings) -> None:
        """Record that the container now asks for ``endpoints`` and is connected as ``settings`` says."""
        entry = self._memory.find(container_id)
        await self._memory.change(
            entry, lambda now: replace(now, spec=replace(now.spec, endpoints=endpoints), network=settings)
        )
        if entry.status in UP:
            files = await self._networking.files(entry.container, settings)
            await asyncio.to_thread(_rewrite, self._paths.container(entry.id).files, files)
            await lead_links(self._networking, self._paths, entry.id)


async def lead_links(networking: Networking, paths: Paths, container_id: str) -> None:
    """Lead the links of running containers to where ``container_id`` is now: its address may be another one."""
    for other, entries in networking.linked(container_id).items():
        await asyncio.to_thread(readdress, paths.container(other).files / "hosts", entries)


def readdress(hosts: Path, entries: Sequence[tuple[str, str]]) -> None:
    """Give names in a hosts file other addresses; whatever else users and programs wrote there stays as it is.

    Args:
        hosts: a running container's file; no error if it is gone.
        entries: address and names, as ``Networking.files`` writes them; the first name tells which line is meant.
    """
    try:
        before = hosts.read_text()
    except FileNotFoundError:
        return
    # One line for each family.
    wanted = {(names.split()[0], ":" in address): f"{address}\t{names}\n" for address, names in entries}
    lines = []
    for line in before.splitlines(keepends=True):
        words = line.split()
        lines.append(wanted.get((words[1], ":" in words[0]), line) if len(words) > 1 else line)
    after = "".join(lines)
    if after != before:
        _rewrite(hosts.parent, {hosts.name: after.encode()})


def _rewrite(directory: Path, files: Mapping[str, bytes]) -> None:
    # In place: the container sees these very inodes.
    for name, content in files.items():
        with (directory / name).open("r+b") as file:
            file.write(content)
            file.truncate()
