"""Bills of materials, made by a generator's image, and what frontends attest."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.go_clients import GoClient
from tests.support.images import Image, push
from tests.support.registry import Registry
from tests.support.trees import busybox_image

pytestmark = pytest.mark.root

BUILD = ("build", "--progress", "plain")
SPDX = "https://spdx.dev/Document"

# Names what it finds: the files at the top of what it is to look at, and its parameters.
SCRIPT = r"""
say() {
    files=$(ls "$2" | while read -r name; do printf '"%s",' "$name"; done)
    head='{"_type":"x","predicateType":"https://spdx.dev/Document","predicate":{"files":['
    printf '%s%s"."],"depth":"%s","env":"%s"}}' "$head" \
        "$files" "$BUILDKIT_SCAN_DEPTH" "$OF_THE_IMAGE" > "$BUILDKIT_SCAN_DESTINATION/$1.spdx.json"
}
[ -d /tmp ] && : > /tmp/used
say "$(basename "$BUILDKIT_SCAN_SOURCE")" "$BUILDKIT_SCAN_SOURCE"
[ -z "$BUILDKIT_SCAN_SOURCE_EXTRAS" ] || for each in "$BUILDKIT_SCAN_SOURCE_EXTRAS"/*; do
    say "$(basename "$each")" "$each"
done
"""


def generator_of(registry: Registry, name: str, script: str) -> str:
    config = {"Entrypoint": ["/bin/sh", "-c"], "Cmd": [script], "Env": ["PATH=/bin", "OF_THE_IMAGE=yes"]}
    push(registry, name, "1", Image(busybox_image().layers, config))
    return f"{registry.address}/{name}:1"


@pytest.fixture(scope="session")
def generator(registry: Registry) -> str:
    """An image that makes bills of materials."""
    return generator_of(registry, "generator", SCRIPT)


def write(context: Path, dockerfile: str, **files: str) -> None:
    (context / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (context / name).write_text(text)


def statement(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_generator_looks_at_the_result_and_beside_it(buildx: GoClient, generator: str, context: Path) -> None:
    write(
        context,
        "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nFROM scratch AS tools\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY a /tool\n"
        "FROM scratch\nCOPY --from=tools /tool /copied\nCOPY b /own\n",
        a="a", b="b", unused="c",
    )  # fmt: skip
    attest = f"type=sbom,generator={generator},DEPTH=2"
    shown = buildx(*BUILD, "--attest", attest, "--provenance=false", "-o", "out", ".", cwd=context).stderr
    assert f"generating sbom using {generator}" in shown
    core = statement(context / "out/sbom.spdx.json")
    assert core["predicateType"] == SPDX
    assert core["predicate"] == {"files": ["copied", "own", "."], "depth": "2", "env": "yes"}
    assert [each["name"] for each in core["subject"]] == ["copied", "own"]
    assert statement(context / "out/sbom-tools.spdx.json")["predicate"]["files"] == ["tool", "."]
    assert statement(context / "out/sbom-context.spdx.json")["predicate"]["files"] == ["a", "b", "."]
    again = buildx(*BUILD, "--attest", attest, "--provenance=false", "-o", "out", ".", cwd=context).stderr
    number = next(line.split()[0] for line in again.splitlines() if "generating sbom" in line)
    assert f"{number} CACHED" in again


def test_it_is_beside_the_image_in_a_registry(
    buildx: GoClient, registry: Registry, generator: str, context: Path
) -> None:
    write(context, "FROM scratch\nCOPY a /\n", a="a")
    name = f"{registry.address}/with-sbom:1"
    buildx(*BUILD, f"--sbom=generator={generator}", "--provenance=mode=min", "-t", name, "--push", ".", cwd=context)
    shown = buildx("imagetools", "inspect", name, "--format", "{{json .SBOM}}", cwd=context).stdout
    assert json.loads(shown)["SPDX"]["files"] == ["a", "."]
    shown = buildx("imagetools", "inspect", name, "--format", "{{json .Provenance}}", cwd=context).stdout
    assert json.loads(shown)["SLSA"]


def test_each_platform_has_its_own(buildx: GoClient, generator: str, context: Path) -> None:
    write(context, "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /\n", amd64="a", arm64="b")
    platforms = "linux/amd64,linux/arm64"
    buildx(
        *BUILD, "--platform", platforms, "--attest", f"type=sbom,generator={generator}", "-o", "out", ".", cwd=context
    )
    for name in ("amd64", "arm64"):
        assert statement(context / f"out/linux_{name}/sbom.spdx.json")["predicate"]["files"] == [name, "."]


def test_a_client_without_a_driver_of_its_own(buildctl: GoClient, generator: str, context: Path) -> None:
    write(context, "FROM scratch\nCOPY a /\n", a="a")
    buildctl(
        "build", "--frontend", "dockerfile.v0", "--local", "context=.", "--local", "dockerfile=.", "--opt",
        f"attest:sbom=generator={generator}", "--output", "type=local,dest=out", cwd=context,
    )  # fmt: skip
    assert statement(context / "out/sbom.spdx.json")["predicate"]["files"] == ["a", "."]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "exit code: 3"),
        ("echo nothing > $BUILDKIT_SCAN_DESTINATION/x.json", "statement x.json"),
        ("echo '{}' > $BUILDKIT_SCAN_DESTINATION/x.json", "x.json is no statement of in-toto"),
        ("ln -s /etc/passwd $BUILDKIT_SCAN_DESTINATION/x.json", "statement x.json is no file"),
        (
            'echo \'{"predicateType":"https://slsa.dev/provenance/v1","predicate":{}}\' > $BUILDKIT_SCAN_DESTINATION/x',
            "frontend may not set provenance attestations",
        ),
    ],
)
def test_a_generator_that_fails_fails_the_build(
    buildx: GoClient, registry: Registry, context: Path, script: str, said: str
) -> None:
    write(context, "FROM scratch\nCOPY a /\n", a="a")
    bad = generator_of(registry, "bad-generator", script)
    failed = buildx.fails(*BUILD, "--no-cache", "--pull", f"--sbom=generator={bad}", "-o", "out", ".", cwd=context)
    assert failed.code == 1
    assert said in failed.stderr


def test_a_generator_that_is_not_there_is_named(buildx: GoClient, context: Path) -> None:
    write(context, "FROM scratch\nCOPY a /\n", a="a")
    failed = buildx.fails(*BUILD, "--sbom=generator=localhost:1/none", "-o", "out", ".", cwd=context)
    assert "SBOM generator localhost:1/none cannot be had" in failed.stderr
    failed = buildx.fails(*BUILD, "--sbom=generator=A//b", "-o", "out", ".", cwd=context)
    assert "A//b" in failed.stderr


def test_what_a_frontend_attests_is_told(buildx: GoClient, frontend: str, context: Path) -> None:
    write(context, f'# syntax={frontend}\nfile /made x\nattest https://example.com/v1 {{"by":"hand"}}\n')
    buildx(*BUILD, "-o", "out", ".", cwd=context)
    said = statement(context / "out/said.json")
    assert (said["predicateType"], said["predicate"]) == ("https://example.com/v1", {"by": "hand"})
    assert [each["name"] for each in said["subject"]] == ["made"]
