"""The default bridge: ports published to the host and to other containers, and the way out."""

import json
import socket
import threading
import urllib.request
from collections.abc import Callable

import pytest

from tests.compat.conftest import Spawn
from tests.support.docker_client import DockerClient
from tests.support.tools import eventually, free_port

SERVER = ("httpd", "-f", "-p", "80", "-h", "/etc")
GATEWAY = "$(ip route | awk '/default/ {print $3}')"


def ask(where: str) -> str:
    """Return a script that does what ``fetch`` does; a static busybox cannot resolve names, so its wget is no use."""
    return f"printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' | nc -w 60 {where}"


def fetch(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/hostname", timeout=60) as answer:
        text: str = answer.read().decode()
        return text.strip()


def serves(address: str) -> bool:
    try:
        return bool(fetch(address))
    except OSError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1:", ""])
def test_published_port_is_reached_from_the_host(docker: DockerClient, image: str, spawn: Spawn, host: str) -> None:
    port = free_port()
    name = spawn("--hostname", "web", "-p", f"{host}{port}:80", image, *SERVER)
    eventually(lambda: serves(f"127.0.0.1:{port}"), "the published port answers on 127.0.0.1")
    assert fetch(f"127.0.0.1:{port}") == "web"
    assert f"{port}" in docker("port", name, "80/tcp").lines[0]
    docker("rm", "--force", name)
    with pytest.raises(OSError, match=r"refused|reset|timed out"):
        fetch(f"127.0.0.1:{port}")


def test_published_port_is_reached_from_another_container(docker: DockerClient, image: str, spawn: Spawn) -> None:
    port = free_port()
    spawn("--hostname", "web", "-p", f"{port}:80", image, *SERVER)
    eventually(lambda: serves(f"127.0.0.1:{port}"), "the published port answers")
    assert docker("run", "--rm", image, "sh", "-c", ask(f"{GATEWAY} {port}")).lines[-1] == "web"


def test_containers_on_the_bridge_reach_each_other(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn("--hostname", "web", image, *SERVER)
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name).line
    eventually(lambda: serves(address), "the container answers at its address")
    assert docker("run", "--rm", image, "sh", "-c", ask(f"{address} 80")).lines[-1] == "web"


def test_container_reaches_a_server_on_the_host(docker: DockerClient, image: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"from the host\n")

        thread = threading.Thread(target=answer)
        thread.start()
        script = f"nc -w 60 {GATEWAY} {port} </dev/null"
        assert docker("run", "--rm", image, "sh", "-c", script).line == "from the host"
        thread.join(60)


def test_udp_is_published_too(docker: DockerClient, debian: str, spawn: Spawn) -> None:
    port = free_port()
    script = (
        "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 53, Proto => 'udp') or die;"
        "while (defined $s->recv(my $data, 100)) { $s->send($data) }"
    )
    spawn("-p", f"127.0.0.1:{port}:53/udp", debian, "perl", "-e", script)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)

        def echoed() -> bool:
            client.sendto(b"datagram", ("127.0.0.1", port))
            try:
                return client.recv(100) == b"datagram"
            except OSError:  # nobody listens yet
                return False

        eventually(echoed, "a datagram came back")


def test_every_container_has_an_address_of_its_own(docker: DockerClient, image: str, spawn: Spawn) -> None:
    names = [spawn(image, "sleep", "3600") for _ in range(3)]
    shown = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.MacAddress}}", *names)
    assert len({line.split()[0] for line in shown.lines}) == 3
    assert len({line.split()[1] for line in shown.lines}) == 3


def test_network_of_another_container_is_shared(docker: DockerClient, image: str, sleeper: str) -> None:
    inside = docker("exec", sleeper, "readlink", "/proc/self/ns/net").line
    joined = docker("run", "--rm", "--network", f"container:{sleeper}", image, "readlink", "/proc/self/ns/net").line
    assert joined == inside


def test_exposed_ports_are_published_by_capital_p(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn("--hostname", "web", "--expose", "80", "-P", image, *SERVER)
    address = next(line for line in docker("port", name, "80/tcp").lines if ":::" not in line and "[" not in line)
    port = address.rpartition(":")[2]
    eventually(lambda: serves(f"127.0.0.1:{port}"), "the exposed port answers")


def test_port_of_a_stopped_container_is_free(
    docker: DockerClient, image: str, container_name: Callable[[], str], spawn: Spawn
) -> None:
    port = free_port()
    first = spawn("-p", f"127.0.0.1:{port}:80", image, "sleep", "3600")
    docker("kill", first)
    docker("wait", first)
    spawn("-p", f"127.0.0.1:{port}:80", image, "sleep", "3600")
    failed = docker.fails("start", first)
    assert failed.code == 1
    assert "port is already allocated" in failed.stderr


def test_default_networks_are_listed(docker: DockerClient) -> None:
    shown = set(docker("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").lines)
    assert {"bridge bridge local", "host host local", "none null local"} <= shown
    bridge = json.loads(docker("network", "inspect", "bridge").stdout)[0]
    assert bridge["IPAM"]["Config"][0]["Subnet"]
