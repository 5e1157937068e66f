"""What is made is taken down again: after a detach, a failure, a crash, a stop."""

import asyncio
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtimed.network.core.networks import Networks
from runtimed.network.kernel.rtnetlink import Rtnetlink
from sampan.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StartError,
)
from sampan.resource.container_spec import Endpoint, PortBinding
from sampan.resource.network import AddressPool, NetworkRequest
from sampan.store.database import Store
from sampan.sys import netns
from tests.fakes.container_records import InMemoryRecords
from tests.integration.network.network_lab import HOST, Lab, container, inside, output, seen_as, server
from tests.support.tools import eventually

pytestmark = pytest.mark.root


def links() -> set[str]:
    with Rtnetlink() as host:
        return {link.name for link in host.links()}


def veths() -> set[str]:
    return {name for name in links() if name.startswith("ve")}


def no_veth_is_left() -> None:
    """See that all are gone: the kernel takes one away a moment after the namespace that its other end was in."""
    eventually(lambda: veths() == set(), "no veth is left")


def leftovers(place: Lab) -> list[str]:
    return sorted(path.name for kind in ("netns", "sandboxes") for path in (place.directory / "run" / kind).iterdir())


async def test_detach_leaves_nothing_and_can_be_repeated(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        web = container("web", "bridge", PortBinding(80, host_port=8080))
        await stack.attach(web)
        await stack.detach(web.id)
        await stack.detach(web.id)
        assert leftovers(place) == []
        socket.create_server(("0.0.0.0", 8080)).close()
        assert "8080" not in output("nft list table ip lab")
    no_veth_is_left()


async def test_stop_without_containers_leaves_nothing_in_the_kernel(place: Lab) -> None:
    before = links()
    async with place.stack() as stack:
        await stack.recover(())
        await Networks(stack, InMemoryRecords()).create(NetworkRequest("side"))
        assert len(links()) == len(before) + 2
    assert links() == before
    assert "table ip lab" not in output("nft list tables")


async def test_stop_and_start_leave_running_containers_connected(place: Lab) -> None:
    web = container("web", "bridge", PortBinding(80, host_port=8080))
    async with place.stack() as stack:
        await stack.recover(())
        settings = await stack.attach(web)
    with server(Path(settings.sandbox_path), 80):
        assert seen_as(None, HOST, 8080) is not None  # while nobody looks after it
        async with place.stack() as stack:
            await stack.recover((replace(web, network=settings),))
            assert stack.settings(web) == settings
            assert seen_as(None, HOST, 8080) is not None
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("0.0.0.0", 8080))
            other = await stack.attach(container("other"))
            assert other.endpoints[0].ipv4_address != settings.endpoints[0].ipv4_address
            await stack.detach(web.id)


async def test_recover_removes_what_belongs_to_nobody(place: Lab) -> None:
    kept, gone = container("kept"), container("gone", "bridge", PortBinding(80, host_port=8080))
    async with Store(place.directory / "runtimed.db", "runtimed.schema") as store:
        killed = await place.over(store).__aenter__()
        await killed.recover(())
        settings = await killed.attach(kept)
        await killed.attach(gone)
        network = await Networks(killed, InMemoryRecords()).create(NetworkRequest("side"))
        await killed.store.remove(network.id)  # killed between the row and the bridge
    async with place.stack() as stack:
        await stack.recover((replace(kept, network=settings),))
        assert leftovers(place) == sorted([kept.id, kept.id])
        eventually(lambda: len(veths()) == 1, "the veth of the one that is kept is left")
        assert network.bridge not in links()
        assert "8080" not in output("nft list table ip lab")
        assert stack.settings(kept) == settings


@pytest.mark.parametrize("step", ["create", "add_veth", "pin", "add_address", "set_default_route", "write"])
async def test_attach_that_fails_anywhere_leaves_nothing(
    place: Lab, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        homes: dict[str, Any] = {"create": netns, "write": stack.files_of}
        home = homes.get(step, Rtnetlink)
        real = getattr(home, step)

        def done_and_refused(*arguments: Any) -> None:
            real(*arguments)
            raise StartError("as if the kernel had refused")

        web = container("web", "bridge", PortBinding(80, host_port=8080))
        monkeypatch.setattr(home, step, done_and_refused)
        with pytest.raises(StartError, match="as if"):
            await stack.attach(web)
        monkeypatch.undo()
        assert leftovers(place) == []
        settings = await stack.attach(web)  # address and port are free again
        assert settings.endpoints[0].ipv4_address == "172.17.0.2"
        await stack.detach(web.id)
    no_veth_is_left()


async def test_attach_again_after_a_lost_reply_starts_over(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        web = container("web", "bridge", PortBinding(80, host_port=8080))
        await stack.attach(web)
        again = await stack.attach(web)
        assert again.ports[0].host_port == 8080
        assert len(leftovers(place)) == 2
        await stack.detach(web.id)


async def test_cancelled_attach_leaves_nothing(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        for ticks in range(12):
            web = container("web", "bridge", PortBinding(80, host_port=8080))
            task = asyncio.create_task(stack.attach(web))
            for _ in range(ticks):
                await asyncio.sleep(0.0005)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                assert leftovers(place) == []
            else:
                await stack.detach(web.id)
    no_veth_is_left()


async def test_port_of_another_container_is_refused_in_dockers_words(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        first = container("first", "bridge", PortBinding(80, host_port=8080))
        await stack.attach(first)
        second = container(
            "second", "bridge", PortBinding(81, host_port=8081), PortBinding(80, "tcp", "127.0.0.1", 8080)
        )
        with pytest.raises(
            StartError,
            match=r"^driver failed programming external connectivity on endpoint second \([0-9a-f]{64}\): "
            r"Bind for 127.0.0.1:8080 failed: port is already allocated$",
        ):
            await stack.attach(second)
        socket.create_server(("0.0.0.0", 8081)).close()
        await stack.detach(first.id)
        await stack.attach(second)
        await stack.detach(second.id)


async def test_port_of_another_program_is_refused_in_dockers_words(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        with (
            socket.create_server(("0.0.0.0", 8080)),
            pytest.raises(StartError, match=r"listen tcp4 0.0.0.0:8080: bind: address already in use$"),
        ):
            await stack.attach(container("web", "bridge", PortBinding(80, host_port=8080)))


async def test_port_with_closed_connections_lingering_on_it_is_free(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        with server(None, 8080):
            assert seen_as(None, "127.0.0.1", 8080) == "127.0.0.1"  # the server closes first: TIME_WAIT is on its side
        web = container("web", "bridge", PortBinding(80, host_port=8080))
        assert (await stack.attach(web)).ports[0].host_port == 8080
        await stack.detach(web.id)


async def test_any_free_port_is_shown_at_once(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        web = container(
            "web", "bridge", PortBinding(80), exposed_ports=("80/tcp", "9/udp", "7/tcp"), publish_all_ports=False
        )
        shown = [(port.container_port, port.protocol, bool(port.host_port)) for port in (await stack.attach(web)).ports]
        assert shown == [(80, "tcp", True), (80, "tcp", True), (7, "tcp", False), (9, "udp", False)]
        await stack.detach(web.id)


async def test_modes_without_a_network_of_their_own(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        host, none = container("host", "host"), container("none", "none")
        assert (await stack.attach(host)).sandbox_path == ""
        alone = await stack.attach(none)
        names = inside(Path(alone.sandbox_path), links)
        assert names == {"lo"}
        guest = container("guest", f"container:{none.id}")
        assert (await stack.attach(guest)).sandbox_path == alone.sandbox_path
        assert (await stack.files(guest, guest.network))["hostname"] == f"{none.short_id}\n".encode()
        stranger = container("stranger", "container:" + "0" * 64)
        with pytest.raises(ConflictError, match="cannot join network of a non running container: 0000"):
            await stack.attach(stranger)
        for one in (host, none, guest):
            await stack.detach(one.id)


async def test_unknown_network_fails_the_start_and_leaves_nothing(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        web = container("web", "nowhere")
        await stack.check(web.spec)
        with pytest.raises(NotFoundError, match="network nowhere not found"):
            await stack.attach(web)
        assert leftovers(place) == []


async def test_two_engines_choose_different_addresses(place: Lab, tmp_path: Path) -> None:
    other = Lab(tmp_path / "other", place.world)
    other.directory.mkdir()
    async with place.stack() as stack:
        await stack.recover(())
        async with other.stack() as second:
            (ours,) = (n.pools[0].subnet for n in stack.networks.values() if n.driver == "bridge")
            (theirs,) = (n.pools[0].subnet for n in second.networks.values() if n.driver == "bridge")
            assert not ours.overlaps(theirs)


async def test_default_network_moves_away_from_addresses_taken_meanwhile(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
    output("ip addr add 172.17.0.9/24 dev out0")
    async with place.stack() as stack:
        await stack.recover(())
        web = container()
        assert (await stack.attach(web)).endpoints[0].ipv4_address == "172.18.0.2"
        await stack.detach(web.id)


async def test_network_with_containers_cannot_be_removed(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        networks = Networks(stack, InMemoryRecords())
        await networks.create(NetworkRequest("side", pools=(AddressPool("10.9.0.0/24", ip_range="10.9.0.128/25"),)))
        web = container("web", "side", endpoints=(Endpoint("side", ipv4_address="10.9.0.7"),))
        assert (await stack.attach(web)).endpoints[0].ipv4_address == "10.9.0.7"
        with pytest.raises(ResourceExhaustedError, match="Address already in use"):
            await stack.attach(container("twin", "side", endpoints=(Endpoint("side", ipv4_address="10.9.0.7"),)))
        with pytest.raises(PermissionDeniedError, match='network side has active endpoints \\(name:"web" id:"'):
            await networks.remove("side")
        with pytest.raises(PermissionDeniedError, match="Pool overlaps with other one on this address space"):
            await networks.create(NetworkRequest("clash", pools=(AddressPool("10.9.0.0/16"),)))
        await stack.detach(web.id)
        await networks.remove("side")
        with pytest.raises(PermissionDeniedError, match="bridge is a pre-defined network and cannot be removed"):
            await networks.remove("bridge")


async def test_connect_of_a_stopped_container_counts_at_its_next_start(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        records = InMemoryRecords()
        networks = Networks(stack, records)
        await networks.create(NetworkRequest("side"))
        web = container("web")
        asked, _ = await stack.check(web.spec)
        records.add(replace(web, network=asked))  # as a create records it
        await networks.connect("side", "web", Endpoint("", aliases=("db",)))
        stored = await records.find("web")
        assert [e.network for e in stored.network.endpoints] == ["bridge", "side"]
        settings = await stack.attach(stored)
        assert [bool(e.ipv4_address) for e in settings.endpoints] == [True, True]
        with pytest.raises(PermissionDeniedError, match="endpoint with name web already exists in network side"):
            await networks.connect("side", "web", Endpoint(""))
        with pytest.raises(InvalidArgumentError, match="host network"):
            await networks.connect("host", "web", Endpoint(""))
        await stack.detach(web.id)
        actions = [(action, attributes["name"]) for _, action, _, attributes in place.events]
        assert actions == [
            ("create", "side"),
            ("connect", "bridge"),
            ("connect", "side"),
            ("disconnect", "bridge"),
            ("disconnect", "side"),
        ]


async def test_no_descriptor_is_left_behind(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        web = container("web", "bridge", PortBinding(80, host_port=8080))

        async def come_and_go() -> int:
            await stack.attach(web)
            (attached,) = stack.sandboxes[web.id].endpoints
            await stack.detach(web.id)
            await stack.left(attached)
            return len(os.listdir("/proc/self/fd"))

        before = await come_and_go()
        for _ in range(5):
            after = await come_and_go()
        if after > before:  # whoever looks after the firewall may just now have some open
            await asyncio.to_thread(eventually, lambda: len(os.listdir("/proc/self/fd")) <= before, "all are closed")


KILLED = """
import asyncio, sys
from pathlib import Path
from sampan.resource.container_spec import PortBinding
from tests.integration.network.network_lab import Lab, container

async def main() -> None:
    async with Lab(Path(sys.argv[1]), Path("/")).stack() as stack:
        await stack.recover(())
        print("ready", flush=True)
        while True:
            web = container("web", "bridge", PortBinding(80, host_port=8080))
            await stack.attach(web)
            await stack.detach(web.id)

asyncio.run(main())
"""


async def test_engine_killed_at_any_moment_finds_its_things(place: Lab) -> None:
    for round_ in range(8):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, str(place.directory), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        await asyncio.sleep(0.01 + 0.0037 * round_)  # somewhere in an attach or a detach, elsewhere each time
        process.kill()
        await process.wait()
        async with place.stack() as stack:
            await stack.recover(())
            assert leftovers(place) == []
            assert "8080" not in output("nft list table ip lab")
            no_veth_is_left()
