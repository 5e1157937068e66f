"""IPv6: networks of both families, addresses, published ports, names."""

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient
from tests.support.tools import eventually, free_port

SERVER = ("httpd", "-f", "-p", "[::]:80", "-h", "/etc")
SUBNET = "fd00:5a:1::/64"
FIRST = "fd00:5a:1::2"

# dockerd 20.10 has neither networks without IPv4 nor default pools of IPv6.
newer = pytest.mark.skipif(TARGET is not None, reason="this is Docker 27 and later")


@pytest.fixture
def dual(docker: DockerClient, unique: Callable[[str], str]) -> Iterator[str]:
    name = unique("dual")
    docker("network", "create", "--ipv6", "--subnet", SUBNET, name)
    yield name
    docker("network", "rm", name)


def fetch(address: str, port: int) -> str:
    with socket.create_connection((address, port), timeout=60) as peer:
        peer.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: peer.recv(4096), b""))
    return answer.decode().split()[-1] if answer else ""  # a port is open before somebody listens behind it


def serves(address: str, port: int) -> bool:
    try:
        return bool(fetch(address, port))
    except OSError:
        return False


def test_a_container_on_a_network_of_both_families_has_an_address_of_each(
    docker: DockerClient, dual: str, image: str, spawn: Spawn
) -> None:
    name = spawn("--network", dual, image, "sleep", "3600")
    shown = json.loads(
        docker("inspect", "--format", f'{{{{json (index .NetworkSettings.Networks "{dual}")}}}}', name).line
    )
    assert (shown["GlobalIPv6Address"], shown["GlobalIPv6PrefixLen"]) == (FIRST, 64)
    assert shown["IPv6Gateway"] == "fd00:5a:1::1"
    assert shown["IPAddress"]
    assert f"{FIRST}/64" in docker("exec", name, "ip", "-o", "-6", "addr", "show", "eth0").stdout
    assert "default via fd00:5a:1::1" in docker("exec", name, "ip", "-6", "route").stdout
    network = json.loads(docker("network", "inspect", dual).stdout)[0]
    assert network["EnableIPv6"] is True
    assert SUBNET in [pool["Subnet"] for pool in network["IPAM"]["Config"]]
    assert [one["IPv6Address"] for one in network["Containers"].values()] == [f"{FIRST}/64"]


def test_an_ipv6_address_may_be_asked_for(docker: DockerClient, dual: str, image: str) -> None:
    asked = "fd00:5a:1::99"
    shown = docker("run", "--rm", "--network", dual, "--ip6", asked, image, "ip", "-o", "-6", "addr").stdout
    assert f"{asked}/64" in shown
    assert docker.fails("run", "--rm", "--network", dual, "--ip6", "fd00:99::1", image, "true").code == 125


def test_names_lead_to_ipv6_addresses_and_back(docker: DockerClient, dual: str, image: str, spawn: Spawn) -> None:
    name = spawn("--network", dual, image, "sleep", "3600")
    ask = ("run", "--rm", "--network", dual, image, "nslookup")
    assert FIRST in docker(*ask, "-type=aaaa", name).stdout
    assert f"name = {name}.{dual}" in docker(*ask, FIRST).stdout
    assert docker("run", "--rm", "--network", dual, image, "ping6", "-c", "1", "-w", "60", name).code == 0


@pytest.mark.parametrize("family", ["both", "bridge"])
def test_a_port_is_published_on_ipv6_too(
    docker: DockerClient, dual: str, image: str, spawn: Spawn, family: str
) -> None:
    port = free_port()
    network = dual if family == "both" else "bridge"
    name = spawn("--hostname", "web", "--network", network, "-p", f"{port}:80", image, *SERVER)
    shown = docker("port", name, "80/tcp").lines
    assert f"0.0.0.0:{port}" in shown
    assert len(shown) == 2
    for address in ("127.0.0.1", "::1"):
        eventually(lambda address=address: serves(address, port), f"the port answers on {address}")  # type: ignore[misc]  # bound now
        assert fetch(address, port) == "web"
    docker("rm", "--force", name)
    assert not serves("::1", port)


def test_a_port_is_published_on_one_ipv6_address(docker: DockerClient, dual: str, image: str, spawn: Spawn) -> None:
    port = free_port()
    spawn("--hostname", "web", "--network", dual, "-p", f"[::1]:{port}:80", image, *SERVER)
    eventually(lambda: serves("::1", port), "the port answers on ::1")
    assert not serves("127.0.0.1", port)


@newer  # by default
def test_networks_are_closed_to_each_other_in_ipv6(
    docker: DockerClient, dual: str, image: str, spawn: Spawn, unique: Callable[[str], str]
) -> None:
    spawn("--network", dual, image, *SERVER)
    other = unique("other")
    docker("network", "create", "--ipv6", "--subnet", "fd00:5a:2::/64", other)
    try:
        script = f"nc -w 2 {FIRST} 80 </dev/null"
        own = ("run", "--rm", "--network", dual, image, "sh", "-c", script)
        eventually(lambda: docker.fails(*own).code == 0, "the server has begun, and a neighbour reaches it")
        assert docker.fails("run", "--rm", "--network", other, image, "sh", "-c", script).code != 0
    finally:
        docker("network", "rm", other)


@newer
def test_a_network_may_be_ipv6_alone_with_addresses_of_the_engines_choice(
    docker: DockerClient, image: str, unique: Callable[[str], str]
) -> None:
    name = unique("six")
    docker("network", "create", "--ipv6", "--ipv4=false", name)
    try:
        network = json.loads(docker("network", "inspect", name).stdout)[0]
        assert (network["EnableIPv4"], network["EnableIPv6"]) == (False, True)
        (pool,) = network["IPAM"]["Config"]
        assert pool["Subnet"].startswith("fd")
        shown = docker("run", "--rm", "--network", name, image, "ip", "-o", "addr", "show", "eth0").stdout
        assert "inet6 fd" in shown
        assert "inet " not in shown
    finally:
        docker("network", "rm", name)
    assert "IPv4 or IPv6 must be enabled" in docker.fails("network", "create", "--ipv4=false", name).stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--subnet", "10.9.0.0/31"), "failed to allocate gateway (): No available addresses on this pool"),
        (("--ipv6", "--subnet", "fd00:5a::/128"), "failed to allocate gateway (): No available addresses on this pool"),
        (("--ipv6", "--subnet", "fd00:5a:1::/80"), "Pool overlaps with other one on this address space"),
        (("-d", "macvlan", "-o", "parent=nope"), "invalid subinterface vlan name nope, example formatting is eth0.10"),
        (("-d", "macvlan", "-o", "parent=nope.5"), "-o parent interface does was not found on the host: nope"),
        (("-d", "macvlan", "-o", "macvlan_mode=x"), "requested macvlan mode 'x' is not valid"),
        (("-d", "ipvlan", "-o", "ipvlan_mode=x"), "requested ipvlan mode 'x' is not valid"),
        (("--config-from", "nope"), 'configuration network "nope" does not exist'),
        (("--config-only", "--internal"), "configuration network can only contain network specific fields"),
    ],
)
def test_a_network_that_cannot_be_is_refused_in_dockers_words(
    docker: DockerClient, dual: str, unique: Callable[[str], str], flags: tuple[str, ...], words: str
) -> None:
    assert words in docker.fails("network", "create", *flags, unique("bad")).stderr


@pytest.mark.parametrize("name", ["a b", "a/b", "ä:x", 'c"d', "x"])
def test_a_network_may_have_any_name_that_is_not_blank(docker: DockerClient, name: str) -> None:
    docker("network", "create", name)
    try:
        assert docker("network", "inspect", "--format", "{{.Name}}", name).line == name
    finally:
        docker("network", "rm", name)
    assert "invalid name" in docker.fails("network", "create", " ").stderr


def test_a_configuration_is_for_other_networks(docker: DockerClient, image: str, unique: Callable[[str], str]) -> None:
    holder, user = unique("cfg"), unique("user")
    docker("network", "create", "--config-only", "--subnet", "10.66.0.0/24", holder)
    docker("network", "create", "--config-from", holder, user)
    try:
        network = json.loads(docker("network", "inspect", user).stdout)[0]
        assert (network["ConfigFrom"]["Network"], network["IPAM"]["Config"][0]["Subnet"]) == (holder, "10.66.0.0/24")
        assert f'configuration network "{holder}" is in use' in docker.fails("network", "rm", holder).stderr
        refused = docker.fails("run", "--rm", "--network", holder, image, "true").stderr
        assert "cannot create endpoint on configuration-only network" in refused
    finally:
        docker("network", "rm", user, holder)
