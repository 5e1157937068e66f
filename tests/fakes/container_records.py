"""The lifecycle's container records, in memory."""

from collections.abc import Collection
from dataclasses import replace

from runtimed.containers.model import Container, NetworkSettings
from runtimed.containers.spec import Endpoint
from sampan.errors import NotFoundError


class InMemoryRecords:
    """Satisfies ``protocol.ContainerRecords``."""

    def __init__(self) -> None:
        self._containers: dict[str, Container] = {}

    def add(self, *containers: Container) -> None:
        self._containers.update((container.id, container) for container in containers)

    @staticmethod
    def endpoint(network: str = "", **fields: object) -> Endpoint:
        return Endpoint(network, **fields)  # type: ignore[arg-type]

    async def find(self, reference: str) -> Container:
        for container in self._containers.values():
            if reference == container.name or container.id.startswith(reference):
                return container
        raise NotFoundError(f"No such container: {reference}")

    async def all(self) -> Collection[Container]:
        return tuple(self._containers.values())

    async def set_network(self, container_id: str, endpoints: tuple[Endpoint, ...], settings: NetworkSettings) -> None:
        container = self._containers[container_id]
        spec = replace(container.spec, endpoints=endpoints)
        self._containers[container_id] = replace(container, spec=spec, network=settings)
