"""The command ``sampan`` with an engine elsewhere: over TLS and ssh, limited by sockets with a scope, and on record."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sampan.json_types import JsonObject
from tests.support.engine import SAMPAN, Engine, run_engine
from tests.support.images import push
from tests.support.registry import Registry
from tests.support.tls import Certs, make_certs
from tests.support.tools import eventually, free_port
from tests.support.trees import busybox_image

pytestmark = [pytest.mark.root, pytest.mark.slow]

# What stands in for ssh: it runs the command that it is given, as sshd would, on this machine.
_SSH = """#!/bin/sh
echo "$@" >> {log}
while [ "$1" != -- ]; do shift; done
test "$2" = there || {{ echo "ssh: Could not resolve hostname $2" >&2; exit 255; }}
shift 3
export SAMPAN_DATA_ROOT={data} SAMPAN_RUN_ROOT={run}
exec {sampan} "$@"
"""


@dataclass(frozen=True)
class Said:
    """What a command said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Elsewhere:
    """An engine as another machine sees it."""

    engine: Engine
    certs: Certs
    address: str
    directory: Path

    def fails(self, *words: str, host: str = "", client: str = "alice", input: str = "") -> Said:
        """Run ``sampan`` as somebody who has none of the engine's directories; whatever its exit code."""
        flags = ["--tlsverify"] if not host else []
        env = {
            "PATH": f"{self.directory}/bin:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "DOCKER_CERT_PATH": str(self.certs.client(client)),
        }
        command = [str(SAMPAN), "-H", host or self.address, *flags, *words]
        done = subprocess.run(command, env=env, input=input.encode(), capture_output=True, timeout=120, check=False)
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def __call__(self, *words: str, host: str = "", input: str = "") -> str:
        said = self.fails(*words, host=host, input=input)
        assert said.code == 0, (words, said)
        return said.out.strip()

    @property
    def log(self) -> list[JsonObject]:
        """The audit log."""
        whole, _, _ = (self.engine.layout.data("dockerapi") / "audit.log").read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    directory = tmp_path_factory.mktemp("els")
    certs = make_certs(directory / "certs", "alice", "bob")
    port = free_port()
    toml = f'listen = ["tcp://127.0.0.1:{port}", "tcp://127.0.0.2:{port}"]\naudit = "file"\n{certs.toml()}'
    toml += f'[[sockets]]\nlisten = ["unix://{directory}/look.sock"]\nread_only = true\n'
    toml += f'[[sockets]]\nlisten = ["unix://{directory}/safe.sock"]\nno_host = true\n'
    with run_engine({"dockerapi": toml}) as engine:
        (directory / "bin").mkdir()
        roots = engine.layout
        script = _SSH.format(log=directory / "ssh.log", data=roots.data_root, run=roots.run_root, sampan=SAMPAN)
        (directory / "bin/ssh").write_text(script)
        (directory / "bin/ssh").chmod(0o755)
        yield Elsewhere(engine, certs, f"tcp://127.0.0.1:{port}", directory)


@pytest.fixture(scope="module")
def image(there: Elsewhere, registry: Registry) -> str:
    push(registry, "elsewhere", "1", busybox_image())
    reference = f"{registry.address}/elsewhere:1"
    there("pull", "--quiet", reference)
    return reference


@pytest.mark.parametrize("host", ["", "ssh://root@there:2222"], ids=["tls", "ssh"])
def test_a_container_s_life(there: Elsewhere, image: str, tmp_path: Path, host: str) -> None:
    def sampan(*words: str, input: str = "") -> str:
        return there(*words, host=host, input=input)

    assert sampan("run", "--rm", "-i", image, "cat", input="over\n") == "over"
    assert there.fails("run", "--rm", image, "sh", "-c", "exit 7", host=host).code == 7
    container = sampan("run", "-d", "--name", "far", image, "sh", "-c", "echo said; exec sleep 1000")
    try:
        assert sampan("exec", "-i", "far", "cat", input="in\n") == "in"
        (tmp_path / "file").write_text("content")
        sampan("cp", str(tmp_path / "file"), "far:/file")
        sampan("cp", "far:/file", str(tmp_path / "back"))
        assert (tmp_path / "back").read_text() == "content"
        eventually(lambda: sampan("logs", "far") == "said", "the log is read")
        assert "A /file" in sampan("diff", "far")
        assert sampan("commit", "far", "far:made").startswith("sha256:")
        sampan("save", "-o", str(tmp_path / "far.tar"), "far:made")
        sampan("rmi", "far:made")
        assert "far:made" in sampan("load", "-i", str(tmp_path / "far.tar"))
        assert sampan("stop", "-t", "0", "far") == "far"
        events = sampan("events", "--since", "5m", "--until", "0s", "--filter", f"container={container}")
        assert {"create", "start", "die"} <= {line.split()[2] for line in events.splitlines()}
    finally:
        sampan("rm", "-f", "far")
        there.fails("rmi", "far:made", host=host)


def test_build_sends_its_context(there: Elsewhere, image: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nCOPY a /a\nARG S\nRUN cat /a > /b\n")
    (tmp_path / "a").write_bytes(os.urandom(3 << 20))
    there("build", "-q", "-t", "far:built", "--build-arg", "S=hunter2", str(tmp_path))
    assert there("run", "--rm", "far:built", "cmp", "/a", "/b") == ""
    there("rmi", "far:built")
    assert "hunter2" not in json.dumps(there.log)
    eventually(lambda: "build.run" in {line["operation"] for line in there.log}, "the build is on record")


def test_what_is_in_files_there_is_told(there: Elsewhere) -> None:
    assert json.loads(there("info", "--format", "json"))["DataRoot"] == str(there.engine.layout.data_root)
    assert "Everything is whole." in there("system", "check")
    assert there("system", "df", "--format", "{{.Type}}").splitlines()[0] == "Images"


@pytest.mark.parametrize("words", [("status",), ("up",), ("down",), ("registry", "serve"), ("system", "dial-stdio")])
def test_what_is_about_processes_of_this_machine_is_refused(there: Elsewhere, words: tuple[str, ...]) -> None:
    said = there.fails(*words)
    assert said.code == 1
    assert said.err.startswith(f"sampan: `sampan {' '.join(words)}` is about an engine of the machine")


def test_strangers_do_not_get_in(there: Elsewhere, tmp_path: Path) -> None:
    def refused(*flags: str, host: str = there.address) -> str:
        command = [str(SAMPAN), "-H", host, *flags, "ps"]
        done = subprocess.run(command, env={"PATH": os.environ["PATH"], "HOME": "/"}, capture_output=True, check=False)
        assert done.returncode == 1
        return done.stderr.decode()

    authority = str(there.certs.directory / "ca.pem")
    mallory = make_certs(tmp_path / "other", "mallory")
    shown = mallory.client("mallory")
    pair = ("--tlscert", str(shown / "cert.pem"), "--tlskey", str(shown / "key.pem"))
    assert "it speaks TLS" in refused()
    assert "certificate required" in refused("--tlsverify", "--tlscacert", authority)
    assert "unknown ca" in refused("--tlsverify", "--tlscacert", authority, *pair)
    assert "its certificate is refused" in refused("--tlsverify", "--tlscacert", str(shown / "ca.pem"), *pair)
    elsewhere = there.address.replace("127.0.0.1", "127.0.0.2")
    assert "IP address mismatch" in refused("--tlsverify", "--tlscacert", authority, *pair, host=elsewhere)
    assert "ssh: Could not resolve hostname" in there.fails("ps", host="ssh://nowhere").err
    there.certs.revoke("bob")
    assert "revoked" in there.fails("ps", client="bob").err


def test_scopes_hold(there: Elsewhere, image: str) -> None:
    look, safe = f"unix://{there.directory}/look.sock", f"unix://{there.directory}/safe.sock"
    assert image in there("images", "--format", "{{.Repository}}:{{.Tag}}", host=look)
    for words in (("run", "--rm", image, "true"), ("volume", "create", "x"), ("save", image), ("pull", image)):
        assert "this socket is read-only" in there.fails(*words, host=look).err, words
    assert "this socket gives nobody the host" in there.fails("ps", host=safe).err
    assert there("volume", "ls", "-q", host=look) == ""


def test_a_log_goes_on_when_the_gate_was_killed(there: Elsewhere, image: str) -> None:
    there("run", "-d", "--name", "ticks", image, "sh", "-c", "i=0; while true; do echo $((i=i+1)); sleep 0.1; done")
    env = {"PATH": os.environ["PATH"], "DOCKER_CERT_PATH": str(there.certs.client("alice"))}
    command = [str(SAMPAN), "-H", there.address, "--tlsverify", "logs", "-f", "ticks"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as following:
        try:
            assert following.stdout is not None
            lines = [following.stdout.readline() for _ in range(5)]
            there.engine.kill("dockerapi")
            lines += [following.stdout.readline() for _ in range(40)]
        finally:
            following.terminate()
    there("rm", "-f", "ticks")
    assert lines == [f"{number}\n" for number in range(1, 46)]


def test_operations_by_the_command_on_this_machine_are_on_record(there: Elsewhere, image: str) -> None:
    def sampan(*words: str) -> None:
        there.engine.sampan(*words)

    before = len(there.log)
    sampan("tag", image, "told:1")
    sampan("volume", "create", "told")
    sampan("network", "create", "told")
    sampan("create", "--name", "told", "-e", "A=hunter2", "--network", "none", image, "sleep", "1000")
    for words in (("start",), ("pause",), ("unpause",), ("exec",), ("update",), ("kill",), ("restart",), ("stop",)):
        after = {"exec": ("true",)}.get(words[0], ())
        flags = {"update": ("--restart", "no"), "stop": ("-t", "0"), "restart": ("-t", "0")}.get(words[0], ())
        sampan(*words, *flags, "told", *after)
    sampan("rename", "told", "retold")
    sampan("rm", "-f", "retold")
    sampan("network", "rm", "told")
    sampan("volume", "rm", "told")
    sampan("rmi", "told:1")
    wanted = {
        "image.tag", "volume.create", "network.create", "container.create", "container.start", "container.pause",
        "container.unpause", "exec.create", "exec.start", "container.update", "container.kill", "container.restart",
        "container.stop", "container.rename", "container.remove", "network.remove", "volume.remove", "image.remove",
    }  # fmt: skip
    # What a client has the answer of is on record a moment later.
    eventually(lambda: wanted <= {line["operation"] for line in there.log[before:]}, f"on record are {wanted}")
    lines = there.log[before:]
    assert "hunter2" not in json.dumps(lines)
    (paused,) = [line for line in lines if line["operation"] == "container.pause"]
    assert (paused["object"], paused["outcome"]) == ("told", "done")
    assert paused["who"] == {
        "uid": os.getuid(),
        "gid": os.getgid(),
        **{k: paused["who"][k] for k in ("pid", "command")},
    }
    assert there.engine.layout.socket("runtimed").stat().st_mode & 0o777 == 0o600
