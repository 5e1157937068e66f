"""What cannot be built: BuildKit's words, the line of the Dockerfile, an exit code, and nothing half-made left."""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.footprint import footprint
from tests.support.go_clients import GoClient, go_program
from tests.support.tools import eventually

pytestmark = pytest.mark.root


@dataclass(frozen=True, slots=True)
class Bad:
    """A Dockerfile that cannot be built. BASE stands for an image that is there."""

    text: str
    line: str  # the one that is to blame, as clients show it; empty: none
    words: str  # of BuildKit's at the end
    classic: str | None = None  # of the first builder's, if they are others
    code: int = 1  # of the docker command without buildx
    old: bool = True  # dockerd 20.10's first builder says the same


_AT = "dockerfile parse error on line"
BAD = {
    "empty": Bad("", "", "the Dockerfile cannot be empty", old=False),
    "binary": Bad("\x01\x00\x02\xff\n\x00", "", "unknown instruction: \x01\x00\x02", "unknown instruction: ",
                  old=False),
    "unknown instruction": Bad("FROM BASE\n\nFRUIT a\n", "3 | >>> FRUIT a", f"{_AT} 3: unknown instruction: FRUIT",
                               "unknown instruction: FRUIT"),
    "unknown flag": Bad("FROM BASE\nCOPY --frob=1 a b\n", "2 | >>> COPY --frob=1 a b",
                        f"{_AT} 2: unknown flag: --frob (did you mean from?)", old=False),
    "circular stages": Bad("FROM BASE AS a\nCOPY --from=b / /\nFROM BASE AS b\nCOPY --from=a / /\n",
                           "4 | >>> COPY --from=a / /", "circular dependency detected on stage: a", old=False),
    "missing stage": Bad("FROM BASE\nCOPY --from=7 / /\n", "2 | >>> COPY --from=7 / /", "invalid stage index 7",
                         old=False),
    "missing image": Bad("FROM BASE\nCOPY --from=127.0.0.1:1/a:1 / /\n", "2 | >>> COPY --from=127.0.0.1:1/a:1 / /",
                         "failed to resolve source metadata for 127.0.0.1:1/a:1: "
                         'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
                         'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'),
    "outside": Bad("FROM BASE\nCOPY ../x /\n", "2 | >>> COPY ../x /",
                   'failed to calculate checksum of ref directory: "/x": not found',
                   "COPY failed: forbidden path outside the build context: ../x ()"),
    "missing file": Bad("FROM BASE\nCOPY x /\n", "2 | >>> COPY x /",
                        'failed to calculate checksum of ref directory: "/x": not found',
                        "COPY failed: file not found in build context or excluded by .dockerignore: stat x: file does"
                        " not exist"),
    "download": Bad("FROM BASE\nADD http://127.0.0.1:9/x /\n", "2 | >>> ADD http://127.0.0.1:9/x /",
                    'Get "http://127.0.0.1:9/x": dial tcp 127.0.0.1:9: connect: connection refused',
                    'ADD failed: Get "http://127.0.0.1:9/x": dial tcp 127.0.0.1:9: connect: connection refused'),
    "exit code": Bad("FROM BASE\nRUN exit 7\n", "2 | >>> RUN exit 7",
                     'process "/bin/sh -c exit 7" did not complete successfully: exit code: 7',
                     "The command '/bin/sh -c exit 7' returned a non-zero code: 7", code=7),
    "killed": Bad("FROM BASE\nRUN sh -c 'kill -9 $$' || exit $?\n", "2 | >>> RUN sh",
                  "did not complete successfully: exit code: 137", "returned a non-zero code: 137", code=137),
    "no command": Bad('FROM BASE\nRUN ["/none"]\n', '2 | >>> RUN ["/none"]',
                      'unable to start container process: exec: "/none": stat /none: no such file or directory'),
    "no user": Bad("FROM BASE\nUSER none\nRUN true\n", "3 | >>> RUN true",
                   'process "/bin/sh -c true" did not complete successfully: unable to find user none: no matching '
                   "entries in passwd file", "unable to find user none: no matching entries in passwd file"),
    "no secret": Bad("FROM BASE\nRUN --mount=type=secret,id=s,required true\n", "2 | >>> RUN --mount",
                     "secret s: not found", old=False),
    "no agent": Bad("FROM BASE\nRUN --mount=type=ssh,required true\n", "2 | >>> RUN --mount",
                    "unset ssh forward key default", old=False),
    "not granted": Bad("FROM BASE\nRUN --security=insecure true\n", "2 | >>> RUN --security",
                       "security.insecure is not allowed", old=False),
    "unset": Bad("FROM BASE\nENV A=${B:?oops}\n", "2 | >>> ENV A=", 'failed to process "${B:?oops}": B: oops'),
    "port": Bad("FROM BASE\nEXPOSE 99999\n", "2 | >>> EXPOSE 99999", "invalid containerPort: 99999", old=False),
    "duration": Bad("FROM BASE\nHEALTHCHECK --interval=1x CMD true\n", "2 | >>> HEALTHCHECK",
                    f'{_AT} 2: time: unknown unit "x" in duration "1x"', 'time: unknown unit "x" in duration "1x"'),
    "here-document": Bad("FROM BASE\nRUN <<EOF\ntrue\n", "2 | >>> RUN <<EOF", "unterminated heredoc", old=False),
    "trigger": Bad("FROM BASE\nONBUILD FROM x\n", "2 | >>> ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
    "no stage": Bad("RUN true\nFROM BASE\n", "1 | >>> RUN true", "no build stage in current context"),
    "stage name": Bad("FROM BASE AS 1x\n", "1 | >>> FROM BASE AS 1x", 'invalid name for build stage: "1x"'),
}  # fmt: skip


@pytest.fixture(params=BAD)
def bad(request: pytest.FixtureRequest) -> Bad:
    found: Bad = BAD[request.param]
    return found


def test_buildx_shows_the_words_and_the_line(
    engine: Engine, context: Path, tmp_path: Path, image: str, bad: Bad
) -> None:
    (context / "Dockerfile").write_bytes(bad.text.replace("BASE", image).encode("latin-1"))
    before = footprint(engine.layout)
    client = GoClient(go_program("buildx"), tmp_path)
    build = ("build", "--progress", "plain", "--no-cache", ".")
    failed = client.fails(*build, cwd=context, env={"DOCKER_HOST": engine.host})
    said = failed.stdout + failed.stderr
    assert failed.code == 1
    assert "ERROR: failed to build: failed to solve: " in said
    assert bad.words in said
    assert bad.line.replace("BASE", image) in said
    eventually(lambda: footprint(engine.layout) == before, "nothing of the build is left")


def test_the_first_builder_says_it_in_its_own(docker: DockerClient, context: Path, image: str, bad: Bad) -> None:
    if TARGET and not bad.old:
        pytest.skip("dockerd 20.10 knows no such thing, or says it otherwise")
    (context / "Dockerfile").write_bytes(bad.text.replace("BASE", image).encode("latin-1"))
    failed = docker.fails("build", "--no-cache", str(context))
    assert failed.code == bad.code
    assert (bad.words if bad.classic is None else bad.classic) in failed.stdout + failed.stderr
    if not TARGET:  # dockerd makes an image of each step, and leaves it
        assert not docker("images", "--quiet", "--filter", "dangling=true").stdout


def test_a_tar_stays_where_it_is_unpacked(docker: DockerClient, context: Path, image: str) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in ("good", "../up", "a/../../../etc/far", "/absolute"):
            tar.addfile(tarfile.TarInfo(name))
    (context / "some.tar").write_bytes(made.getvalue())
    (context / "Dockerfile").write_text(f"FROM {image}\nADD some.tar /t/\nCMD find /t -type f | sort; ls /etc /up\n")
    built = docker("build", "-q", str(context)).line
    shown = docker.fails("run", "--rm", "--network", "none", built)
    assert shown.lines[:4] == ["/t/absolute", "/t/etc/far", "/t/good", "/t/up"]
    assert "far" not in shown.lines[4:]
    assert "/up: No such file" in shown.stderr
