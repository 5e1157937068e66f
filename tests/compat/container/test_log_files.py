"""Logs as files: rotated and compressed, in the form that collectors read; and drivers, as their options say."""

import gzip
import json
import re
import socket
from pathlib import Path

import pytest

from tests.compat.conftest import Spawn, say_in_turn
from tests.support.docker_client import DockerClient
from tests.support.tools import eventually


def log_path(docker: DockerClient, name: str) -> Path:
    return Path(docker("inspect", "--format", "{{.LogPath}}", name).line)


def test_the_file_is_where_collectors_look_and_json(docker: DockerClient, image: str, spawn: Spawn) -> None:
    flags = ("--label", "tier=web", "--log-opt", "labels=tier")
    name = say_in_turn(docker, spawn, image, "echo 'out <1>'", "echo err >&2", "printf end", flags=flags)
    path = log_path(docker, name)
    assert path.name == f"{docker('inspect', '--format', '{{.Id}}', name).line}-json.log"
    docker("logs", name)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["log"], line["stream"], line["attrs"]) for line in lines] == [
        ("out <1>\n", "stdout", {"tier": "web"}),
        ("err\n", "stderr", {"tier": "web"}),
        ("end", "stdout", {"tier": "web"}),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z", line["time"]) for line in lines)


def test_rotation_keeps_the_last_files_and_logs_reads_them_all(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn("--log-opt", "max-size=10k", "--log-opt", "max-file=3", image, "seq", "5000")
    docker("wait", name)
    shown = [int(line) for line in docker("logs", name).lines]
    assert shown == list(range(5001 - len(shown), 5001))
    assert 250 < len(shown) < 500
    path = log_path(docker, name)
    sizes = [path.with_name(path.name + end).stat().st_size for end in (".1", ".2")]
    assert all(10_000 <= size < 10_100 for size in sizes)
    assert docker("logs", "--tail", "200", name).lines == [str(number) for number in shown[-200:]]


def test_rotated_files_are_compressed_and_read(docker: DockerClient, image: str, spawn: Spawn) -> None:
    limits = ("--log-opt", "max-size=20k", "--log-opt", "max-file=4", "--log-opt", "compress=true")
    name = spawn(*limits, image, "sh", "-c", "seq 500; sleep 1; seq 501 900")
    docker("wait", name)
    assert docker("logs", name).lines == [str(number) for number in range(1, 901)]
    path = log_path(docker, name)
    packed = path.with_name(path.name + ".1.gz")
    eventually(packed.exists, "the file before is compressed")
    assert gzip.decompress(packed.read_bytes()).count(b"\n") > 200
    assert docker("logs", "--tail", "700", name).lines[0] == "201"


def test_following_goes_on_over_rotations(docker: DockerClient, image: str, spawn: Spawn) -> None:
    script = "for i in 1 2 3 4 5 6; do seq $((i * 100)) $((i * 100 + 99)); sleep 0.3; done"
    name = spawn("--log-opt", "max-size=4k", "--log-opt", "max-file=20", image, "sh", "-c", script)
    assert docker("logs", "--follow", name).lines == [str(number) for number in range(100, 700)]


def test_a_line_has_the_time_of_its_end_and_streams_are_not_joined(
    docker: DockerClient, image: str, spawn: Spawn
) -> None:
    name = say_in_turn(docker, spawn, image, "printf a; sleep 0.5; echo err >&2", "echo b")
    shown = docker("logs", "--timestamps", name)
    assert (shown.line.split(" ")[1], shown.stderr.strip().split(" ")[1]) == ("ab", "err")
    assert shown.line.split(" ")[0] > shown.stderr.split(" ")[0]


def test_a_driver_without_a_log_says_so(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn("--log-driver", "none", image, "echo", "said")
    docker("wait", name)
    failed = docker.fails("logs", name)
    assert failed.stderr.strip() == "Error response from daemon: configured logging driver does not support reading"


def test_the_local_driver_keeps_every_byte_and_names_no_file(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn("--log-driver", "local", image, "printf", r"\001\377\n<&>\n")
    docker("wait", name)
    client = docker.start("logs", name)
    assert client.communicate(timeout=60)[0] == b"\x01\xff\n<&>\n"
    assert docker("inspect", "--format", "{{.LogPath}}", name).stdout.strip() == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--log-opt", "colour=red"), "unknown log opt 'colour' for json-file log driver"),
        (("--log-driver", "splinter"), "logger: no log driver named 'splinter' is registered"),
        (("--log-driver", "syslog", "--log-opt", "syslog-facility=x"), "invalid syslog facility"),
        (("--log-opt", "mode=lazy"), "logger: logging mode not supported: lazy"),
    ],
)
def test_options_that_a_driver_does_not_know_are_refused(
    docker: DockerClient, image: str, options: tuple[str, ...], message: str
) -> None:
    assert message in docker.fails("create", *options, image).stderr


def test_syslog_gets_the_lines_and_logs_shows_them(docker: DockerClient, image: str, spawn: Spawn) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(60)
        options = ("--log-driver", "syslog", "--log-opt", "tag={{.Name}}")
        address = f"syslog-address=udp://127.0.0.1:{receiver.getsockname()[1]}"
        flags = (*options, "--log-opt", address)
        name = say_in_turn(docker, spawn, image, "echo one", "echo two >&2", flags=flags)
        assert re.fullmatch(rf"<30>\w+ +\d+ [\d:]+ {name}\[\d+\]: one\n", receiver.recv(9000).decode())
        assert re.fullmatch(rf"<27>\w+ +\d+ [\d:]+ {name}\[\d+\]: two\n", receiver.recv(9000).decode())
    shown = docker("logs", name)
    assert (shown.stdout, shown.stderr) == ("one\n", "two\n")


def test_a_receiver_that_is_not_there_fails_the_start(docker: DockerClient, image: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"fluentd-address=127.0.0.1:{taken.getsockname()[1]}"
        failed = docker.fails("run", "--rm", "--log-driver", "fluentd", "--log-opt", address, image, "true")
    assert "failed to initialize logging driver: dial tcp 127.0.0.1:" in failed.stderr
    assert "connect: connection refused" in failed.stderr
