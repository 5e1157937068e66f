"""``sampan build`` and ``sampan builder prune`` on a whole engine."""

import io
import json
import os
import signal
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.docker_client import Result, result_of
from tests.support.engine import SAMPAN, Engine
from tests.support.tools import eventually, long_time, sleeping
from tests.support.trees import busybox_tar

pytestmark = [pytest.mark.root]


@pytest.fixture(scope="module", autouse=True)
def base(engine: Engine) -> None:
    imported = sampan(engine, "import", "--change", "ENV PATH=/bin:/usr/bin", "-", "base", input=busybox_tar())
    assert imported.code == 0, imported.stderr


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "f").write_text("data\n")
    (tmp_path / "left-out").write_text("no\n")
    (tmp_path / ".dockerignore").write_text("left-out\n")
    (tmp_path / "Dockerfile").write_text('FROM base\nRUN echo made > /made\nCOPY . /c/\nCMD ["cat", "/made"]\n')
    return tmp_path


def sampan(engine: Engine, *arguments: str, input: bytes = b"", **environment: str) -> Result:
    command = [str(SAMPAN), *arguments]
    done = subprocess.run(
        command, env={**engine.env(), **environment}, input=input, capture_output=True, timeout=120, check=False
    )
    return result_of(done)


def built(engine: Engine, *arguments: str, input: bytes = b"", **environment: str) -> Result:
    result = sampan(engine, "build", "--progress", "plain", *arguments, input=input, **environment)
    assert result.code == 0, result.stderr
    return result


def test_an_image_is_built_and_runs(engine: Engine, context: Path) -> None:
    shown = built(engine, "-t", "one", "-t", "two:3", "--label", "l=v", str(context)).stderr
    assert "[2/3] RUN echo made > /made" in shown
    assert sampan(engine, "run", "--rm", "--network", "none", "one").stdout == "made\n"
    listed = sampan(engine, "run", "--rm", "--network", "none", "two:3", "ls", "-A", "/c").stdout
    assert "f" in listed.split()
    assert "left-out" not in listed
    (said,) = json.loads(sampan(engine, "image", "inspect", "one").stdout)
    assert said["Config"]["Labels"] == {"l": "v"}
    history = sampan(engine, "history", "--format", "{{.CreatedBy}}", "--no-trunc", "one").stdout
    assert "RUN /bin/sh -c echo made > /made # buildkit" in history


def test_what_has_not_changed_is_the_same_image(engine: Engine, context: Path, tmp_path: Path) -> None:
    first = built(engine, "-q", str(context)).stdout
    assert first.startswith("sha256:")
    os.utime(context / "f", (1, 1))
    again = built(engine, "--iidfile", str(tmp_path / "iid"), "--metadata-file", str(tmp_path / "meta"), str(context))
    assert again.stderr.count("CACHED") == 3
    assert (tmp_path / "iid").read_text() == first.strip()
    told = json.loads((tmp_path / "meta").read_text())
    assert told["containerimage.config.digest"] == first.strip()
    (context / "f").write_text("new\n")
    assert built(engine, str(context)).stderr.count("CACHED") == 2


def test_the_lines_to_blame_are_shown(engine: Engine) -> None:
    result = sampan(engine, "build", "-", input=b"FROM base\nRUN echo out && exit 7\nRUN never\n")
    assert result.code == 1
    assert "   2 | >>> RUN echo out && exit 7" in result.stderr
    assert 'process "/bin/sh -c echo out && exit 7" did not complete successfully: exit code: 7' in result.stderr
    missing = sampan(engine, "build", "/nowhere")
    assert missing.stderr == "sampan: unable to prepare context: path '/nowhere' not found\n"


def test_contexts_come_from_stdin_too(engine: Engine, context: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(context, ".")
    built(engine, "-t", "packed", "-", input=packed.getvalue())
    assert sampan(engine, "run", "--rm", "--network", "none", "packed", "cat", "/c/f").stdout == "data\n"
    built(engine, "-t", "piped", "-f", "-", str(context), input=b"FROM base\nCOPY f /piped\n")
    assert sampan(engine, "run", "--rm", "--network", "none", "piped", "cat", "/piped").stdout == "data\n"


def test_results_go_where_they_are_wanted(engine: Engine, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY f /sub/f\n")
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("stays\n")
    built(engine, "-o", str(out), str(context))
    assert (out / "sub/f").read_text() == "data\n"
    assert (out / "mine").read_text() == "stays\n"
    built(engine, "-o", f"type=oci,dest={tmp_path}/oci.tar", str(context))
    with tarfile.open(tmp_path / "oci.tar") as archive:
        assert {"oci-layout", "index.json"} <= set(archive.getnames())
    built(engine, "-t", "named", "-o", f"type=docker,dest={tmp_path}/docker.tar", str(context))
    assert "Loaded image: named:latest" in sampan(engine, "load", "-i", f"{tmp_path}/docker.tar").stdout


def test_secrets_reach_steps_and_nothing_else(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hidden-from-file")
    text = (
        b"FROM base\nRUN --mount=type=secret,id=a --mount=type=secret,id=B,env=B wc -c /run/secrets/a && test $B = x\n"
    )
    secrets = ("--secret", f"id=a,src={tmp_path}/token", "--secret", "id=B")
    shown = built(engine, "-t", "secret", *secrets, "-", input=text, B="x").stderr
    assert "16 /run/secrets/a" in shown
    assert sampan(engine, "run", "--rm", "--network", "none", "secret", "ls", "/run/secrets").code != 0
    refused = sampan(engine, "build", "-", input=b"FROM base\nRUN --mount=type=secret,id=c,required=true true\n")
    assert "secret c: not found" in refused.stderr


def test_an_agent_is_there_for_the_step_that_asks_for_it(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        text = b'FROM base\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK\nRUN test -z "$SSH_AUTH_SOCK"\n'
        built(engine, "--ssh", f"default={path}", "-", input=text)
    refused = sampan(engine, "build", "-", input=b"FROM base\nRUN --mount=type=ssh,required=true true\n")
    assert refused.code == 1
    assert refused.stderr.endswith("unset ssh forward key default\n")


def test_a_dockerfile_is_checked_and_outlined(engine: Engine, context: Path) -> None:
    assert "Check complete, no warnings found." in built(engine, "--check", str(context)).stdout
    (context / "Dockerfile").write_text("from base AS first\nARG V=1\nRUN true $V\n")
    warned = sampan(engine, "build", "--check", str(context))
    assert (warned.code, "ConsistentInstructionCasing" in warned.stdout) == (1, True)
    assert "first" in built(engine, "--call", "targets", str(context)).stdout
    assert "V" in built(engine, "--call", "outline", str(context)).stdout


def test_ctrl_c_ends_the_step_at_once(engine: Engine) -> None:
    seconds = long_time()
    command = [str(SAMPAN), "build", "--progress", "plain", "--no-cache", "-"]
    building = subprocess.Popen(
        command, env=engine.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert building.stdin is not None
    assert building.stderr is not None
    building.stdin.write(f"FROM base\nRUN echo begun && exec sleep {seconds}\n".encode())
    building.stdin.close()
    while b"begun\n" not in (line := building.stderr.readline()) or b"RUN" in line:
        assert line, "the build ended by itself"
    eventually(lambda: bool(sleeping(seconds)), "the shell has become a sleep")
    building.send_signal(signal.SIGINT)
    building.stderr.read()
    building.stdout.read() if building.stdout is not None else None
    assert building.wait(60) == 130
    eventually(lambda: not sleeping(seconds), "the step's process has ended")


def test_the_cache_is_counted_and_pruned(engine: Engine, context: Path) -> None:
    built(engine, str(context))
    pruned = sampan(engine, "builder", "prune", "-a", "-f")
    assert pruned.code == 0
    assert "Deleted build cache objects:" in pruned.stdout
    assert "Total reclaimed space:" in pruned.stdout
    assert "CACHED" not in built(engine, str(context)).stderr.replace("[1/3] FROM", "")
    for wrong, words in (
        ("--filter=colour=red", "invalid filter 'colour'"),
        ("--max-used-space=x", "invalid size: 'x'"),
    ):
        refused = sampan(engine, "builder", "prune", "-f", wrong)
        assert (refused.code, refused.stderr.startswith(f"sampan: {words}")) == (1, True)
    assert sampan(engine, "builder", "prune", "-f", "--reserved-space", "1g", "--min-free-space", "1").code == 0


def test_limits_hold_for_the_steps(engine: Engine, context: Path) -> None:
    (context / "Dockerfile").write_text(
        f"{(context / 'Dockerfile').read_text()}RUN dd if=/dev/zero of=/dev/null bs=99M count=1\n"
    )
    killed = sampan(engine, "build", "--memory", "32m", str(context))
    assert killed.code == 1
    assert "cannot allocate memory" in killed.stderr
    assert (
        sampan(engine, "build", "--memory", "1g", "--cpu-shares", "512", "--cpuset-cpus", "0", str(context)).code == 0
    )
    assert (
        sampan(engine, "build", "--memory", "1", str(context)).stderr == "sampan: Minimum memory limit allowed is 6MB\n"
    )


def test_the_network_of_steps_is_chosen(engine: Engine, context: Path) -> None:
    own = f"[ $(readlink /proc/self/ns/net) = '{os.readlink('/proc/self/ns/net')}' ]"
    for mode, checked in (("host", own), ("none", f"! {own}"), ("default", f"! {own}")):
        (context / "Dockerfile").write_text(f"FROM base\nRUN {checked}\n")
        built(engine, "--network", mode, str(context))
    refused = sampan(engine, "build", "--network", "mine", str(context))
    assert (refused.code, refused.stderr) == (1, 'sampan: network mode "mine" not supported by buildkit\n')
