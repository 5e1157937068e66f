"""Clients that come from elsewhere: TCP, TLS with certificates, contexts, further sockets, systemd's sockets."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker_client import DockerClient
from tests.support.engine import SAMPAN, Engine, run_engine
from tests.support.go_clients import GoClient, go_program
from tests.support.images import push
from tests.support.registry import Registry
from tests.support.small_disk import small_disk
from tests.support.tls import Certs, make_certs
from tests.support.tools import eventually, free_port, open_files
from tests.support.trees import busybox_image

pytestmark = [pytest.mark.root, pytest.mark.slow]


class Remote:
    """An engine that is reached over TLS."""

    def __init__(self, engine: Engine, certs: Certs, port: int, config: Path) -> None:
        self.engine, self.certs, self.port, self.config = engine, certs, port, config

    def client(self, name: str = "alice") -> DockerClient:
        """The docker client with that certificate."""
        env = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(self.certs.client(name))}
        return DockerClient(f"tcp://127.0.0.1:{self.port}", self.config, env)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory, docker_config: Path) -> Iterator[Remote]:
    certs = make_certs(tmp_path_factory.mktemp("tls") / "certs", "alice", "bob")
    port = free_port()
    more = tmp_path_factory.mktemp("more") / "more.sock"
    toml = f'listen = ["tcp://127.0.0.1:{port}", "unix://{more}"]\n' + certs.toml()
    with run_engine({"dockerapi": toml}) as engine:
        yield Remote(engine, certs, port, docker_config)
    assert not more.exists()


@pytest.fixture(scope="module")
def image(remote: Remote, registry: Registry) -> str:
    push(registry, "remote", "1", busybox_image())
    reference = f"{registry.address}/remote:1"
    remote.client()("pull", "--quiet", reference)
    return reference


def test_input_ends_and_output_goes_on(remote: Remote, image: str) -> None:
    docker = remote.client()
    assert docker("run", "--rm", "-i", "--network", "none", image, "cat", input="there\nand back\n").stdout == (
        "there\nand back\n"
    )
    name = docker("run", "-d", "--network", "none", image, "sleep", "1000").line
    assert docker("exec", "-i", name, "sh", "-c", "wc -c", input="x" * 3_000_000).line == "3000000"
    assert docker.fails("exec", name, "sh", "-c", "exit 3").code == 3
    assert len(docker("exec", name, "head", "-c", "5000000", "/dev/zero").stdout) == 5_000_000
    docker("rm", "-f", name)


def test_no_input_ends_at_once(remote: Remote, image: str) -> None:
    for _ in range(5):  # CloseWrite comes with the request, or just after it
        assert remote.client()("run", "--rm", "-i", "--network", "none", image, "sh", "-c", "cat; echo over").line == (
            "over"
        )


def test_logs_are_followed_and_events_told(remote: Remote, image: str) -> None:
    docker = remote.client()
    name = docker("run", "-d", "--network", "none", image, "sh", "-c", "echo one; sleep 1; echo two").line
    assert docker("logs", "-f", name).stdout == "one\ntwo\n"
    assert docker("wait", name).line == "0"
    docker("rm", name)


def test_a_client_that_is_killed_ends_what_it_follows(remote: Remote, image: str) -> None:
    docker = remote.client()
    name = docker("run", "-d", "--network", "none", image, "sleep", "1000").line
    eventually(lambda: not _connections(remote), "nobody is connected")
    following = docker.start("logs", "-f", name)
    eventually(lambda: bool(_connections(remote)), "the client is connected")
    following.kill()
    following.communicate()
    eventually(lambda: not _connections(remote), "nothing of it is left")
    docker("rm", "-f", name)


def _connections(remote: Remote) -> int:
    """The connections that the engine has not closed at its end of them."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[1].endswith(f":{remote.port:04X}") and line[3] in ("01", "08") for line in lines)


def test_images_are_built_and_files_copied(remote: Remote, image: str, tmp_path: Path) -> None:
    docker = remote.client()
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nCOPY big /big\nRUN wc -c < /big > /size\n")
    (tmp_path / "big").write_bytes(os.urandom(3_000_000))
    docker("build", "-q", "-t", "remote-built:1", str(tmp_path))
    assert docker("run", "--rm", "--network", "none", "remote-built:1", "cat", "/size").line == "3000000"
    name = docker("create", "remote-built:1").line
    docker("cp", f"{name}:/big", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "big").read_bytes()
    docker("rm", name)
    docker("rmi", "remote-built:1")


def test_a_context_of_the_client_s(remote: Remote, tmp_path: Path) -> None:
    place = remote.certs.client("alice")
    files = f"ca={place}/ca.pem,cert={place}/cert.pem,key={place}/key.pem"
    docker = DockerClient("", tmp_path)
    env = {key: value for key, value in docker.env().items() if key != "DOCKER_HOST"}

    def run(*arguments: str) -> str:
        done = subprocess.run(["docker", *arguments], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("context", "create", "there", "--docker", f"host=tcp://127.0.0.1:{remote.port},{files}")
    run("context", "use", "there")
    assert "Server:" in run("info")
    assert f"Name: {socket.gethostname()}" in run("info")


def test_strangers_do_not_get_in(remote: Remote, tmp_path: Path) -> None:
    plain = DockerClient(f"tcp://127.0.0.1:{remote.port}", tmp_path)
    assert "Client sent an HTTP request to an HTTPS server" in plain.fails("ps").stderr
    shown = make_certs(tmp_path / "other", "mallory")
    env = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(shown.client("mallory"))}
    (shown.client("mallory") / "ca.pem").write_bytes((remote.certs.directory / "ca.pem").read_bytes())
    other = DockerClient(plain.host, tmp_path, env)
    assert "unknown certificate authority" in other.fails("ps").stderr
    for name in ("cert.pem", "key.pem"):
        (shown.client("mallory") / name).unlink()
    assert "certificate required" in other.fails("ps").stderr


def test_a_revoked_certificate_is_refused_without_a_restart(remote: Remote) -> None:
    pid = remote.engine.pid("dockerapi")
    remote.client("bob")("ps")
    remote.certs.revoke("bob")
    assert "revoked certificate" in remote.client("bob").fails("ps").stderr
    remote.client("alice")("ps")
    assert remote.engine.pid("dockerapi") == pid


def test_sighup_has_the_configuration_read_again(remote: Remote, tmp_path: Path) -> None:
    engine = remote.engine
    assert engine.process is not None
    file = engine.config / "dockerapi.toml"
    before, pids = file.read_text(), [engine.pid(name) for name in ("imaged", "runtimed", "dockerapi")]
    other = make_certs(tmp_path / "other", "carol")
    file.write_text(before[: len(before) // 2])
    engine.process.send_signal(signal.SIGHUP)
    eventually(lambda: "configuration not reloaded, the former one stays" in engine.tail(20_000), "it is said")
    remote.client()("ps")
    file.write_text(before.replace(str(remote.certs.directory), str(other.directory)))
    engine.process.send_signal(signal.SIGHUP)
    carol = Remote(engine, other, remote.port, remote.config).client("carol")
    eventually(lambda: carol.fails("ps").code == 0, "the other certificates are used")
    file.write_text(before)
    engine.process.send_signal(signal.SIGHUP)
    eventually(lambda: remote.client().fails("ps").code == 0, "and the first ones again")
    assert [engine.pid(name) for name in ("imaged", "runtimed", "dockerapi")] == pids


def test_a_service_that_was_killed_listens_again(remote: Remote) -> None:
    remote.engine.kill("dockerapi")
    remote.client()("ps")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('listen = ["tcp://0.0.0.0:0"]', "a port is a number from 1 to 65535"),
        ('listen = ["tcp://0.0.0.0:2375"]', "allow_unauthenticated_tcp = true"),
        ('listen = "tcp://127.0.0.1:1"', "expected a list"),
        ("listen = [1]", "expected text"),
        ("tls_verfy = true", "did you mean 'tls_verify'?"),
        (
            'tls_cert = "/none"\ntls_key = "/none"\ntls_ca = "/none"\nlisten = ["tcp://127.0.0.1:2376"]',
            "/none cannot be",
        ),
        ('listen = ["fd://"]', "no sockets found via socket activation"),
        ('listen = ["tcp://127.0.0.1:{taken}"]', "address already in use"),
    ],
)
def test_a_configuration_that_is_no_use_is_said_at_the_start(tmp_path: Path, toml: str, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / "dockerapi.toml").write_text(toml.replace("{taken}", str(taken.getsockname()[1])))
        roots = ["--data-root", f"{tmp_path}/d", "--run-root", f"{tmp_path}/r"]
        done = subprocess.run(
            [sys.executable, "-m", "dockerapi", *roots, "--metrics", "off"],
            env=os.environ | {"SAMPAN_CONFIG_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode in (1, 2)
    assert said in done.stdout + done.stderr


_PASS_ON = """
import os, socket, sys
unix, tcp = socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", int(sys.argv[2])))
unix.bind(sys.argv[1]); unix.listen()
for number, each in enumerate((unix, tcp), 20):  # out of the way of where they are going
    os.dup2(each.fileno(), number)
os.dup2(20, 3); os.dup2(21, 4)
os.environ |= {"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "api:tcp"}
os.execv(sys.argv[3], [sys.argv[3], "up"])
"""


def test_sockets_that_systemd_has_opened_are_served_and_survive_a_restart(tmp_path: Path, docker_config: Path) -> None:
    port, path = free_port(), tmp_path / "passed.sock"
    with run_engine({"dockerapi": ""}) as engine:
        engine.stop()
        (engine.config / "dockerapi.toml").write_text('listen = ["fd://"]\n')
        with engine.log.open("ab") as log:
            engine.process = subprocess.Popen(
                [sys.executable, "-c", _PASS_ON, path, str(port), SAMPAN],
                env=engine.env(), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        eventually(lambda: engine._ready("/info"), "the engine is ready")
        for host in (f"unix://{path}", f"tcp://127.0.0.1:{port}"):
            assert "Server Version" in DockerClient(host, docker_config)("info").stdout
        engine.kill("dockerapi")
        for host in (f"unix://{path}", f"tcp://127.0.0.1:{port}"):
            assert "Server Version" in DockerClient(host, docker_config)("info").stdout
        passed = {os.readlink(f"/proc/{engine.process.pid}/fd/{fd}") for fd in (3, 4)}
        assert passed <= set(open_files(engine.pid("dockerapi")))
        assert not passed & set(open_files(engine.pid("imaged")))


def test_buildx_builds_over_tls(remote: Remote, image: str, tmp_path: Path) -> None:
    buildx = GoClient(go_program("buildx"), tmp_path / "home")
    docker, context = remote.client(), tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {image}\nCOPY big /big\nRUN wc -c < /big > /size\n")
    (context / "big").write_bytes(os.urandom(3_000_000))
    env = {"DOCKER_HOST": docker.host, **docker.environment}
    buildx("build", "--progress", "plain", "-t", "remote-buildx:1", ".", cwd=context, env=env)
    assert docker("run", "--rm", "--network", "none", "remote-buildx:1", "cat", "/size").line == "3000000"
    docker("rmi", "remote-buildx:1")


def test_limits_hold_on_a_real_engine(tmp_path: Path, docker_config: Path, registry: Registry) -> None:
    push(registry, "limits", "1", busybox_image())
    image = f"{registry.address}/limits:1"
    looking, team = f"{tmp_path}/looking", f"{tmp_path}/team"
    (tmp_path / "given").mkdir()
    toml = (
        f'[[sockets]]\nlisten = ["unix://{looking}"]\nread_only = true\n'
        f'[[sockets]]\nlisten = ["unix://{team}"]\nno_host = true\nonly_label = "team=blue"\n'
        f'binds = ["{tmp_path}/given"]\n'
    )
    with run_engine({"dockerapi": toml}) as engine:
        own = DockerClient(engine.host, docker_config)
        reader, blue = DockerClient(f"unix://{looking}", docker_config), DockerClient(f"unix://{team}", docker_config)
        own("pull", "-q", image)
        other = own("run", "-d", "--network", "none", "--name", "other", image, "sleep", "1000").line
        label = ("--label", "team=blue")
        mine = blue("run", "-d", *label, "--network", "none", "-v", f"{tmp_path}/given:/g", image, "sleep", "1000").line
        assert {mine, other} == set(reader("ps", "-q", "--no-trunc").lines)
        assert blue("ps", "-aq", "--no-trunc").lines == [mine]
        assert blue("ps", "-aq", "--no-trunc", "--filter", "label=team").lines == [mine]
        assert blue("network", "ls", "-q").lines == blue("volume", "ls", "-q").lines == []
        assert reader("logs", mine).code == 0
        for refused in (("rm", "-f", mine), ("exec", mine, "id"), ("run", image), ("cp", f"{mine}:/etc/passwd", "-")):
            assert "read-only" in reader.fails(*refused).stderr, refused
        assert "No such container: other" in blue.fails("exec", "other", "id").stderr
        for flags in (("--privileged",), ("--pid", "host"), ("-v", "/:/h"), ("--mount", "type=bind,src=/etc,dst=/h")):
            assert "gives nobody the host" in blue.fails("run", *label, *flags, image).stderr, flags
        assert "without the label" in blue.fails("run", image, "true").stderr
        assert "gives nobody the host" in blue.fails("exec", "--privileged", mine, "id").stderr
        assert blue("exec", "-i", mine, "cat", input="in\n").stdout == "in\n"
        assert blue("container", "prune", "-f").stdout.count("\n") <= 2
        blue("rm", "-f", mine)
        assert other in own("ps", "-q", "--no-trunc").lines


def written(log: Path) -> list[dict[str, Any]]:
    """Return what a log of JSON has in whole lines: of the last operation its client may know first."""
    whole, _, _ = log.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def test_twenty_operations_are_on_record_and_a_full_disk_refuses(
    tmp_path: Path, docker_config: Path, registry: Registry
) -> None:
    push(registry, "audit", "1", busybox_image())
    image = f"{registry.address}/audit:1"
    with small_disk(tmp_path, "tmpfs", 1) as small:
        disk = small.path
        toml = f'audit = "file"\naudit_file = "{disk}/audit.log"\naudit_max_bytes = 900000\naudit_files = 0\n'
        with run_engine({"dockerapi": toml}) as engine:
            docker = DockerClient(engine.host, docker_config)
            (tmp_path / "file").write_text("x")
            for words in (
                ("pull", "-q", image), ("tag", image, "audited:1"), ("volume", "create", "vol"),
                ("network", "create", "net"),
                ("create", "--name", "one", "-e", "A=hunter2", "--network", "none", image, "sleep", "1000"),
                ("start", "one"), ("pause", "one"), ("unpause", "one"), ("exec", "one", "true"),
                ("cp", f"{tmp_path}/file", "one:/file"),
                ("update", "--restart", "no", "one"), ("rename", "one", "two"), ("kill", "two"), ("wait", "two"),
                ("restart", "two"),
                ("stop", "-t", "0", "two"), ("commit", "two", "audited:2"), ("rm", "two"), ("network", "rm", "net"),
                ("volume", "rm", "vol"), ("rmi", "audited:1", "audited:2"), ("container", "prune", "-f"),
            ):  # fmt: skip
                docker(*words)
            wanted = {
                "image.pull", "image.tag", "volume.create", "network.create", "container.create", "container.start",
                "container.pause", "container.unpause", "exec.create", "exec.start", "container.archive-put",
                "container.update", "container.rename", "container.kill", "container.wait", "container.restart",
                "container.stop", "image.commit", "container.remove", "network.remove", "volume.remove", "image.remove",
                "container.prune",
            }  # fmt: skip

            def operations() -> set[str]:
                return {line["operation"] for line in written(disk / "audit.log")}

            eventually(lambda: wanted <= operations(), f"all of them are on record: {wanted}")
            lines = written(disk / "audit.log")
            assert {line["who"]["uid"] for line in lines} == {os.getuid()}
            assert "docker" in {line["who"]["command"] for line in lines}
            assert "hunter2" not in (disk / "audit.log").read_text()
            small.fill()
            for number in range(40):  # what is left of the last block
                docker.fails("volume", "create", f"v{number}")
            refused = docker.fails("volume", "create", "refused")
            assert "the audit log cannot be written: no space left on device" in refused.stderr
            assert "audit log cannot be written" in engine.sampan("status").stderr
            small.leave(1 << 19)
            docker("volume", "create", "again")
            eventually(lambda: '"status":503' in (disk / "audit.log").read_text(), "a refusal is on record")
            docker("volume", "prune", "-af")
