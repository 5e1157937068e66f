"""The lifecycle's container records, in memory."""

from collections.abc import Collection
from dataclasses import replace

from sampan.errors import NotFoundError
from sampan.resource.container import Container, NetworkSettings
from sampan.resource.container_spec import Endpoint


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
