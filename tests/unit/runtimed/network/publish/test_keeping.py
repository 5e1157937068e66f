"""Sockets of published ports that outlive who serves them, with a real supervisor's end."""

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runtimed.network.publish.keeping import KeptSockets
from runtimed.network.publish.ports import PortTable, Reach
from sampan.resource.container_spec import PortBinding
from sampan_cli.supervisor.child import NotifySocket

IPV6 = "::1"


@pytest.fixture
def supervisor() -> Iterator[NotifySocket]:
    with tempfile.TemporaryDirectory(prefix="kept") as root:
        made = NotifySocket(Path(root) / "n")
        yield made
        made.close()


async def fetched(supervisor: NotifySocket) -> KeptSockets:
    """The sockets as the next process finds them."""
    loop = asyncio.get_running_loop()
    loop.add_reader(supervisor, supervisor.receive)
    kept = KeptSockets(str(supervisor.path))
    await kept.fetch()
    loop.remove_reader(supervisor)
    return kept


def refused(port: int) -> bool:
    with socket.socket(socket.AF_INET6) as asking:
        return asking.connect_ex((IPV6, port)) != 0


async def test_who_connects_meanwhile_is_served_by_the_next_process(supervisor: NotifySocket) -> None:
    kept = await fetched(supervisor)
    table = PortTable(kept)
    (port,) = table.reserve("c1", (PortBinding(80, "tcp", IPV6),), "web", Reach(v6=True))
    supervisor.receive()
    table.close()
    kept.close()  # it was killed
    with socket.create_connection((IPV6, port.host_port)) as client:
        kept = await fetched(supervisor)
        table = PortTable(kept)
        assert table.reacquire("c1", (port,)) == ()
        held = table.held(port)
        assert held is not None
        with held.accept()[0] as served:
            served.sendall(b"here")
            assert client.recv(10) == b"here"
    table.release("c1")
    supervisor.receive()
    assert refused(port.host_port)
    kept.close()


async def test_port_of_a_container_that_ended_meanwhile_is_closed(supervisor: NotifySocket) -> None:
    kept = await fetched(supervisor)
    table = PortTable(kept)
    (port,) = table.reserve("c1", (PortBinding(80, "tcp", IPV6),), "web", Reach(v6=True))
    supervisor.receive()
    table.close()
    kept.close()
    kept = await fetched(supervisor)
    kept.settle()
    supervisor.receive()
    assert refused(port.host_port)
    kept.close()


async def test_more_than_the_supervisor_takes_at_once_wait_in_order(supervisor: NotifySocket) -> None:
    kept = KeptSockets(str(supervisor.path))
    count = 300  # of a queue of ten, and of two hundred in one answer
    with closing(socket.socket()) as one:
        for number in range(count):
            kept.keep(f"tcp/{number}/::1", one)
        kept.drop("tcp/0/::1")
        for _ in range(count):
            supervisor.receive()
            await asyncio.sleep(0)
        again = await fetched(supervisor)
        found = [again.take(f"tcp/{number}/::1") for number in range(count)]
    assert found[0] is None
    assert all(found[1:])
    for each in found[1:]:
        assert each is not None
        each.close()
    again.close()
    kept.close()


async def test_without_a_supervisor_nothing_is_kept(tmp_path: Path) -> None:
    for address in ("", str(tmp_path / "nobody")):
        kept = KeptSockets(address)
        await kept.fetch()
        with socket.socket() as one:
            kept.keep("x", one)
        assert kept.take("x") is None
        kept.close()


def test_what_is_no_assignment_is_left_alone(supervisor: NotifySocket) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(supervisor.path))
        odd = (b"\xff\xfe", b"FDSTORE=1\nFDNAME=y", b"FDSTOREREMOVE=1\nFDNAME=x")
        for message in (b"READY=1", b"FDSTORE=1", b"FDGIVE=1", *odd):
            sender.send(message)
    assert "READY=1" in supervisor.receive()
