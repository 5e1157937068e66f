"""Put crid together and run it."""

from dataclasses import dataclass
from typing import Final

from crid.wire.runtime_servicer import RuntimeServicer
from crid.wire.services import image_service, runtime_service
from sampan.client.services import Services
from sampan.service.config import ServiceConfig
from sampan.service.harness import Service, run

NAME: Final = "crid"

_REACH_S: Final = 20.0  # the services that this one needs start before it, or beside it


@dataclass(frozen=True, slots=True)
class CriConfig(ServiceConfig):
    """What crid can be told."""


async def build(service: Service[CriConfig]) -> None:
    """Recover, and register everything."""
    engine = await service.stack.enter_async_context(Services.connect(service.layout, waits=True))
    await engine.reach(_REACH_S)
    service.serve(runtime_service(RuntimeServicer()))
    service.serve(image_service())


def main() -> int:
    """Run the service."""
    return run(NAME, CriConfig, build)
