"""``buildx``, unmodified, against the builder: it drives its builds through the gateway."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker_client import DockerClient
from tests.support.go_clients import GoClient

pytestmark = pytest.mark.root

BUILD = ("build", "--progress", "plain")


def write(context: Path, dockerfile: str, **files: str) -> None:
    (context / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (context / name).write_text(text)


def test_the_builder_is_inspected(buildx: GoClient, context: Path) -> None:
    shown = buildx("inspect", "sampan", cwd=context).stdout
    assert "running" in shown
    assert "org.mobyproject.buildkit.worker.snapshotter" in shown


def test_stages_run_and_become_an_image(buildx: GoClient, docker: DockerClient, image: str, context: Path) -> None:
    write(
        context,
        f"FROM {image} AS one\nRUN echo one > /one\nFROM {image} AS unused\nRUN false\n"
        f"FROM {image}\nARG WHO=nobody\nCOPY --from=one /one /one\nRUN echo $WHO >> /one\nCMD cat /one\n",
    )
    shown = buildx(*BUILD, "--build-arg", "WHO=me", "-o", "type=image", "-t", "buildx-app:1", ".", cwd=context).stderr
    assert "unused" not in shown
    assert docker("run", "--rm", "--network", "none", "buildx-app:1").stdout == "one\nme\n"
    docker("rmi", "buildx-app:1")


def test_the_lines_of_a_step_that_fails_are_shown(buildx: GoClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\n\nRUN echo before && \\\n    exit 7\nRUN never\n")
    result = buildx.fails(*BUILD, ".", cwd=context)
    assert result.code == 1
    assert "   3 | >>> RUN echo before && \\\n   4 | >>>     exit 7\n" in result.stderr
    assert "did not complete successfully: exit code: 7" in result.stderr.splitlines()[-1]
    assert "failed to solve: process " in result.stderr


@pytest.mark.parametrize(
    ("dockerfile", "shown", "said"),
    [
        (
            "FROM scratch\nFRUIT apple\n",
            "   2 | >>> FRUIT apple",
            "dockerfile parse error on line 2: unknown instruction",
        ),
        ("FROM scratch\nCOPY nothing /\n", "   2 | >>> COPY nothing /", '"/nothing": not found'),
        ("FROM localhost:1/none\n", "   1 | >>> FROM localhost:1/none", "failed to resolve source metadata"),
    ],
)
def test_the_lines_that_cannot_be_built_are_shown(
    buildx: GoClient, context: Path, dockerfile: str, shown: str, said: str
) -> None:
    write(context, dockerfile)
    result = buildx.fails(*BUILD, ".", cwd=context)
    assert result.code == 1
    assert shown in result.stderr
    assert said in result.stderr


def test_a_result_goes_to_the_client_s_directory(buildx: GoClient, context: Path) -> None:
    write(context, "FROM scratch\nCOPY kept /\n", kept="as it is")
    buildx(*BUILD, "-o", "out", ".", cwd=context)
    assert (context / "out/kept").read_text() == "as it is"


def test_the_ids_and_metadata_of_a_build_are_written(
    buildx: GoClient, docker: DockerClient, image: str, context: Path
) -> None:
    write(context, f"FROM {image}\nLABEL a=b\n")
    buildx(
        *BUILD, "-o", "type=image", "-t", "metadata:1", "--iidfile", "iid", "--metadata-file", "said.json", ".",
        cwd=context,
    )  # fmt: skip
    said = json.loads((context / "said.json").read_text())
    inspected = json.loads(docker("image", "inspect", "metadata:1").stdout)[0]
    assert said["containerimage.config.digest"] == inspected["Id"]
    assert (context / "iid").read_text().startswith("sha256:")
    assert "buildx.build.ref" in said
    docker("rmi", "metadata:1")


def test_a_dockerfile_is_checked_and_described(buildx: GoClient, context: Path) -> None:
    write(context, "FROM scratch AS app\ncopy a /\n", a="")
    checked = buildx.fails("build", "--check", ".", cwd=context)
    assert checked.code == 1  # as a linter
    assert "ConsistentInstructionCasing" in checked.stdout
    assert "app (default)" in buildx("build", "--call", "targets", ".", cwd=context).stdout
    outline = json.loads(buildx("build", "--call", "outline,format=json", ".", cwd=context).stdout)
    assert outline["name"] == "app"


def test_a_target_of_bake_is_another_one_s_context(
    buildx: GoClient, docker: DockerClient, image: str, context: Path
) -> None:
    (context / "docker-bake.json").write_text(
        json.dumps(
            {
                "group": {"default": {"targets": ["app"]}},
                "target": {
                    "base": {"dockerfile-inline": f"FROM {image}\nRUN echo base > /base\nENV FROM_BASE=1\n"},
                    "app": {
                        "dockerfile-inline": "FROM base\nRUN echo $FROM_BASE >> /base\nCMD cat /base\n",
                        "contexts": {"base": "target:base"},
                        "tags": ["baked:1"],
                        "output": ["type=image"],
                    },
                },
            }
        )
    )
    buildx("bake", "--progress", "plain", cwd=context)
    assert docker("run", "--rm", "--network", "none", "baked:1").stdout == "base\n1\n"
    docker("rmi", "baked:1")


def platforms_in(layout: tarfile.TarFile) -> set[str]:
    """Return the architectures of the one image in an OCI layout."""

    def document(name: str) -> dict[str, list[dict[str, Any]]]:
        file = layout.extractfile(name)
        assert file is not None
        found: dict[str, list[dict[str, Any]]] = json.load(file)
        return found

    (image,) = document("index.json")["manifests"]
    index = document(f"blobs/sha256/{image['digest'].partition(':')[2]}")
    return {each["platform"]["architecture"] for each in index["manifests"]} - {"unknown"}


def test_two_platforms_become_files_and_an_archive_that_is_loaded(
    buildx: GoClient, docker: DockerClient, context: Path
) -> None:
    write(context, "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n", amd64="a", arm64="b")
    platforms = ("--platform", "linux/amd64,linux/arm64")
    buildx(*BUILD, *platforms, "-o", "out", ".", cwd=context)
    assert (context / "out/linux_amd64/arch").read_text() == "a"
    assert (context / "out/linux_arm64/arch").read_text() == "b"
    buildx(*BUILD, *platforms, "-t", "both:1", "-o", "type=oci,dest=both.tar", ".", cwd=context)
    docker("load", "--input", str(context / "both.tar"))
    assert docker("image", "inspect", "--format", "{{.Architecture}}", "both:1").line == "amd64"
    docker("save", "--output", str(context / "saved.tar"), "both:1")
    with tarfile.open(context / "saved.tar") as saved:
        assert platforms_in(saved) == {"amd64", "arm64"}
    docker("rmi", "both:1")


def test_disk_use_is_shown(buildx: GoClient, context: Path) -> None:
    assert "Total:" in buildx("du", cwd=context).stdout


def test_a_build_is_in_the_history_with_its_log(buildx: GoClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\nRUN echo in the history\n")
    buildx(*BUILD, "--metadata-file", "said.json", ".", cwd=context)
    ref = json.loads((context / "said.json").read_text())["buildx.build.ref"].rpartition("/")[2]
    assert ref in buildx("history", "ls", "--no-trunc", cwd=context).stdout
    logs = buildx("history", "logs", "--progress", "plain", ref, cwd=context)
    assert "in the history" in logs.stdout + logs.stderr
    buildx("history", "rm", ref, cwd=context)
    assert ref not in buildx("history", "ls", "--no-trunc", cwd=context).stdout
