"""The same way through ``sampan``, which speaks gRPC: with the docker program's exit codes and words."""

import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.compat.conftest import listens
from tests.support.docker_client import DockerClient, Result
from tests.support.engine import SAMPAN, Engine
from tests.support.images import Image, layer, push
from tests.support.registry import Registry
from tests.support.terminal import at_terminal
from tests.support.tools import eventually
from tests.support.trees import BUSYBOX_CONFIG, ROOT, busybox_image, busybox_tar

Sampan = Callable[..., Result]
Unique = Callable[[str], str]


@pytest.fixture
def sampan(engine: Engine) -> Sampan:
    return engine.sampan


@pytest.fixture(scope="module")
def image(engine: Engine, registry: Registry) -> str:
    push(registry, "busybox", "1", busybox_image())
    reference = f"{registry.address}/busybox:1"
    engine.sampan("pull", "--quiet", reference)
    return reference


@pytest.fixture
def spawn(engine: Engine, unique: Unique) -> Iterator[Callable[..., str]]:
    names: list[str] = []

    def start(*arguments: str) -> str:
        names.append(unique("cli"))
        engine.sampan("run", "--detach", "--name", names[-1], *arguments)
        return names[-1]

    yield start
    for name in names:
        engine.sampan_fails("rm", "--force", name)


@pytest.fixture
def sleeper(docker: DockerClient, spawn: Callable[..., str], image: str) -> str:
    name = spawn(image, "sh", "-c", "trap 'exit 143' TERM; while :; do sleep 3600 & wait $!; done")
    listens(docker, name)
    return name


def test_pull_says_what_it_got(sampan: Sampan, registry: Registry, unique: Unique) -> None:
    name = unique("cli")
    image = Image([layer(busybox_tar())], BUSYBOX_CONFIG | {"Labels": {"n": name}})
    digest = push(registry, name, "1", image)
    pulled = sampan("pull", f"{registry.address}/{name}:1")
    assert digest in pulled.stdout + pulled.stderr
    assert sampan("images", "--no-trunc", "--quiet", "--filter", f"label=n={name}").line == image.id
    sampan("rmi", f"{registry.address}/{name}:1")


def test_unknown_things_are_named(engine: Engine, registry: Registry) -> None:
    for arguments, said in [
        (("pull", f"{registry.address}/busybox:nonesuch"), "manifest unknown"),
        (("logs", "nobody"), "No such container: nobody"),
        (("rm", "nobody"), "No such container: nobody"),
        (("rmi", "nonesuch"), "No such image: nonesuch"),
        (("image", "inspect", "nonesuch"), "nonesuch"),
    ]:
        failed = engine.sampan_fails(*arguments)
        assert failed.code == 1
        assert said.lower() in failed.stderr.lower()
        assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["sh", "-c", "exit 0"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["no-such-program"], 127),
        (["/etc/passwd"], 126),
        (["sh", "-c", "sh -c 'kill -KILL $$'; exit $?"], 137),
    ],
)
def test_exit_codes_are_docker_s(engine: Engine, image: str, command: list[str], code: int) -> None:
    assert engine.sampan_fails("run", "--rm", image, *command).code == code


def test_engine_s_own_failure_exits_125(engine: Engine, registry: Registry, image: str) -> None:
    assert engine.sampan_fails("run", "--rm", f"{registry.address}/nonesuch", "true").code == 125
    assert engine.sampan_fails("run", "--rm", "--network", "nonesuch", image, "true").code == 125
    assert engine.sampan_fails("run", "--no-such-flag").code in (2, 125)


def test_streams_stay_apart_and_input_ends(sampan: Sampan, image: str) -> None:
    shown = sampan("run", "--rm", "-i", image, "sh", "-c", "cat; echo err >&2", input="in\n")
    assert (shown.stdout, shown.stderr) == ("in\n", "err\n")


def test_flags_have_their_effect(sampan: Sampan, image: str) -> None:
    flags = ["-e", "A=1", "-w", "/etc", "-u", "daemon", "--hostname", "h", "--read-only", "--network", "none"]
    script = "echo $A; pwd; id -u; hostname; touch /x 2>&1 | grep -o Read-only; ls /sys/class/net"
    shown = sampan("run", "--rm", *flags, image, "sh", "-c", script)
    assert shown.lines == ["1", "/etc", "1", "h", "Read-only", "lo"]


def test_terminal_is_the_user_s(engine: Engine, image: str) -> None:
    command = [str(SAMPAN), "run", "--rm", "-it", image, "sh"]
    with at_terminal(command, engine.env(), rows=37, columns=91) as terminal:
        terminal.expect("# ")
        terminal.expect_size(37, 91)
        terminal.type("exit 3\n")
        assert terminal.wait() == 3


@pytest.mark.parametrize("verb", ["exec", "run"])
def test_terminal_has_its_size_from_the_first_instruction(engine: Engine, image: str, sleeper: str, verb: str) -> None:
    words = [verb, "-it", sleeper] if verb == "exec" else [verb, "--rm", "-it", "--network=none", image]
    for _ in range(5):
        with at_terminal([str(SAMPAN), *words, "stty", "size"], engine.env(), rows=37, columns=91) as terminal:
            terminal.expect("37 91")
            assert terminal.wait() == 0


@pytest.mark.slow
def test_100_megabytes_arrive_exactly(engine: Engine, image: str) -> None:
    script = "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 100000000"
    command = [str(SAMPAN), "run", "--rm", "--network=none", image, "sh", "-c", script]
    done = subprocess.run(command, env=engine.env(), capture_output=True, timeout=600)
    assert (done.returncode, len(done.stdout)) == (0, 100_000_000), done.stderr


def test_life_of_a_container(sampan: Sampan, engine: Engine, docker: DockerClient, image: str, sleeper: str) -> None:
    assert sampan("ps", "--format", "{{.Names}}", "--filter", f"name={sleeper}").line == sleeper
    assert sampan("exec", sleeper, "echo", "inside").line == "inside"
    assert engine.sampan_fails("exec", sleeper, "sh", "-c", "exit 9").code == 9
    assert sampan("exec", "-i", sleeper, "wc", "-c", input="1234").line == "4"
    sampan("pause", sleeper)
    sampan("unpause", sleeper)
    sampan("restart", "--time", "1", sleeper)
    listens(docker, sleeper)
    assert sampan("inspect", "--format", "{{.State.Status}}", sleeper).line == "running"
    assert engine.sampan_fails("rm", sleeper).code == 1
    sampan("stop", sleeper)
    assert sampan("wait", sleeper).line == "143"
    sampan("rename", sleeper, f"{sleeper}-b")
    sampan("rm", f"{sleeper}-b")


def test_logs_in_all_ways(sampan: Sampan, image: str, spawn: Callable[..., str]) -> None:
    name = spawn(image, "sh", "-c", "echo one; echo two >&2; sleep 0.2; echo three")
    assert sampan("logs", "--follow", name).stdout == "one\nthree\n"
    assert sampan("logs", name).stderr == "two\n"
    assert sampan("logs", "--tail", "1", name).stdout == "three\n"
    assert sampan("logs", "-t", "--tail", "1", name).stdout.split(" ")[0].endswith("Z")


def test_attach_and_detach(engine: Engine, image: str, spawn: Callable[..., str]) -> None:
    name = spawn("-i", image, "sh", "-c", "read line; echo got $line; exit 5")
    attached = engine.sampan_fails("attach", name, input="this\n")
    assert (attached.code, attached.stdout) == (5, "got this\n")


@pytest.mark.parametrize(("command", "words", "code"), [
    (["attach"], "sampan: read escape sequence", 1),
    (["exec", "-it"], "sampan: read escape sequence", 1),
    (["start", "-ai"], "", 0),
])  # fmt: skip
def test_leaving_by_the_detach_keys_says_so_to_who_joined(
    engine: Engine, image: str, spawn: Callable[..., str], command: list[str], words: str, code: int
) -> None:
    name = spawn("-it", image, "sh")
    line = [str(SAMPAN), *command, name, *(["sh"] if command[0] == "exec" else [])]
    with at_terminal(line, engine.env()) as terminal:
        terminal.type("echo r''eady\n")
        terminal.expect("ready")
        terminal.type("\x10\x11")  # ctrl-p ctrl-q
        assert terminal.wait() == code
        assert terminal.seen.rstrip().endswith(words)
    assert engine.sampan("inspect", "--format", "{{.State.Status}}", name).line == "running"


def test_json_is_one_object_per_line_as_docker_prints_it(sampan: Sampan, sleeper: str, image: str) -> None:
    for command in (["ps"], ["images"], ["network", "ls"], ["volume", "ls"]):
        for line in sampan(*command, "--format", "json").lines:
            assert isinstance(json.loads(line), dict), command
    assert isinstance(json.loads(sampan("status", "--format", "json").stdout), list)
    assert json.loads(sampan("inspect", sleeper).stdout)[0]["State"]["Running"] is True


def test_published_port_is_shown(sampan: Sampan, image: str, spawn: Callable[..., str]) -> None:
    name = spawn("-p", "127.0.0.1::80", image, "httpd", "-f", "-h", "/etc")
    assert sampan("port", name, "80/tcp").line.startswith("127.0.0.1:")


def test_import_tag_history_rmi(engine: Engine, sampan: Sampan, unique: Unique) -> None:
    name = unique("cli-import")
    tar = subprocess.run([ROOT / "tools/busybox-root"], check=True, capture_output=True).stdout
    command = [str(SAMPAN), "import", "--change", 'CMD ["echo", "imported"]', "-", name]
    made = subprocess.run(command, input=tar, env=engine.env(), capture_output=True, check=True)
    assert made.stdout.startswith(b"sha256:")
    assert sampan("run", "--rm", name).line == "imported"
    sampan("tag", name, f"{name}:other")
    assert sampan("history", "--format", "{{.ID}}", name).line
    sampan("rmi", name, f"{name}:other")


def test_docker_and_sampan_see_one_engine(sampan: Sampan, engine: Engine, sleeper: str) -> None:
    docker = subprocess.run(
        ["docker", "inspect", "--format", "{{.Id}}", sleeper],
        env=engine.env() | {"DOCKER_HOST": engine.host},
        capture_output=True,
        text=True,
        check=True,
    )
    assert sampan("inspect", "--format", "{{.Id}}", sleeper).line == docker.stdout.strip()


def test_events_are_shown(engine: Engine, sampan: Sampan, image: str, unique: Unique) -> None:
    name = unique("cli-events")
    sampan("run", "--rm", "--name", name, image, "true")

    def shown() -> str:
        flags = ("--since", "1m", "--until", "0s", "--filter", f"container={name}")
        return engine.sampan_fails("events", *flags).stdout

    eventually(lambda: "destroy" in shown(), "the events are shown")
    assert "create" in shown()


def test_engine_that_does_not_run_is_said_so(engine: Engine) -> None:
    failed = engine.sampan_fails("--run-root", "/tmp/sp-nobody", "ps")
    assert failed.code == 1
    assert "sampan up" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_version_starts_fast(engine: Engine) -> None:
    times = []
    for _ in range(5):
        begin = resource.getrusage(resource.RUSAGE_CHILDREN)
        engine.sampan("--version")
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Of the processor, since others may want it as well.
        times.append(end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime)
    assert min(times) < 0.3  # 0.1 s on a machine with nothing else to do


def test_sizes_of_a_container_are_inspected(sampan: Sampan, spawn: Callable[..., str], image: str) -> None:
    name = spawn(image, "sh", "-c", "head -c 100000 /dev/zero > /file; sleep 1000")
    eventually(lambda: _sizes(sampan, name)[0] >= 100_000, "the file is counted")
    assert _sizes(sampan, name)[1] > 100_000
    assert "SizeRw" not in json.loads(sampan("container", "inspect", name).stdout)[0]


def _sizes(sampan: Sampan, name: str) -> tuple[int, int]:
    (shown,) = json.loads(sampan("container", "inspect", "--size", name).stdout)
    return shown["SizeRw"], shown["SizeRootFs"]


def test_docker_client_reaches_the_engine_by_ssh(
    engine: Engine, docker_config: Path, tmp_path: Path, image: str, spawn: Callable[..., str]
) -> None:
    # What the client runs on the other machine, which is this one.
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec {SAMPAN} system dial-stdio\n')
    ssh.chmod(0o755)
    name = spawn(image, "sleep", "1000")
    client = DockerClient(
        "ssh://root@there", docker_config, engine.env() | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    )
    assert name in client("ps", "--format", "{{.Names}}").lines
    assert client("run", "--rm", "-i", image, "cat", input="there\nand back\n").stdout == "there\nand back\n"
    assert client("exec", "-i", name, "sh", "-c", "wc -c", input="x" * 300_000).line == "300000"
    assert client.fails("exec", name, "sh", "-c", "exit 3").code == 3
    assert "there docker system dial-stdio" in (tmp_path / "calls").read_text()


def test_dialling_an_engine_that_is_not_there_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [SAMPAN, "--run-root", tmp_path, "system", "dial-stdio"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    socket = tmp_path / "docker.sock"
    said = f"sampan: cannot connect to {socket}: No such file or directory: is the engine running?\n"
    assert (done.returncode, done.stderr.decode()) == (1, said)  # one line: a client behind ssh shows what it gets


def test_a_volume_goes_out_and_comes_in_as_an_archive(
    sampan: Sampan, engine: Engine, image: str, unique: Unique, tmp_path: Path
) -> None:
    name, copy = unique("volume"), unique("volume")
    script = (
        "mkdir /v/d && echo content > /v/d/file && chown 7:8 /v/d/file && chmod 4640 /v/d/file && ln -s d/file /v/l"
    )
    sampan("run", "--rm", "--network", "none", "--volume", f"{name}:/v", image, "sh", "-c", script)
    archive = tmp_path / "volume.tar"
    sampan("volume", "export", "--output", str(archive), name)
    sampan("volume", "import", copy, str(archive))
    sampan("volume", "import", copy, str(archive))  # over what is there
    look = "cat /v/l; stat -c '%u:%g %a' /v/d/file"
    shown = sampan("run", "--rm", "--network", "none", "--volume", f"{copy}:/v", image, "sh", "-c", look)
    assert shown.lines == ["content", "7:8 4640"]
    sampan("volume", "rm", name, copy)
    assert "no such volume" in engine.sampan_fails("volume", "export", name).stderr
    (tmp_path / "bad").write_text("no archive" * 100)
    refused = engine.sampan_fails("volume", "import", copy, str(tmp_path / "bad"))
    assert refused.code == 1
    assert "not a tar archive" in refused.stderr
    sampan("volume", "rm", copy)
