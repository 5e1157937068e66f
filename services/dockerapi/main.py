"""Wiring and life of dockerapi: the only file that knows every other."""

import asyncio
import grp
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dockerapi import networks, volumes
from dockerapi.admission import Admission
from dockerapi.backend import Backend
from dockerapi.build import builds, tunnels
from dockerapi.build.underway import Underway
from dockerapi.container import containers, execs, files, logs, stats, streams
from dockerapi.http.connection import Entrance
from dockerapi.http.hangup import HangupWatch
from dockerapi.http.routing import Route
from dockerapi.http.server import DockerApi
from dockerapi.image import archives, commit, images, push, registries
from dockerapi.listen.addresses import TlsFiles, Wanted, parse_all
from dockerapi.metrics import ApiMetrics, DaemonCollector, DaemonFacts
from dockerapi.rights.scope import EVERYTHING, Scope, make_scope
from dockerapi.system import disk, events, joined_metrics, remote, swarm, system, unsupported
from dockerapi.wire.gate import Gate
from sampan.docker.views.info_view import engine_id, host_facts
from sampan.engine.engine import Engine
from sampan.errors import InvalidArgumentError
from sampan.resource.listing import EVERYONE
from sampan.service.config import ServiceConfig, option, required, tables
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
    *remote.ROUTES,
    *swarm.ROUTES,
    *unsupported.ROUTES,
)


@dataclass(frozen=True, slots=True)
class SocketConfig:
    """Further addresses, whose clients may not do everything."""

    listen: tuple[str, ...] = required('addresses: "unix:///path", "tcp://host:port", "fd://NAME"')
    group: str = option("", "group that may use the unix sockets; empty: socket_group")
    read_only: bool = option(False, "let clients look, and neither change anything nor get files out")
    no_host: bool = option(
        False,
        "give nobody the host: no privileges, host namespaces, devices, volume options, builds, or binds but binds",
    )
    binds: tuple[str, ...] = option((), "with no_host: paths of the host that may be mounted, these exactly")
    only_label: str = option("", "with no_host or read_only: show, and let be made, only what has this label")
    operations: tuple[str, ...] = option(
        (), 'operations that are allowed, as "container.list" or "*.inspect"; empty: all'
    )

    @property
    def scope(self) -> Scope:
        """How far clients may go. InvalidArgumentError."""
        return make_scope(
            read_only=self.read_only,
            no_host=self.no_host,
            binds=self.binds,
            only_label=self.only_label,
            operations=self.operations,
        )


@dataclass(frozen=True, slots=True)
class ApiConfig(ServiceConfig):
    """What dockerapi can be told."""

    listen: tuple[str, ...] = option(
        (), 'addresses to serve at beside the engine\'s own socket: "unix:///path", "tcp://host:port", "fd://"'
    )
    tls_cert: str = option("", "certificate chain that TCP clients are shown; with tls_key, TLS is spoken")
    tls_key: str = option("", "key of the certificate")
    tls_ca: str = option("", "certificates of the authority that signs clients' certificates")
    tls_crl: str = option("", "what that authority has revoked; a list that has expired lets nobody in")
    tls_verify: bool = option(True, "let nobody in over TCP without a certificate that tls_ca has signed")
    allow_unauthenticated_tcp: bool = option(
        False, "let everybody in who can reach a TCP address, and so become root on this machine"
    )
    authorization_plugins: tuple[str, ...] = option(
        (), "Docker's authorization plugins, by name, that are asked about each request in turn"
    )
    authorization_timeout_s: float = option(5.0, "seconds that a plugin has to answer; then it refuses")
    audit: str = option("off", 'where the audit log goes: "off", "file", "syslog" or "journald"')
    audit_everything: bool = option(False, "have requests in the audit log, too, that change nothing")
    audit_file: str = option("", "the audit log as a file; empty: dockerapi/audit.log in the data root")
    audit_max_bytes: int = option(64 << 20, "size at which the file becomes audit.log.1")
    audit_files: int = option(8, "how many such files are kept")
    audit_on_failure: str = option(
        "refuse", 'what happens while the audit log cannot be written: "refuse" requests, or "continue" without it'
    )
    show_pods: bool = option(
        False, "show pods' containers, too, in lists and events; they are named by their IDs, and never pruned"
    )
    sockets: tuple[SocketConfig, ...] = tables("further addresses, with limits to what their clients may do")

    @property
    def tls(self) -> TlsFiles:
        """What TLS is spoken with."""
        return TlsFiles(self.tls_cert, self.tls_key, self.tls_ca, self.tls_crl, self.tls_verify)

    def wanted(self) -> list[Wanted]:
        """Return the addresses. InvalidArgumentError for what is none, or would let strangers in."""
        texts = [text for socket in self.sockets for text in socket.listen]
        allowed = self.allow_unauthenticated_tcp
        addresses = parse_all([*self.listen, *texts], self.tls, allow_unauthenticated=allowed)
        limits = [(self.socket_group, EVERYTHING)] * len(self.listen)
        for socket in self.sockets:
            _check_group(socket.group)
            limits += [(socket.group or self.socket_group, socket.scope)] * len(socket.listen)
        return [
            Wanted(address, group, Entrance(str(address), scope))
            for address, (group, scope) in zip(addresses, limits, strict=True)
        ]


def _check_group(name: str) -> None:
    """Raise InvalidArgumentError for a group that there is not: nobody but root would get in, and nobody know why."""
    if name:
        try:
            grp.getgrnam(name)
        except KeyError:
            raise InvalidArgumentError(f"sockets: there is no group {name!r}") from None


async def build(service: Service[ApiConfig]) -> None:
    """Connect to the services, and listen on the Docker socket."""
    loop = asyncio.get_running_loop()
    config = service.config
    wanted = config.wanted()
    engine = await service.stack.enter_async_context(Engine.connect(service.layout, waits=True))
    hangups = HangupWatch(loop)
    service.stack.callback(hangups.close)
    metrics = ApiMetrics(service.metrics)
    service.pages.update(joined_metrics.pages(service.layout, NAME))
    service.metrics.register(DaemonCollector(loop, lambda: _ask_facts(engine), _info_labels(service)))
    admission = _make_admission(service)
    service.stack.push_async_callback(admission.close)
    shown = EVERYONE if config.show_pods else ""
    gate = Gate(service.layout, admission.trail, admission.plugins)
    gate.keep()
    backend = Backend(engine, engine.runtime, metrics, hangups, engine.builds, Underway(), gate, shown)
    api = DockerApi(backend, ROUTES, service.rest.used, admission)
    service.stack.push_async_callback(api.close, service.config.grace_s)
    await api.listen(service.layout.docker_socket, service.config.socket_group)
    service.stack.callback(service.layout.docker_socket.unlink, missing_ok=True)
    if wanted:
        await _open_entrances(service, wanted, api)


def _make_admission(service: Service[ApiConfig]) -> Admission:
    config = service.config
    if config.audit_on_failure not in ("refuse", "continue"):
        raise InvalidArgumentError(f"audit_on_failure: {config.audit_on_failure!r} is neither refuse nor continue")
    trail = None
    if config.audit != "off":
        from dockerapi.audit.sinks import make_sink
        from dockerapi.audit.trail import AuditTrail

        path = Path(config.audit_file) if config.audit_file else service.layout.data(NAME) / "audit.log"
        sink = make_sink(config.audit, path, config.audit_max_bytes, config.audit_files)
        trail = AuditTrail(
            sink,
            everything=config.audit_everything,
            refuses=config.audit_on_failure == "refuse",
            tell=lambda problem: service.state.note("audit log", problem),
        )
        opened = trail
        service.reloads.append(lambda _: opened.reopen())
    plugins = []
    if config.authorization_plugins:
        from dockerapi.rights.plugins import AuthorizationPlugin

        plugins = [AuthorizationPlugin(name, config.authorization_timeout_s) for name in config.authorization_plugins]
    return Admission(trail, plugins)


async def _open_entrances(service: Service[ApiConfig], wanted: list[Wanted], api: DockerApi) -> None:
    from dockerapi.listen.entrances import Entrances  # brings TLS, which most engines never speak

    config = service.config
    allowed = config.allow_unauthenticated_tcp
    entrances = Entrances(config.tls, allow_unauthenticated=allowed, left=service.rest.used)
    service.stack.callback(entrances.close)
    await entrances.open(wanted, api.protocols)
    service.reloads.append(lambda anew: entrances.reload(anew.tls))


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
