"""Names, asked for inside a container by the C library's own means and by hand."""

import asyncio
import contextlib
import socket
import struct
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from runtimed.network.core.container_files import HostFiles
from runtimed.network.core.networks import Networks
from runtimed.network.core.stack import NetworkStack
from sampan.resource.container_spec import Dns, Endpoint
from sampan.resource.network import NetworkRequest
from tests.fakes.container_records import InMemoryRecords
from tests.integration.network.network_lab import WORLD, Lab, container, inside, lab

pytestmark = pytest.mark.root

RESOLVER = "127.0.0.11"
FAR = bytes([203, 0, 113, 7])  # what the world's name server says of every name


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Lab]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text(f"nameserver 198.51.100.9\nnameserver {WORLD}\n")
    with lab(tmp_path) as made:
        made.host = HostFiles(tmp_path)
        yield made


@pytest_asyncio.fixture
async def stack(place: Lab) -> AsyncIterator[NetworkStack]:
    async with place.stack() as made:
        await made.recover(())
        await Networks(made, InMemoryRecords()).create(NetworkRequest("shop"))
        await Networks(made, InMemoryRecords()).create(NetworkRequest("closed", internal=True))
        yield made


def query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def ask(name: str, kind: int = 1) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(60)
        sock.connect((RESOLVER, 53))
        sock.send(query(name, kind))
        return sock.recv(512)


def ask_stream(name: str) -> bytes:
    message = query(name)
    with socket.create_connection((RESOLVER, 53), timeout=60) as sock, sock.makefile("rwb") as stream:
        stream.write(struct.pack("!H", len(message)) + message)
        stream.flush()
        (size,) = struct.unpack("!H", stream.read(2))
        return stream.read(size)


def code(answer: bytes) -> int:
    return answer[3] & 15


@contextlib.contextmanager
def worlds_server(namespace: Path, address: str = WORLD) -> Iterator[None]:
    """Answer every question with ``FAR``, over UDP and TCP."""

    def open_both() -> tuple[socket.socket, socket.socket]:
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagram.bind((address, 53))
        return datagram, socket.create_server((address, 53))

    def answer(message: bytes) -> bytes:
        return message[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + message[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + FAR

    datagram, listener = inside(namespace, open_both)

    def serve_datagrams() -> None:
        with contextlib.suppress(OSError):
            while True:
                message, peer = datagram.recvfrom(512)
                if message:
                    datagram.sendto(answer(message), peer)

    def serve_streams() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer, peer.makefile("rwb") as stream:
                    (size,) = struct.unpack("!H", stream.read(2))
                    reply = answer(stream.read(size))
                    stream.write(struct.pack("!H", len(reply)) + reply)

    threads = [threading.Thread(target=serve, daemon=True) for serve in (serve_datagrams, serve_streams)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for sock in (datagram, listener):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in threads:
            thread.join(60)


async def in_container(namespace: str, name: str, kind: int = 1) -> bytes:
    return await asyncio.to_thread(inside, Path(namespace), lambda: ask(name, kind))


async def test_containers_find_each_other_by_every_name(stack: NetworkStack) -> None:
    web = await stack.attach(container("web", "shop"))
    stored = container("db", "shop", endpoints=(Endpoint("shop", aliases=("store",)),))
    db = (await stack.attach(stored)).endpoints[0].ipv4_address
    for name in ("db", "DB", "store", "db.shop", stored.short_id):
        assert (await in_container(web.sandbox_path, name)).endswith(socket.inet_aton(db))
    assert b"\2db\4shop" in await in_container(
        web.sandbox_path, ".".join(reversed(db.split("."))) + ".in-addr.arpa", 12
    )
    assert code(await in_container(web.sandbox_path, "db", 28)) == 0  # no such address, and yet the name exists
    await stack.renamed(replace(stored, spec=replace(stored.spec, name="database")))
    assert (await in_container(web.sandbox_path, "database")).endswith(socket.inet_aton(db))


async def test_c_library_is_content(stack: NetworkStack, tmp_path: Path) -> None:
    web_container = container("web", "shop")
    web = await stack.attach(web_container)
    files = await stack.files(web_container, web)
    (tmp_path / "resolv.conf").write_bytes(files["resolv.conf"])
    db = (await stack.attach(container("db", "shop"))).endpoints[0].ipv4_address
    script = f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && getent ahosts db"
    process = await asyncio.create_subprocess_exec(
        "unshare", "--mount", "nsenter", f"--net={web.sandbox_path}", "sh", "-c", script, stdout=subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert out.decode().split()[0] == db


async def test_names_outside_are_asked_of_the_hosts_servers_until_one_answers(place: Lab, stack: NetworkStack) -> None:
    web = await stack.attach(container("web", "shop"))
    with worlds_server(place.world):
        assert (await in_container(web.sandbox_path, "example.org")).endswith(FAR)
        assert (await asyncio.to_thread(inside, Path(web.sandbox_path), lambda: ask_stream("example.org"))).endswith(
            FAR
        )


async def test_servers_of_the_users_choice_are_asked_from_inside(stack: NetworkStack) -> None:
    web = await stack.attach(container("web", "shop", dns=Dns(servers=("127.0.0.2",))))
    with worlds_server(Path(web.sandbox_path), "127.0.0.2"):
        assert (await in_container(web.sandbox_path, "example.org")).endswith(FAR)


async def test_without_a_server_that_answers_it_is_our_failure(place: Lab, stack: NetworkStack) -> None:
    web = await stack.attach(container("web", "shop", dns=Dns(servers=("127.0.0.2",))))
    assert code(await in_container(web.sandbox_path, "example.org")) == 2


async def test_internal_network_knows_its_own_and_nothing_else(place: Lab, stack: NetworkStack) -> None:
    web = await stack.attach(container("web", "closed"))
    with worlds_server(place.world):
        assert code(await in_container(web.sandbox_path, "web")) == 0
        assert code(await in_container(web.sandbox_path, "example.org")) == 3


async def test_container_may_run_a_name_server_of_its_own(stack: NetworkStack) -> None:
    web = await stack.attach(container("web", "shop"))

    def bind_all() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("0.0.0.0", 53))

    await asyncio.to_thread(inside, Path(web.sandbox_path), bind_all)


async def test_names_resolve_again_after_the_engine_was_away(place: Lab) -> None:
    web = container("web", "shop")
    async with place.stack() as stack:
        await stack.recover(())
        await Networks(stack, InMemoryRecords()).create(NetworkRequest("shop"))
        settings = await stack.attach(web)
    async with place.stack() as stack:
        await stack.recover((replace(web, network=settings),))
        answer = await in_container(settings.sandbox_path, "web")
        assert answer.endswith(socket.inet_aton(settings.endpoints[0].ipv4_address))
        await stack.detach(web.id)


async def test_container_that_joins_a_users_network_gets_names(stack: NetworkStack) -> None:
    records = InMemoryRecords()
    web = container("web")
    records.add(web)
    settings = await stack.attach(web)
    db = (await stack.attach(container("db", "shop"))).endpoints[0].ipv4_address
    await Networks(stack, records).connect("shop", "web", Endpoint(""))
    assert (await in_container(settings.sandbox_path, "db")).endswith(socket.inet_aton(db))
    files = await stack.files(web, stack.settings(web))
    assert files["resolv.conf"].startswith(b"nameserver 127.0.0.11\n")
