"""The builder's wiring and life."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast

from buildd.build.capabilities import describe
from buildd.build.protocol import Builder, Worker
from buildd.session.protocol import Sessions
from buildd.wire.services.control_servicer import ControlServicer
from buildd.wire.services.gateway_servicer import GatewayServicer
from sampan.errors import UnimplementedError
from sampan.service.config import ServiceConfig, option
from sampan.service.harness import Service, run


@dataclass(frozen=True, slots=True)
class Config(ServiceConfig):
    """What the builder can be told."""

    allow_network_host: bool = option(default=True, help="let a build's client grant it the host's network")
    allow_security_insecure: bool = option(default=False, help="let a build's client grant it all rights on the host")


class _Unready:
    """A builder, and its sessions, that can only say who it is."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def workers(self) -> Sequence[Worker]:
        return [self._worker]

    def __getattr__(self, name: str) -> NoReturn:
        raise UnimplementedError(f"this builder does not build yet ({name})")


async def build(service: Service[Config]) -> None:
    """Build, recover and register everything."""
    worker = describe(_identity(service.layout.data("buildd") / "id"), "overlayfs")
    unready = _Unready(worker)
    for servicer in (
        ControlServicer(cast("Builder", unready), cast("Sessions", unready)),
        GatewayServicer(cast("Builder", unready)),
    ):
        service.serve(servicer)


def _identity(path: Path) -> str:
    """Return the ID of this builder, made up when it starts for the first time."""
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        temporary.write_text(secrets.token_hex(12))
        temporary.rename(path)
    return path.read_text().strip()


def main() -> int:
    """Run the service."""
    return run("buildd", Config, build)
