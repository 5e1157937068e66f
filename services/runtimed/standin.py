"""Temporary."""

from pathlib import Path

from runtimed.model import Container, MountPoint
from runtimed.spec import ContainerSpec


class NoVolumes:
    async def resolve(self, container_id: str, spec: ContainerSpec) -> tuple[MountPoint, ...]:
        return ()

    async def fill(self, container: Container, root: Path) -> None: ...
    async def release(self, container_id: str, *, anonymous: bool) -> None: ...
