"""Put registryd together and run it."""

import socket
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from registryd.check.check import RegistryCheck
from registryd.check.rebuild import Rebuilder
from registryd.check.repair import Repairer
from registryd.check.upkeep import Upkeep
from registryd.http.call import Parts
from registryd.http.htpasswd import Htpasswd
from registryd.http.server import RegistryServer
from registryd.metrics import RegistryMetrics
from registryd.repositories.blobs import Blobs
from registryd.repositories.engine_images import EngineImages
from registryd.repositories.manifests import Manifests
from registryd.repositories.roots import Roots
from registryd.repositories.uploads import Uploads, Visits
from registryd.wire.client import ContentClient, ImagesClient
from sampan.errors import InvalidArgumentError, UnavailableError
from sampan.log import log
from sampan.service.config import ServiceConfig, option
from sampan.service.harness import Service, run
from sampan.service.listening import Address, load_certificate, parse_address
from sampan.services import RESTART_S
from sampan.wire.channel import open_channel, reach

NAME: Final = "registryd"

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_EVERYWHERE: Final = ("0.0.0.0", "::")

_START_S: Final = 10.0  # imaged is there, or starts beside this service


@dataclass(frozen=True, slots=True)
class RegistryConfig(ServiceConfig):
    """What registryd can be told."""

    listen: str = option("127.0.0.1:5000", "host:port to serve the registry at")
    htpasswd: str = option("", "file of users and bcrypt hashes; without it everybody may come in")
    tls_cert: str = option("", "certificate chain in PEM form; with tls_key, HTTPS is served")
    tls_key: str = option("", "key of the certificate")
    read_only: bool = option(False, "refuse every push and removal")
    names: tuple[str, ...] = option((), "further names of this registry, as image names begin, such as reg.lan:5000")
    expose: tuple[str, ...] = option((), "registries whose images, as the engine has them, are served too: docker.io")
    max_blob_bytes: int = option(64 << 30, "largest blob that may be pushed")
    stall_timeout_s: float = option(120.0, "seconds that a client may neither send nor take anything")
    unused_s: float = option(86400.0, "seconds that uploads and blobs without a manifest are kept")


async def build(service: Service[RegistryConfig]) -> None:
    """Recover, and open the port."""
    config, layout, stack = service.config, service.layout, service.stack
    _check(config)
    address = parse_address(config.listen)
    tls = load_certificate(config.tls_cert, config.tls_key)
    users = Htpasswd(Path(config.htpasswd)) if config.htpasswd else None
    if users is not None and tls is None and address.host not in _LOOPBACK:
        log.warning("passwords travel in the clear: give the registry a certificate", listen=str(address))

    channel = open_channel(layout.socket("imaged"))
    stack.push_async_callback(channel.close)
    contents = ContentClient(channel)
    store = await service.open_store(layout.data(NAME) / "registry.db", "registryd.schema")
    roots = Roots()
    visits = Visits()
    upkeep = Upkeep(store, contents, config.unused_s, roots, visits, set_aside=service.set_aside)
    service.set_aside.count_in(service.metrics, ("label",))
    reach_imaged = partial(reach, channel, "imaged", RESTART_S)
    try:
        await reach(channel, "imaged", _START_S)
        if store.restored is not None and store.restored.lossy:
            await Rebuilder(store, contents, time.time_ns() + int(config.unused_s * 1e9)).run()
        await upkeep.recover()
    except UnavailableError:
        raise UnavailableError(
            f"cannot connect to the Sampan engine at {layout.run_root}: start it with: sampan up --detach"
        ) from None
    await stack.enter_async_context(upkeep)

    snapshotter = open_channel(layout.socket("snapshotter"))
    stack.push_async_callback(snapshotter.close)
    catalog = ImagesClient(channel, snapshotter)
    engine = EngineImages(catalog, contents, own_names(address, config.names) | set(config.expose))
    blobs = Blobs(store, contents, engine, config.unused_s, time.time_ns, roots)
    manifests = Manifests(store, contents, blobs, engine)
    uploads = Uploads(contents, blobs, config.max_blob_bytes, visits)
    repairer = Repairer(store, contents, blobs, manifests, upkeep)
    service.checkers.append(RegistryCheck(store, contents, roots, repairer, users, upkeep.is_abandoned))
    parts = Parts(blobs, manifests, uploads, RegistryMetrics(service.metrics), config.stall_timeout_s)
    server = RegistryServer(parts, users, reach_imaged, service.rest.used, read_only=config.read_only)
    stack.push_async_callback(server.close, config.grace_s)
    opened = await server.listen(address, tls)
    log.info("registry is open", address=str(opened), tls=tls is not None, users=users is not None)


def own_names(address: Address, further: tuple[str, ...]) -> set[str]:
    """Return what image names of this registry begin with."""
    hosts = {address.host}
    if address.host in (*_LOOPBACK, *_EVERYWHERE):
        hosts |= {"127.0.0.1", "localhost"}
    if address.host in _EVERYWHERE:
        hosts.add(socket.gethostname())
    return {str(Address(host, address.port)) for host in hosts - set(_EVERYWHERE)} | set(further)


def _check(config: RegistryConfig) -> None:
    """Raise InvalidArgumentError for numbers that make no sense."""
    for name in ("max_blob_bytes", "stall_timeout_s", "unused_s"):
        if getattr(config, name) <= 0:
            raise InvalidArgumentError(f"{name} is {getattr(config, name)}: it must be more than 0")


def main() -> int:
    """Run the service."""
    return run(NAME, RegistryConfig, build)
