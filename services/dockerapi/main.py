"""Wiring and life of dockerapi: the only file that knows every other."""

import asyncio
from dataclasses import dataclass
from typing import Final

from dockerapi import networks, volumes
from dockerapi.backend import Backend
from dockerapi.build import builds, tunnels
from dockerapi.build.underway import Underway
from dockerapi.container import containers, execs, files, logs, stats, streams
from dockerapi.http.hangup import HangupWatch
from dockerapi.http.routing import Route
from dockerapi.http.server import DockerApi
from dockerapi.image import archives, commit, images, push, registries
from dockerapi.metrics import ApiMetrics, DaemonCollector, DaemonFacts
from dockerapi.system import disk, events, swarm, system, unsupported
from sampan.docker.info_view import engine_id, host_facts
from sampan.engine.engine import Engine
from sampan.service.config import ServiceConfig
from sampan.service.harness import Service, run
from sampan.version import VERSION

NAME: Final = "dockerapi"

ROUTES: Final[tuple[Route, ...]] = (
    *system.ROUTES,
    *disk.ROUTES,
    *containers.ROUTES,
    *streams.ROUTES,
    *logs.ROUTES,
    *stats.ROUTES,
    *execs.ROUTES,
    *images.ROUTES,
    *archives.ROUTES,
    *files.ROUTES,
    *push.ROUTES,
    *registries.ROUTES,
    *commit.ROUTES,
    *builds.ROUTES,
    *tunnels.ROUTES,
    *networks.ROUTES,
    *volumes.ROUTES,
    *events.ROUTES,
    *swarm.ROUTES,
    *unsupported.ROUTES,
)


@dataclass(frozen=True, slots=True)
class ApiConfig(ServiceConfig):
    """What dockerapi can be told: nothing beyond what every service can."""


async def build(service: Service[ApiConfig]) -> None:
    """Connect to the services, and listen on the Docker socket."""
    loop = asyncio.get_running_loop()
    engine = await service.stack.enter_async_context(Engine.connect(service.layout, waits=True))
    hangups = HangupWatch(loop)
    service.stack.callback(hangups.close)
    metrics = ApiMetrics(service.metrics)
    service.metrics.register(DaemonCollector(loop, lambda: _ask_facts(engine), _info_labels(service)))
    api = DockerApi(
        Backend(engine, engine.runtime, metrics, hangups, engine.builds, Underway()), ROUTES, service.rest.used
    )
    service.stack.push_async_callback(api.close, service.config.grace_s)
    await api.listen(service.layout.docker_socket, service.config.socket_group)
    service.stack.callback(service.layout.docker_socket.unlink, missing_ok=True)


async def _ask_facts(engine: Engine) -> DaemonFacts:
    host = await engine.runtime.host.info()
    drivers = await engine.layers.drivers()
    # dockerd knows these three states, and counts every other one as stopped.
    states = {
        "running": host.containers_running,
        "paused": host.containers_paused,
        "stopped": host.containers_stopped,
    }
    return DaemonFacts(states, drivers.driver, host.events)


def _info_labels(service: Service[ApiConfig]) -> dict[str, str]:
    facts = host_facts()
    return {
        "architecture": facts.machine,
        "commit": "",
        "daemon_id": engine_id(service.layout.data_root),
        "kernel": facts.kernel,
        "os": facts.operating_system,
        "os_type": "linux",
        "os_version": facts.os_version,
        "version": VERSION,
    }


def main() -> int:
    """Run the service."""
    return run(NAME, ApiConfig, build)
