"""The life of a daemon: read the configuration, build, recover, serve, tell, stop. Every service runs in this.

A service hands over its name, its configuration class and one function that builds it; see ``run``.
"""

import asyncio
import contextlib
import fcntl
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from sampan import log as logs
from sampan import tracing
from sampan.check import Checker
from sampan.errors import ConflictError, DatabaseDamagedError, SampanError
from sampan.layout import Layout
from sampan.log import log
from sampan.metrics import exposition
from sampan.service import config as configuration
from sampan.service import listening
from sampan.service.check_servicer import CheckMetrics, CheckServicer, DamagedHandler
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.service.notify import kept, notify
from sampan.service.rest import Idle, Rest, give_back
from sampan.service.set_aside import SetAside
from sampan.service.statefile import StateFile, StoreCollector
from sampan.services import WHEN_ASKED
from sampan.sys import closed
from sampan.sys.files import note_owner, sync_directory
from sampan.wire.entrance import Entrance

if TYPE_CHECKING:
    from sampan.store.database import Store

C = TypeVar("C", bound=configuration.ServiceConfig)

# Largest message either way. Bulk data travels in pieces of 1 MiB; a manifest is at most 4 MiB.
MAX_MESSAGE_BYTES: Final = 16 << 20

SERVER_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
)


# Listens, within, at the first socket, and passes on to the second what it does not answer itself.
Front = Callable[[Path | Entrance, Path], AbstractAsyncContextManager[None]]

# What the supervisor calls the sockets that it holds for a service which is started when it is asked.
ENTRANCE: Final = "entrance"
METRICS: Final = "metrics"


@dataclass(slots=True)
class Service(Generic[C]):
    """What a service is built with. What enters ``stack`` is closed in reverse after the server has stopped."""

    config: C
    layout: Layout
    metrics: CollectorRegistry
    server: grpc.aio.Server
    stack: AsyncExitStack
    stopping: asyncio.Event  # set at SIGTERM: streams without an end of their own end now
    told: asyncio.Event  # that the process is to end; without it, what is ``stopping`` begins anew
    rest: Rest  # whatever answers other than by gRPC tells it that it is used
    set_aside: SetAside
    state: StateFile  # where problems are noted
    # Of what `sampan system check` looks at, beyond the databases.
    checkers: list[Checker] = field(default_factory=list)
    # What is served at /metrics beside ``metrics``: written, not collected.
    series: list[exposition.Render] = field(default_factory=list)
    # What is served at the metrics address beside /metrics, by path.
    pages: dict[str, exposition.Page] = field(default_factory=dict)
    # Called with the configuration as it is at SIGHUP, for what it can change then.
    reloads: list[Callable[[C], None]] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)
    _stores: "list[Store]" = field(default_factory=list)
    _fronts: list[Front] = field(default_factory=list)
    _idle: "list[tuple[float, Callable[[], bool]]]" = field(default_factory=list)

    def serve(self, servicer: object) -> None:
        """Serve ``servicer``; it derives from a generated ``<Name>Servicer``, which says what service it is."""
        generated = next(kind for kind in type(servicer).__mro__ if kind.__module__.endswith("_pb2_grpc"))
        messages = sys.modules[generated.__module__.removesuffix("_grpc")]
        service = messages.DESCRIPTOR.services_by_name[generated.__name__.removesuffix("Servicer")]
        getattr(sys.modules[generated.__module__], f"add_{generated.__name__}_to_server")(servicer, self.server)
        self._names.append(service.full_name)

    def stand_before(self, front: Front) -> None:
        """Have ``front`` answer at the service's socket; gRPC's server then does so at another, behind it."""
        self._fronts.append(front)

    def end_when_idle(self, after_s: float, is_busy: Callable[[], bool]) -> None:
        """End ``after_s`` seconds after the last use, if there is somebody who starts the service when it is asked.

        That it is called, that a client is connected, a scrape: all of this is use, and so is that ``is_busy`` says so.
        """
        self._idle.append((after_s, is_busy))

    async def open_store(self, path: Path, schema: str) -> "Store":
        """Open a database that lives as long as the service does, and is checked with it. Raises as ``Store`` does."""
        from sampan.store.database import Store  # not every service has one, and SQLite is a megabyte or two

        store = Store(path, schema, tell=lambda problem: self.state.note(str(path), problem))
        await self.stack.enter_async_context(store)
        self._stores.append(store)
        return store


Build = Callable[[Service[C]], Awaitable[None]]


def run(name: str, kind: type[C], build: Build[C], argv: Sequence[str] | None = None) -> int:
    """Run the service until SIGTERM or SIGINT and return its exit code.

    ``build`` gets a ``Service`` and returns once everything is recovered and registered; the socket opens after it.
    """
    arguments = sys.argv[1:] if argv is None else argv
    try:
        config = configuration.load(kind, name, arguments, os.environ)
        config.layout.check()
        logs.configure(name, config.log_level, config.log_format)
    except SampanError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    os.umask(closed.UMASK)
    try:
        asyncio.run(_life(name, config, build, lambda: configuration.load(kind, name, arguments, os.environ)))
    except SampanError as error:
        log.error("cannot start", error=str(error))
        return 1
    except OSError as error:  # a disk that is full or read-only, a directory where a socket should be
        log.debug("cannot start", exc_info=True)
        log.error("cannot start", error=str(error))
        return 1
    return 0


async def _life(name: str, config: C, build: Build[C], load: Callable[[], C]) -> None:
    told = asyncio.Event()
    reloading = _Reloading(load)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloading)
    while not told.is_set():  # it begins anew after a database has been put right
        stopping = asyncio.Event()

        def stop(stopping: asyncio.Event = stopping) -> None:
            told.set()
            stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):  # first, so that none is missed during a slow start
            asyncio.get_running_loop().add_signal_handler(number, stop)
        await _once(name, config, build, stopping, told, reloading)


class _Reloading(Generic[C]):
    """What SIGHUP does: the configuration is read again, and told to whoever can change while the service runs."""

    def __init__(self, load: Callable[[], C]) -> None:
        self._load = load
        self.callbacks: list[Callable[[C], None]] = []

    def __call__(self) -> None:
        try:
            config = self._load()
            for callback in self.callbacks:
                callback(config)
        except SampanError as error:
            log.error("configuration not reloaded, the former one stays", error=str(error))
            return
        log.info("configuration reloaded")


async def _once(
    name: str,
    config: C,
    build: Build[C],
    stopping: asyncio.Event,
    told: asyncio.Event,
    reloading: _Reloading[C],
) -> None:
    layout = config.layout
    async with AsyncExitStack() as stack:
        _take_roots(stack, name, layout)
        passed: dict[str, socket.socket] = {}
        if name in WHEN_ASKED:
            stack.enter_context(_unfinished(layout.unfinished(name)))
            passed = stack.enter_context(_passed())
        entrance = Entrance(passed[ENTRANCE]) if ENTRANCE in passed else None
        stack.callback(tracing.start(name, config.traces))
        service = _new_service(name, config, stack, stopping, told)
        checker = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(checker, service.server)
        damage = await _build(service, build)
        _serve_check(service, name, damage)
        names = service._names
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], service.server)
        scrape = exposition.Exposition(
            service.metrics, service.series, config.metrics, name, layout, service.pages, passed.get(METRICS)
        )
        stack.callback(scrape.close)
        await _open(service, name, entrance)
        for served in ("", *names):
            await checker.set(served, _health(served, damage))
        stack.callback(service.state.close)
        service.state.open(scrape.address)
        gc.collect()
        gc.freeze()  # what is alive now lives as long as the process: later collections need not look at it
        give_back()
        service.rest.used()  # by whoever waits for this
        reloading.callbacks = service.reloads
        stack.callback(reloading.callbacks.clear)
        if entrance is not None:
            _end_when_idle(service, entrance, scrape)
        notify("READY=1")
        log.info("serving", socket=str(layout.socket(name)), metrics=scrape.address, pid=os.getpid())
        await stopping.wait()
        notify("STOPPING=1")
        log.info("stopping", grace_s=config.grace_s)
        await checker.enter_graceful_shutdown()
        await service.server.stop(config.grace_s)
    log.info("stopped")


def _take_roots(stack: AsyncExitStack, name: str, layout: Layout) -> None:
    """Make the service's directories, close them to others, and keep a second process of it out."""
    closed.make_closed(layout.data_root, layout.data_root_mode)
    closed.make_closed(layout.run_root, closed.RUN_ROOT)
    for directory in (layout.data(name), layout.run(name)):
        closed.make_closed(directory)
        closed.close_files(directory)
    stack.enter_context(locked(layout.data(name) / "lock", f"data root {layout.data_root}"))


def _new_service(
    name: str, config: C, stack: AsyncExitStack, stopping: asyncio.Event, told: asyncio.Event
) -> Service[C]:
    layout, metrics, rest = config.layout, exposition.new_metrics(), Rest.of(asyncio.get_running_loop())
    stack.callback(rest.close)
    interceptor = Interceptor(RpcMetrics(metrics), rest.used)
    service = Service(
        config=config,
        layout=layout,
        metrics=metrics,
        server=grpc.aio.server(interceptors=[interceptor], options=SERVER_OPTIONS),
        stack=stack,
        stopping=stopping,
        told=told,
        rest=rest,
        set_aside=SetAside(name, layout.run(name)),
        state=StateFile(name, layout, config.socket_group),
    )
    metrics.register(StoreCollector(service._stores, layout.data_root))
    return service


async def _open(service: Service[C], name: str, entrance: Entrance | None) -> None:
    """Answer at the service's socket: gRPC's server itself, or one that stands before it."""
    layout, group = service.layout, service.config.socket_group
    if entrance is not None and not service._fronts:
        from sampan.wire.http2.relay import standing_before  # where a service has no front, or is damaged

        service.stand_before(standing_before)
    behind = layout.run(name) / "grpc.sock" if service._fronts else layout.socket(name)
    _bind(service.server, behind, layout, group)
    await service.server.start()
    for front in service._fronts:
        await service.stack.enter_async_context(front(entrance or layout.socket(name), behind))
        if entrance is None:
            listening.share(layout.socket(name), layout, group)


async def _build(service: Service[C], build: Build[C]) -> DatabaseDamagedError | None:
    """Build the service; return why it cannot do its work, if its database is damaged."""
    try:
        await build(service)
    except DatabaseDamagedError as error:
        log.error("cannot work", error=str(error))
        service.server.add_generic_rpc_handlers((DamagedHandler(error),))
        return error
    for store in service._stores:
        await store.settle()
    return None


def _serve_check(service: Service[C], name: str, damage: DatabaseDamagedError | None) -> None:
    restart = service.stopping.set
    checkers = list(service.checkers)
    if damage is not None or service._stores:
        from sampan.service.database_check import DatabaseCheck, unopened

        if damage is not None:
            checkers = [unopened(damage.path, restart)]
        else:
            checkers = [*(DatabaseCheck(store.path, store.examine, restart) for store in service._stores), *checkers]
    restored = [store.restored for store in service._stores if store.restored is not None]
    service.serve(CheckServicer(name, checkers, restored, CheckMetrics(service.metrics)))


def _health(served: str, damage: DatabaseDamagedError | None) -> health_pb2.HealthCheckResponse.ServingStatus:
    status = health_pb2.HealthCheckResponse
    return status.SERVING if damage is None or served.startswith("sampan.check.") else status.NOT_SERVING


def _bind(server: grpc.aio.Server, path: Path, layout: Layout, group: str) -> None:
    path.unlink(missing_ok=True)  # of a process that was killed; the lock says that it is gone
    previous = os.umask(0o117)
    try:
        server.add_insecure_port(f"unix:{path}")  # the socket exists, and is ours alone to share, from here on
    finally:
        os.umask(previous)
    listening.share(path, layout, group)


@contextlib.contextmanager
def _passed() -> Iterator[dict[str, socket.socket]]:
    """Have the sockets, by name, that the supervisor holds for this service, if there is one that does."""
    found: dict[str, socket.socket] = {}
    if address := os.environ.get("NOTIFY_SOCKET", ""):
        try:
            found = kept(address)
        except OSError as error:
            log.warning("sockets that were kept could not be had", error=str(error))
    try:
        yield found
    finally:
        for each in found.values():
            each.close()


def _end_when_idle(service: Service[C], entrance: Entrance, scrape: exposition.Exposition) -> None:
    """End the service as it asked for; whoever connects from then on is left to the next process."""
    supervisor = os.getppid()

    def shut() -> None:
        log.info("nobody has asked for anything: ending until somebody does")
        entrance.shut()
        service.told.set()
        service.stopping.set()

    for after_s, is_busy in service._idle:
        if after_s > 0:

            def is_used(is_busy: Callable[[], bool] = is_busy) -> bool:
                # Without the supervisor nobody would start it again.
                return entrance.is_used or is_busy() or os.getppid() != supervisor

            idle = Idle(asyncio.get_running_loop(), shut)
            service.stack.callback(idle.close)
            idle.start(after_s, is_used, lambda: max(service.rest.used_at, scrape.asked_at))


@contextlib.contextmanager
def _unfinished(marker: Path) -> Iterator[None]:
    """Have ``marker`` there while the service runs, and afterwards if it did not come to its end in order."""
    with contextlib.suppress(OSError):  # a full disk, with which an engine has to start
        marker.touch(0o600)
        sync_directory(marker.parent)
    yield
    marker.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on ``path``, which lasts as long as the process at most.

    Raises:
        ConflictError: another process holds it; the message names ``what`` and that process.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(fd, 32, 0).decode().strip() or "unknown"
            raise ConflictError(
                f"{what} is in use by another engine (pid {owner}): stop it, or choose other roots"
            ) from None
        note_owner(fd)
        yield
    finally:
        os.close(fd)
