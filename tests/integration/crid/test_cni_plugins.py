"""The plugins of Debian's containernetworking-plugins, on a kernel, in a network of the test's own."""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import pytest

from crid.cni.chain import Chain
from crid.cni.config import load
from crid.cni.kernel import bring_up_loopback, read_counters
from crid.cni.model import PluginError, PodRequest, PortMapping
from crid.cni.networks import PodNetworks
from crid.cni.process import Programs
from sampan.json_types import JsonObject
from sampan.sys import netns
from tests.fakes.cni_records import InMemoryAttachmentRecords
from tests.unit.crid.cni.parts import CountingMeter, until

T = TypeVar("T")

PLUGINS: Final = Path("/usr/lib/cni")
PATIENCE_S: Final = 60.0

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not (PLUGINS / "bridge").exists(), reason="containernetworking-plugins is not installed"),
]


class Host:
    """A network namespace that is the host of a test, with the directories that its network needs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.net_d = root / "net.d"
        self.net_d.mkdir()
        self.leases = root / "leases"  # of host-local: a file per address
        self.records = InMemoryAttachmentRecords()

    def configure(self, *plugins: JsonObject, version: str = "1.0.0") -> None:
        document = {"cniVersion": version, "name": "pods", "plugins": plugins}
        (self.net_d / "10-pods.conflist").write_text(json.dumps(document))

    def ipam(self, subnet: str = "10.123.0.0/24") -> JsonObject:
        return {
            "type": "host-local",
            "dataDir": str(self.leases),
            "ranges": [[{"subnet": subnet}], [{"subnet": "fd00:123::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        }

    def bridge(self) -> JsonObject:
        return {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "ipam": self.ipam()}

    def networks(self) -> PodNetworks:
        chain = Chain(Programs([PLUGINS]), CountingMeter(), PATIENCE_S, self.root / "scratch")
        return PodNetworks(lambda: load(self.net_d), chain, self.records, netns.exists, first_wait_s=0.05)

    def leased(self) -> set[str]:
        return {path.name for path in (self.leases / "pods").glob("*.*.*.*")}

    def pod(self, name: str, ports: tuple[PortMapping, ...] = ()) -> PodRequest:
        return PodRequest(name, self.root / f"ns-{name}", name, "default", f"uid-{name}", ports=ports)

    async def make_namespace(self, pod: PodRequest) -> None:
        await netns.in_own_thread(lambda: netns.create(pod.netns), "namespace of a pod")
        await bring_up_loopback(pod.netns)

    def run(self, job: Callable[[PodNetworks], Awaitable[T]]) -> T:
        """Run a test's part in the host's namespace: a thread of its own, whose children are there, too."""
        done: list[T] = []
        failed: list[BaseException] = []

        async def with_networks() -> T:
            networks = self.networks()
            try:
                return await job(networks)
            finally:
                await networks.close()

        def in_namespace() -> None:
            try:
                netns.enter(self.root / "host")
                done.append(asyncio.run(with_networks()))
            except BaseException as error:  # noqa: BLE001  # raised again by the test's own thread
                failed.append(error)

        thread = threading.Thread(target=in_namespace)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return done[0]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)

    async def make() -> None:
        await netns.in_own_thread(lambda: netns.create(tmp_path / "host"), "host of a test")
        await bring_up_loopback(tmp_path / "host")

    asyncio.run(make())
    yield host
    for path in (*tmp_path.glob("ns-*"), tmp_path / "host"):
        netns.remove(path)


@contextmanager
def echo_server(place: Path, port: int) -> Iterator[None]:
    """Answer one connection in a namespace."""
    ready, listening = threading.Event(), []

    def serve() -> None:
        netns.enter(place)
        with socket.create_server(("0.0.0.0", port)) as server:
            server.settimeout(PATIENCE_S)
            listening.append(server)
            ready.set()
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(100))

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(PATIENCE_S)
    yield
    thread.join()


def exchange(address: str, port: int) -> bytes:
    with socket.create_connection((address, port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"hello")
        return connection.recv(100)


def test_two_pods_on_a_bridge_reach_each_other_and_their_addresses_come_back(host: Host) -> None:
    host.configure(host.bridge())

    async def job(networks: PodNetworks) -> None:
        assert (await networks.condition()).ready
        pods = [host.pod("a"), host.pod("b")]
        for pod in pods:
            await host.make_namespace(pod)
        first, second = await asyncio.gather(*map(networks.add, pods))
        assert {str(first.addresses[0]), str(second.addresses[0])} == {"10.123.0.2", "10.123.0.3"}
        assert [address.version for address in first.addresses] == [4, 6]
        assert host.leased() == {"10.123.0.2", "10.123.0.3"}
        await networks.check("a")
        with echo_server(pods[1].netns, 7000):

            def call() -> bytes:
                netns.enter(pods[0].netns)
                return exchange(str(second.addresses[0]), 7000)

            assert await netns.in_own_thread(call, "client") == b"hello"
        counters = {each.interface: each for each in (await read_counters({"a": pods[0].netns}))["a"]}
        assert counters["eth0"].received_bytes > 0
        await networks.remove("a")
        assert host.leased() == {str(second.addresses[0])}
        netns.remove(pods[1].netns)  # as after a reboot
        await networks.remove("b")
        assert not host.leased()

    host.run(job)


def test_check_finds_an_address_that_was_taken_away(host: Host) -> None:
    host.configure(host.bridge())

    async def job(networks: PodNetworks) -> None:
        pod = host.pod("a")
        await host.make_namespace(pod)
        await networks.add(pod)
        process = await asyncio.create_subprocess_exec(
            *("nsenter", f"--net={pod.netns}", "ip", "address", "flush", "dev", "eth0")
        )
        assert await process.wait() == 0
        with pytest.raises(PluginError, match="bridge CHECK"):
            await networks.check("a")
        await networks.remove("a")

    host.run(job)


def test_a_port_of_the_host_leads_to_the_pod_until_it_goes(host: Host) -> None:
    host.configure(host.bridge(), {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}})

    async def job(networks: PodNetworks) -> None:
        pod = host.pod("a", (PortMapping(7000, 17000),))
        await host.make_namespace(pod)
        await networks.add(pod)
        with echo_server(pod.netns, 7000):
            assert await asyncio.get_running_loop().run_in_executor(None, in_host) == b"hello"
        await networks.check("a")
        await networks.remove("a")
        with pytest.raises(OSError, match="refused"):
            await asyncio.get_running_loop().run_in_executor(None, in_host)

    host.run(job)


def in_host() -> bytes:
    # A thread that the loop has started is where its starter is.
    return exchange("10.123.0.1", 17000)


@pytest.mark.parametrize(
    ("subnets", "tool"), [(("10.123.0.0/24",), "iptables"), (("10.123.0.0/24", "fd00:123::/64"), "ip6tables")]
)
def test_check_finds_a_port_of_each_family_that_leads_nowhere(host: Host, subnets: tuple[str, ...], tool: str) -> None:
    ipam = {"type": "host-local", "dataDir": str(host.leases), "ranges": [[{"subnet": each}] for each in subnets]}
    ports = {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}}
    host.configure({**host.bridge(), "ipam": ipam}, ports)

    async def job(networks: PodNetworks) -> None:
        pod = host.pod("a", (PortMapping(7000, 17000),))
        await host.make_namespace(pod)
        await networks.add(pod)
        await networks.check("a")
        process = await asyncio.create_subprocess_exec(tool, "--table", "nat", "--flush", "CNI-HOSTPORT-DNAT")
        assert await process.wait() == 0
        with pytest.raises(PluginError, match="portmap CHECK"):
            await networks.check("a")
        await networks.remove("a")

    host.run(job)


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_every_version_that_the_plugins_speak_works(host: Host, version: str) -> None:
    host.configure({"type": "ptp", "ipMasq": True, "ipam": host.ipam()}, version=version)

    async def job(networks: PodNetworks) -> None:
        pod = host.pod("a")
        await host.make_namespace(pod)
        assert str((await networks.add(pod)).addresses[0]) == "10.123.0.2"
        await networks.check("a")
        await networks.remove("a")
        assert not host.leased()

    host.run(job)


def test_a_version_that_the_plugins_do_not_speak_is_told(host: Host) -> None:
    host.configure(host.bridge(), version="1.1.0")

    async def job(networks: PodNetworks) -> str:
        return (await networks.condition()).message

    assert "plugin bridge speaks" in host.run(job)


def test_addresses_that_are_used_up_refuse_a_pod_and_leave_nothing(host: Host) -> None:
    host.configure({**host.bridge(), "ipam": host.ipam("10.123.0.0/30")})

    async def job(networks: PodNetworks) -> None:
        pods = [host.pod("a"), host.pod("b")]
        for pod in pods:
            await host.make_namespace(pod)
        await networks.add(pods[0])
        with pytest.raises(PluginError, match="no IP addresses available"):
            await networks.add(pods[1])
        await until(lambda: list(host.records.rows) == ["a"])
        assert host.leased() == {"10.123.0.2"}
        await networks.remove("a")

    host.run(job)


def test_a_killed_crid_takes_back_what_it_had_begun(host: Host) -> None:
    host.configure(host.bridge())

    async def begin(networks: PodNetworks) -> None:
        for name in ("a", "b"):
            pod = host.pod(name)
            await host.make_namespace(pod)
            await networks.add(pod)
        text = host.records.rows["b"].replace('"state": "added"', '"state": "adding"')
        host.records.rows["b"] = text

    async def after(networks: PodNetworks) -> None:
        await networks.recover(["a", "b"])
        await until(lambda: list(host.records.rows) == ["a"])
        assert host.leased() == {"10.123.0.2"}
        assert networks.get("a") is not None
        await networks.remove("a")

    host.run(begin)
    assert host.leased() == {"10.123.0.2", "10.123.0.3"}
    host.run(after)
    assert not host.leased()
