"""Containers as operations on networks see them: ``protocol.ContainerRecords``."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from runtimed.containers.memory_store import UP, MemoryStore
from runtimed.containers.paths import Paths
from runtimed.containers.store import Intent
from runtimed.protocol import Networking
from sampan.resource.container import Container, NetworkSettings
from sampan.resource.container_spec import Endpoint


class Records:
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


def _rewrite(directory: Path, files: Mapping[str, bytes]) -> None:
    # In place: the container sees these very inodes.
    for name, content in files.items():
        with (directory / name).open("r+b") as file:
            file.write(content)
            file.truncate()
