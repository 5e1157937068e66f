"""What a container sends in another one's name, from a raw socket: none of it is heard, with our rules or without."""

import contextlib
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtimed.network.core.model import OPTION_ICC
from runtimed.network.core.networks import Networks
from runtimed.network.core.stack import NetworkStack
from sampan.resource.container import NetworkSettings
from sampan.resource.container_spec import PortBinding
from sampan.resource.network import NetworkRequest
from tests.fakes.container_records import InMemoryRecords
from tests.integration.network.network_lab import (
    BLOCKED_S,
    HOST,
    NAMES,
    REACH_S,
    Lab,
    container,
    inside,
    out_of_reach,
    seen_as,
    server,
)

pytestmark = pytest.mark.root

PORT = 5353
PUBLISHED = PortBinding(80, "tcp", "127.0.0.1", 8080)  # has its bridge carry 127.0.0.0/8


def frame(source: str, destination: str, to_mac: bytes, from_mac: bytes) -> bytes:
    """Return an Ethernet frame with a UDP packet for ``PORT`` that says where it claims to come from."""
    body = source.encode()
    udp = struct.pack("!HHHH", PORT, PORT, 8 + len(body), 0) + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0)
    head += socket.inet_aton(source) + socket.inet_aton(destination)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return to_mac + from_mac + b"\x08\x00" + head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + udp


def link_mac(namespace: Path | None, link: str) -> bytes:
    prefix = ["nsenter", f"--net={namespace}"] if namespace else []
    shown = subprocess.run([*prefix, "ip", "-br", "link", "show", link], check=True, capture_output=True, text=True)
    return bytes.fromhex(shown.stdout.split()[2].replace(":", ""))


def send(namespace: Path, to_mac: bytes, *packets: tuple[str, str]) -> None:
    """Send packets, each a claimed source and a destination, from ``namespace`` in frames for ``to_mac``."""

    def job() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("eth0", 0))
            for source, destination in packets:
                raw.send(frame(source, destination, to_mac, raw.getsockname()[4]))

    inside(namespace, job)


@contextlib.contextmanager
def listening() -> Iterator[Callable[..., set[str]]]:
    """Give a function that returns the sources of what the host has received for ``PORT`` at any of its addresses.

    It waits for the first of them for as long as it is told, and for others a moment.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", PORT))

        def heard(patience_s: float = BLOCKED_S) -> set[str]:
            sources = set()
            sock.settimeout(patience_s)
            with contextlib.suppress(TimeoutError):
                while True:
                    sources.add(sock.recv(100).decode())
                    sock.settimeout(BLOCKED_S)
            return sources

        yield heard


def at(settings: NetworkSettings) -> Path:
    return Path(settings.sandbox_path)


def address(settings: NetworkSettings) -> str:
    return settings.endpoints[0].ipv4_address


def gateway(settings: NetworkSettings) -> str:
    return settings.endpoints[0].gateway


async def test_host_hears_containers_under_their_own_address_alone(stack: NetworkStack) -> None:
    await Networks(stack, InMemoryRecords()).create(NetworkRequest("side"))
    web = await stack.attach(container("web", "bridge", PUBLISHED))
    stranger = await stack.attach(container("stranger", "side"))
    claimed = ("127.0.0.1", "127.0.0.5", HOST, gateway(web), address(stranger), gateway(stranger))
    destinations = (gateway(web), HOST, "127.0.0.1")
    with listening() as heard:
        mac = link_mac(None, NAMES.default_bridge)
        send(at(web), mac, *((source, destination) for source in claimed for destination in destinations))
        assert heard() == set()
        send(at(web), mac, (address(web), gateway(web)))
        assert heard(REACH_S) == {address(web)}


async def test_local_senders_are_not_heard_while_our_rules_are_gone(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        web = await stack.attach(container("web", "bridge", PUBLISHED))
    # The engine has stopped and its container goes on, so nobody puts the rules back.
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    with listening() as heard:
        claimed = ("127.0.0.1", "127.0.0.5", HOST, gateway(web))
        send(at(web), link_mac(None, NAMES.default_bridge), *((source, gateway(web)) for source in claimed))
        assert heard() == set()
        send(at(web), link_mac(None, NAMES.default_bridge), (address(web), gateway(web)))
        assert heard(REACH_S) == {address(web)}
    async with place.stack() as stack:
        await stack.recover(())


async def test_only_a_bridge_with_published_ports_carries_packets_of_the_loopback(stack: NetworkStack) -> None:
    option = Path(f"/proc/sys/net/ipv4/conf/{NAMES.default_bridge}/route_localnet")

    def carries() -> str:
        return inside(None, option.read_text).strip()  # /proc/sys shows the namespace of the thread that reads it

    await stack.attach(container("other"))
    assert carries() == "0"
    web = container("web", "bridge", PUBLISHED)
    await stack.attach(web)
    assert carries() == "1"
    await stack.detach(web.id)
    assert carries() == "0"


@pytest.mark.parametrize("filtered", ["0", "1"])
async def test_containers_of_a_network_without_icc_do_not_reach_each_other(stack: NetworkStack, filtered: str) -> None:
    br_netfilter = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if br_netfilter.exists():
        inside(None, lambda: br_netfilter.write_text(filtered))
    elif filtered == "1":
        pytest.skip("br_netfilter is not loaded")
    apart = NetworkRequest("apart", options={OPTION_ICC: "false"})
    await Networks(stack, InMemoryRecords()).create(apart)
    web = await stack.attach(container("web", "apart", PortBinding(80, host_port=8080)))
    other = await stack.attach(container("other", "apart"))
    with server(at(web), 80):
        assert out_of_reach(at(other), address(web), 80)
        assert seen_as(None, address(web), 80) == gateway(web)
        if filtered == "0":
            # What is published is for everyone, but br_netfilter translates inside the bridge, from port to port.
            assert seen_as(at(other), HOST, 8080) is not None
