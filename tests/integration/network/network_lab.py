"""A small internet for tests: a namespace that plays the host, one that plays the world, and sockets in any of them.

The main thread moves into the "host" for the time of a test, and threads that it starts come along, so the code under
test finds there what it takes for the machine; nothing outside is touched and everything ends with the namespaces.
"""

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from runtimed.network.core.container_files import HostFiles
from runtimed.network.core.names import KernelNames, new_id
from runtimed.network.core.stack import NetworkStack
from runtimed.network.core.store import NetworkStore
from runtimed.network.kernel.nftables import Nftables
from runtimed.network.planning.default_bridge import DefaultBridge
from sampan.resource.container import Container
from sampan.resource.container_spec import ContainerSpec, Namespaces, PortBinding
from sampan.service.set_aside import SetAside
from sampan.store.database import Store
from sampan.sys import netns
from sampan.sys.libc import LIBC, check

T = TypeVar("T")

HOST = "198.51.100.1"
WORLD = "198.51.100.2"
NAMES = KernelNames(table="lab", default_bridge="lab0", prefix="lab-", owner="lab network ")
REACH_S = 60.0  # long enough for a busy machine
BLOCKED_S = 0.7  # what is dropped is never answered; a short wait shows that as well as a long one


@dataclass
class Lab:
    """Where everything is."""

    directory: Path
    world: Path  # namespace
    events: list[tuple[str, str, str, Mapping[str, str]]] = field(default_factory=list)
    host: HostFiles = field(default_factory=HostFiles)

    def publish(self, type: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        self.events.append((type, action, actor_id, attributes))

    @contextlib.asynccontextmanager
    async def stack(self, default_bridge: DefaultBridge = DefaultBridge()) -> AsyncIterator[NetworkStack]:  # noqa: B008
        async with (
            Store(self.directory / "runtimed.db", "runtimed.schema") as store,
            self.over(store, default_bridge) as stack,
        ):
            yield stack

    def over(self, store: Store, default_bridge: DefaultBridge = DefaultBridge()) -> NetworkStack:  # noqa: B008
        return NetworkStack(
            names=NAMES,
            run=self.directory / "run",
            store=NetworkStore(store),
            set_aside=SetAside(),
            table=Nftables(),
            publish=self.publish,
            host=self.host,
            default_bridge=default_bridge,
        )


@contextlib.contextmanager
def lab(directory: Path) -> Iterator[Lab]:
    """Move into a fresh "host" that is wired to a "world"; come back at the end."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    world = directory / "world"
    try:
        check(LIBC.unshare(netns.CLONE_NEWNET), "unshare")
        inside(None, lambda: netns.create(world))
        _run("ip link set lo up")
        _run(f"ip link add out0 type veth peer name world0 netns {world}")
        _run(f"ip addr add {HOST}/24 dev out0")
        _run("ip link set out0 up")
        enter = f"nsenter --net={world} "
        _run(enter + f"ip addr add {WORLD}/24 dev world0")
        _run(enter + "ip link set world0 up")
        _run(enter + "ip link set lo up")
        yield Lab(directory, world)
    finally:
        check(LIBC.setns(home, netns.CLONE_NEWNET), "setns")
        os.close(home)
        for left in (world, *directory.glob("run/netns/*")):
            netns.remove(left)


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True, timeout=60)


def output(command: str) -> str:
    return subprocess.run(command.split(), check=True, timeout=60, stdout=subprocess.PIPE, text=True).stdout


def inside(namespace: Path | None, job: Callable[[], T]) -> T:
    """Run ``job`` in a thread of its own, in ``namespace``."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            if namespace is not None:
                netns.enter(namespace)
            results.append(job())
        except BaseException as error:  # noqa: BLE001  # raised below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()  # each job has deadlines of its own
    if errors:
        raise errors[0]
    return results[0]


@contextlib.contextmanager
def server(namespace: Path | None, port: int, address: str = "0.0.0.0") -> Iterator[None]:
    """Tell whoever connects which address it comes from."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = inside(namespace, lambda: socket.create_server((address, port), family=family))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, (source, *_) = listener.accept()
                with peer:
                    peer.sendall(source.encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(60)


def out_of_reach(namespace: Path | None, address: str, port: int) -> bool:
    """Tell whether nobody answers ``namespace`` there."""
    return seen_as(namespace, address, port, BLOCKED_S) is None


def seen_as(namespace: Path | None, address: str, port: int, patience_s: float = REACH_S) -> str | None:
    """Connect from ``namespace``; return the address that the server sees, None if it cannot be reached."""

    def ask() -> str | None:
        try:
            with socket.create_connection((address, port), timeout=patience_s) as peer:
                return peer.recv(100).decode() or None
        except OSError:
            return None

    return inside(namespace, ask)


@contextlib.contextmanager
def udp_echo(namespace: Path | None, port: int) -> Iterator[None]:
    def bind() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", port))
        return sock

    sock = inside(namespace, bind)
    stop = threading.Event()
    sock.settimeout(0.1)

    def serve() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                message, peer = sock.recvfrom(100)
                sock.sendto(message, peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        sock.close()


def udp_ask(namespace: Path | None, address: str, port: int) -> bytes | None:
    def ask() -> bytes | None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(REACH_S)
            sock.connect((address, port))
            try:
                sock.send(b"ping")
                return sock.recv(100)
            except OSError:
                return None

    return inside(namespace, ask)


@contextlib.contextmanager
def steady_udp_client(namespace: Path | None, address: str, port: int) -> Iterator[Callable[[float], bytes | None]]:
    """Give a function that asks from one and the same port each time, and waits so many seconds for an answer."""
    sock = inside(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    def ask(patience_s: float) -> bytes | None:
        sock.settimeout(patience_s)
        # Not connected: a "port unreachable" from before must not be the answer to a later question.
        sock.sendto(b"ping", (address, port))
        try:
            return sock.recv(100)
        except TimeoutError:
            return None

    with sock:
        yield ask


def container(name: str = "web", network: str = "bridge", *ports: PortBinding, **spec: object) -> Container:
    whole = ContainerSpec(name=name, namespaces=Namespaces(network=network), ports=ports, **spec)  # type: ignore[arg-type]
    return Container(new_id(), whole, datetime.now(UTC))
