"""What of a pod is on a real machine."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from crid.cni.kernel import bring_up_loopback
from crid.model.config import DNSConfig
from crid.model.security import NamespaceMode
from crid.protocol import SandboxHost
from crid.sandboxes.host import SandboxHost as RealHost
from crid.sandboxes.model import Sandbox
from sampan.errors import InvalidArgumentError
from sampan.sys import netns
from tests.contract.sandbox_host import SandboxHostContract, sandbox

pytestmark = pytest.mark.root


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[RealHost]:
    made = RealHost(tmp_path / "sandboxes", bring_up_loopback)
    yield made
    for left in await made.leftovers([]):
        await made.clear(left)


class TestRealHost(SandboxHostContract):
    @pytest.fixture
    def host(self, host: RealHost) -> SandboxHost:
        return host


async def inside(host: RealHost, one: Sandbox, file: str) -> str:
    """Return what a thread in the sandbox's network namespace reads."""

    def read() -> str:
        netns.enter(host.places(one.id).namespace("net"))
        return Path(file).read_text()

    return await netns.in_own_thread(read, "test")


async def test_namespaces_are_the_pod_s_own_and_have_its_sysctls(host: RealHost) -> None:
    one = sandbox(sysctls={"net.ipv4.ip_unprivileged_port_start": "80"})
    await host.make(one)
    assert await inside(host, one, "/proc/sys/net/ipv4/ip_unprivileged_port_start") == "80\n"
    assert "lo" in await inside(host, one, "/proc/thread-self/net/dev")
    for kind in ("net", "ipc", "uts"):
        ours = Path(f"/proc/self/ns/{kind}").stat().st_ino
        assert host.places(one.id).namespace(kind).stat().st_ino != ours
    assert socket.gethostname() != "web"


async def test_a_sysctl_that_the_kernel_does_not_take_is_refused_by_name(host: RealHost) -> None:
    with pytest.raises(InvalidArgumentError, match=r"sysctl net\.nosuch=1"):
        await host.make(sandbox(sysctls={"net.nosuch": "1"}))
    await host.clear(sandbox().id)
    assert await host.leftovers([]) == []


async def test_a_removal_whose_caller_has_left_does_not_meet_the_next_one(host: RealHost) -> None:
    for _ in range(5):
        one = sandbox()
        await host.make(one)
        leaving = asyncio.create_task(host.clear(one.id))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await host.leftovers([]) == []


async def test_the_resolver_is_the_pod_s_or_the_host_s(host: RealHost, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    like_host = RealHost(tmp_path / "sandboxes", bring_up_loopback, tmp_path)
    await like_host.make(sandbox(1))
    assert host.places(sandbox(1).id).resolv_conf.read_text() == "nameserver 192.0.2.1\n"
    dns = DNSConfig(("10.0.0.10",), ("svc", "local"), ("ndots:5",))
    two = sandbox(2)
    await like_host.make(replace(two, config=replace(two.config, dns_config=dns)))
    written = host.places(two.id).resolv_conf
    assert written.read_text() == "search svc local\nnameserver 10.0.0.10\noptions ndots:5\n"
    assert written.stat().st_mode & 0o777 == 0o644


async def test_hosts_have_the_pod_s_name_for_its_addresses(host: RealHost) -> None:
    one = replace(sandbox(), addresses=("10.0.0.2", "fd00::2"))
    await host.make(one)
    await host.name(one)
    assert host.places(one.id).hosts.read_text().splitlines()[-2:] == ["10.0.0.2\tweb", "fd00::2\tweb"]
    assert host.places(one.id).hostname.read_text() == "web\n"


async def test_with_the_host_s_network_there_is_no_namespace_of_it_and_hosts_are_the_host_s(host: RealHost) -> None:
    one = sandbox(network=NamespaceMode.NODE)
    await host.make(one)
    await host.name(one)
    places = host.places(one.id)
    assert not places.namespace("net").exists()
    assert not places.namespace("uts").exists()
    assert places.hosts.read_text() == Path("/etc/hosts").read_text()
    assert places.hostname.read_text() == f"{socket.gethostname()}\n"
