"""``buildctl``, unmodified, against the builder."""

import json
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from buildd.llb.ops import ExecOp, FileAction, FileOp, MakeFile, MakeSymlink, Metadata, Mount, Node, Process, SourceOp
from buildd.wire.llb.graphs import Graphs
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.go_clients import GoClient
from tests.support.tools import eventually, long_time, sleeping

pytestmark = pytest.mark.root

FRONTEND = ("build", "--progress", "plain", "--frontend", "dockerfile.v0", "--local", "context=.", "--local")


def write(context: Path, dockerfile: str, **files: str) -> None:
    (context / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (context / name).write_text(text)


def test_the_builder_is_told_as_a_worker(buildctl: GoClient, context: Path) -> None:
    shown = buildctl("debug", "workers", "-v", cwd=context).stdout
    assert "linux/amd64" in shown or "linux/arm64" in shown
    assert "org.mobyproject.buildkit.worker.snapshotter" in shown
    assert buildctl("debug", "info", cwd=context).stdout.startswith("BuildKit: sampan v")


def test_a_dockerfile_becomes_an_image_that_runs_and_is_built_from_the_cache_again(
    buildctl: GoClient, docker: DockerClient, image: str, context: Path
) -> None:
    write(context, f"FROM {image}\nCOPY greeting /\nRUN cat /greeting > /said\nCMD cat /said\n", greeting="hello")
    build = (*FRONTEND, "dockerfile=.", "--output", "type=image,name=buildctl-app:1")
    first = buildctl(*build, cwd=context).stderr
    assert "[2/3] COPY greeting /" in first
    assert first.count(" CACHED") <= 1  # the base, if another test has built from it
    assert docker("run", "--rm", "--network", "none", "buildctl-app:1").stdout == "hello"
    again = buildctl(*build, cwd=context).stderr
    assert again.count(" CACHED") == 3
    (context / "greeting").write_text("goodbye")
    third = buildctl(*build, cwd=context).stderr
    assert third.count(" CACHED") == 1
    assert docker("run", "--rm", "--network", "none", "buildctl-app:1").stdout == "goodbye"
    docker("rmi", "buildctl-app:1")


def test_a_graph_of_a_client_s_own_is_built(buildctl: GoClient, image: str, context: Path) -> None:
    base = Node(SourceOp(f"docker-image://{image}"), metadata=Metadata("base"))
    changes = FileOp(
        (
            FileAction(MakeFile("/made", 0o644, b"by hand"), input=0),
            FileAction(MakeSymlink("made", "/link"), input=1, output=0),
        )
    )
    made = Node(changes, (base.output(),), metadata=Metadata("make files"))
    copy = Process(("/bin/sh", "-c", "cat /link > /out/copied"), ("PATH=/bin",))
    step = ExecOp(copy, (Mount("/", input=0), Mount("/out", output=0)))
    ran = Node(step, (made.output(),), metadata=Metadata("copy them"))
    definition = Graphs(frozenset()).dump(ran.output())
    (context / "llb").write_bytes(definition)
    done = subprocess.run(
        [buildctl.program, *buildctl.before, "build", "--progress", "plain", "--output", "type=local,dest=out"],
        input=definition,
        cwd=context,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (context / "out/copied").read_text() == "by hand"
    assert b"make files" in done.stderr


def test_a_result_goes_to_the_client_as_files_and_as_archives(buildctl: GoClient, context: Path) -> None:
    write(context, "FROM scratch\nCOPY kept /kept\n", kept="as it is")
    buildctl(*FRONTEND, "dockerfile=.", "--output", "type=local,dest=out", cwd=context)
    assert (context / "out/kept").read_text() == "as it is"
    buildctl(*FRONTEND, "dockerfile=.", "--output", "type=oci,dest=app.tar", cwd=context)
    with tarfile.open(context / "app.tar") as archive:
        member = archive.extractfile("index.json")
        assert member is not None
        assert json.load(member)["manifests"]


def test_a_secret_is_there_for_one_step_and_nowhere_else(
    buildctl: GoClient, docker: DockerClient, image: str, context: Path
) -> None:
    write(
        context,
        f"FROM {image}\nRUN --mount=type=secret,id=token wc -c < /run/secrets/token > /size\nCMD cat /size\n",
        token="s3cret",
    )
    buildctl(
        *FRONTEND, "dockerfile=.", "--secret", "id=token,src=token", "--output", "type=image,name=with-secret:1",
        cwd=context,
    )  # fmt: skip
    assert docker("run", "--rm", "--network", "none", "with-secret:1").stdout == "6\n"
    assert "s3cret" not in docker("history", "--no-trunc", "with-secret:1").stdout
    docker("rmi", "with-secret:1")


def test_what_a_step_needs_beyond_the_usual_has_to_be_granted(buildctl: GoClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\nRUN --network=host true\n")
    refused = buildctl.fails(*FRONTEND, "dockerfile=.", cwd=context)
    assert refused.code != 0
    assert "network.host is not allowed" in refused.stderr
    buildctl(*FRONTEND, "dockerfile=.", "--allow", "network.host", cwd=context)
    refused = buildctl.fails(*FRONTEND, "dockerfile=.", "--allow", "security.insecure", cwd=context)
    assert "granting entitlement security.insecure is not allowed by build daemon configuration" in refused.stderr


def test_results_go_to_another_cache_and_come_back_from_there(buildctl: GoClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\nRUN date +%N > /when\n")
    build = (*FRONTEND, "dockerfile=.", "--output", "type=tar,dest=out.tar")
    shown = buildctl(*build, "--export-cache", "type=local,dest=cache,mode=max", cwd=context).stderr
    assert "exporting cache to client directory" in shown
    first = (context / "out.tar").read_bytes()
    buildctl("prune", "--all", cwd=context)
    again = buildctl(*build, "--import-cache", "type=local,src=cache", cwd=context).stderr
    assert "importing cache manifest from" in again
    assert (context / "out.tar").read_bytes() == first


def test_the_cache_is_shown_and_pruned(buildctl: GoClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\nRUN echo kept for a while > /file\n")
    buildctl(*FRONTEND, "dockerfile=.", cwd=context)
    assert "RUN echo kept for a while > /file" in buildctl("du", "-v", cwd=context).stdout
    assert "Total:" in buildctl("prune", "--all", cwd=context).stdout
    assert "RUN echo kept" not in buildctl("du", "-v", cwd=context).stdout


def test_a_client_that_is_interrupted_ends_its_build(
    buildctl: GoClient, engine: Engine, image: str, context: Path
) -> None:
    seconds = long_time()
    write(context, f"FROM {image}\nRUN echo begun && sleep {seconds}\n")
    building = subprocess.Popen(
        [buildctl.program, *buildctl.before, *FRONTEND, "dockerfile=."], cwd=context, stderr=subprocess.DEVNULL
    )
    eventually(lambda: bool(sleeping(seconds)), "the step runs")
    building.send_signal(signal.SIGINT)
    assert building.wait(60) != 0
    eventually(lambda: not sleeping(seconds), "the step is gone")
