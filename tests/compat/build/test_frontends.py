"""Frontends that are images, made with BuildKit's own library, and containers beside builds."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.go_clients import GoClient, go_program
from tests.support.tools import eventually

pytestmark = pytest.mark.root

BUILD = ("build", "--progress", "plain")


def running() -> list[str]:
    """Return the processes of frontends that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path.parent.name] if path.read_bytes().startswith(b"/frontend\0") else []
        except OSError:  # it has just ended
            continue
    return found


def write(context: Path, *lines: str) -> None:
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")


def test_a_syntax_directive_leads_to_another_frontend(
    buildx: GoClient, docker: DockerClient, image: str, frontend: str, context: Path
) -> None:
    write(
        context,
        f"# syntax={frontend} and more",
        f"from {image}",
        "file /greeting hello",
        "run cat /greeting > /said",
        "options /options",
        "container cat /greeting; echo $OWN",
        "say something on stderr",
    )
    built = buildx(*BUILD, "--build-arg", "A=b", "-o", "type=image", "-t", "lines:1", ".", cwd=context)
    assert "[line] cat /greeting > /said" in built.stderr
    assert "something on stderr" in built.stderr
    shown = docker("run", "--rm", "--network", "none", "lines:1", "cat", "/said", "/container", "/options").stdout
    assert shown.startswith("hellohelloyes\n1 workers\nbuildkit\n")
    assert "\nbuild-arg:A=b\n" in shown
    assert f"\ncmdline={frontend} and more\n" in shown
    assert f"\nsource={frontend}\n" in shown
    docker("rmi", "lines:1")


def test_a_client_names_the_frontend(
    buildctl: GoClient, buildx: GoClient, image: str, frontend: str, context: Path
) -> None:
    write(context, f"from {image}", "file /kept by name")
    buildctl(
        "build", "--frontend", "gateway.v0", "--opt", f"source={frontend}", "--opt", "unknown=to others", "--local",
        "dockerfile=.", "--output", "type=local,dest=out", cwd=context,
    )  # fmt: skip
    assert (context / "out/kept").read_text() == "by name"
    write(context, "file /kept by argument")
    buildx(*BUILD, "--build-arg", f"BUILDKIT_SYNTAX={frontend}", "-o", "other", ".", cwd=context)
    assert (context / "other/kept").read_text() == "by argument"


def test_a_frontend_uses_the_built_in_one(buildx: GoClient, frontend: str, context: Path) -> None:
    write(context, f"# syntax={frontend}", "dockerfile plain")
    (context / "plain").write_text("FROM scratch\nCOPY plain /\n")
    buildx(*BUILD, "-o", "out", ".", cwd=context)
    assert (context / "out/plain").exists()


def test_a_file_in_another_language_names_its_frontend(buildx: GoClient, frontend: str, context: Path) -> None:
    write(context, f"// syntax={frontend}", "file /kept yes")
    buildx(*BUILD, "-o", "out", ".", cwd=context)
    assert (context / "out/kept").read_text() == "yes"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fail it is too hot", "it is too hot"),
        ("exit 3", 'process "/frontend" did not complete successfully: exit code: 3'),
        ("exit 0", "no result for incomplete build"),
        ("from localhost:1/none", "localhost:1/none"),
        ("itself", "frontends at work at most"),
    ],
)
def test_what_a_frontend_ends_with_is_told(
    buildx: GoClient, engine: Engine, frontend: str, context: Path, line: str, said: str
) -> None:
    write(context, f"# syntax={frontend}", line)
    failed = buildx.fails(*BUILD, ".", cwd=context)
    assert failed.code != 0
    assert said in failed.stderr
    eventually(lambda: not running(), "no frontend is left")


def test_a_frontend_that_is_not_there_or_runs_nothing(buildx: GoClient, image: str, context: Path) -> None:
    write(context, "# syntax=localhost:1/none", "x")
    failed = buildx.fails(*BUILD, ".", cwd=context)
    assert "   1 | >>> # syntax=localhost:1/none" in failed.stderr
    write(context, f"# syntax={image}", "x")
    failed = buildx.fails(*BUILD, ".", cwd=context)
    assert '"/run": ' in failed.stderr or "exec /run" in failed.stderr
    write(context, f"# syntax={image}", "x")
    contexts = buildx.fails(*BUILD, "--build-context", "a=.", ".", cwd=context)
    assert "unsupported frontend capability moby.buildkit.frontend.contexts" in contexts.stderr


def test_a_client_that_is_interrupted_ends_its_frontend(buildx: GoClient, frontend: str, context: Path) -> None:
    write(context, f"# syntax={frontend}", "wait")
    with subprocess.Popen(
        [buildx.program, *BUILD, "."], cwd=context, stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "HOME": str(buildx.home), "DOCKER_CONFIG": str(buildx.home),
             "BUILDX_CONFIG": str(buildx.home / "buildx")},
    ) as building:  # fmt: skip
        eventually(lambda: bool(running()), "the frontend runs")
        building.terminate()
        assert building.wait(60) != 0
    eventually(lambda: not running(), "the frontend is gone")


def test_a_client_has_containers_beside_its_build(engine: Engine, image: str) -> None:
    done = subprocess.run(
        [go_program("frontend"), f"unix://{engine.layout.socket('buildd')}", image],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert json.loads(lines["shared"].removesuffix(" <nil>")) == "probe\n/bin/sleep 3600 "
    assert lines["seen"] == '"kept\\nyes\\n" exit 7'
    assert lines["stdin"] == '"typed" <nil>'
    assert lines["missing"].startswith('"exec failed: unable to start container process: exec: ')
    assert lines["missing"].endswith('no such file or directory\\n" exit code: 255')
    assert lines["signalled"] == '"" <nil>'
    assert lines["first"] == '"" exit 137'
    assert "network.host is not allowed" in lines["host"]
    assert lines["file"] == '"written\\n" <nil>'
    assert lines["directory"] == '"file link" <nil>'
    assert lines["size"] == '"8" <nil>'
    assert "no such file or directory" in lines["no file"]
    assert "mountable 1 not found" in lines["no files"]
    assert "mount index 7 is out of bounds" in lines["no mount"]
    assert "can't open '/made'" in lines["before"]
    assert "first" in lines["before"]
    assert "more" not in lines["before"]
    assert lines["after"] == '"half\\nmore\\nfirst\\n" <nil>'
