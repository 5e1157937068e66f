"""What ``buildx`` has attested, and reads back: from images, archives, files and the history."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker_client import DockerClient
from tests.support.go_clients import GoClient
from tests.support.registry import Registry

pytestmark = pytest.mark.root

BUILD = ("build", "--progress", "plain")
V1 = "https://slsa.dev/provenance/v1"
V02 = "https://slsa.dev/provenance/v0.2"


def write(context: Path, dockerfile: str) -> None:
    (context / "Dockerfile").write_text(dockerfile)


def test_a_pushed_image_says_what_it_was_made_from(
    buildx: GoClient, docker: DockerClient, image: str, registry: Registry, context: Path
) -> None:
    write(context, f"FROM {image}\nARG A\nRUN --mount=type=secret,id=token echo made > /made\n")
    name = f"{registry.address}/attested:1"
    buildx(
        *BUILD, "--provenance", "mode=max", "--build-arg", "A=b", "--secret", "id=token,src=Dockerfile", "-t", name,
        "--push", "--metadata-file", "said.json", ".", cwd=context,
    )  # fmt: skip
    index = json.loads(buildx("imagetools", "inspect", "--raw", name, cwd=context).stdout)
    made, said = index["manifests"]
    assert said["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert said["annotations"] == {
        "vnd.docker.reference.digest": made["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    read = buildx("imagetools", "inspect", name, "--format", "{{json .Provenance}}", cwd=context).stdout
    predicate = json.loads(read)["SLSA"]
    request = predicate["buildDefinition"]["externalParameters"]["request"]
    assert request["args"]["build-arg:A"] == "b"
    assert request["secrets"] == [{"id": "token", "optional": True}]
    uris = [each["uri"] for each in predicate["buildDefinition"]["resolvedDependencies"]]
    assert any(uri.startswith(f"pkg:docker/{registry.address}/busybox@1") for uri in uris)
    config = predicate["buildDefinition"]["internalParameters"]["buildConfig"]
    assert any("exec" in step["op"]["Op"] for step in config["llbDefinition"] if step["op"]["Op"])
    told = json.loads((context / "said.json").read_text())
    assert told["containerimage.digest"].startswith("sha256:")
    assert told["buildx.build.provenance"]["invocation"]["parameters"]["frontend"] == "dockerfile.v0"
    docker("rmi", name)
    assert docker("run", "--rm", "--network", "none", name, "cat", "/made").stdout == "made\n"  # pulled
    docker("rmi", name)


def test_a_push_has_the_short_form_unless_none_is_wanted(
    buildx: GoClient, docker: DockerClient, image: str, registry: Registry, context: Path
) -> None:
    write(context, f"FROM {image}\nARG A\nLABEL a=b\n")
    name = f"{registry.address}/attested:2"

    def predicate() -> Any:
        read = buildx("imagetools", "inspect", name, "--format", "{{json .Provenance}}", cwd=context).stdout
        return json.loads(read).get("SLSA")

    buildx(*BUILD, "--build-arg", "A=b", "-t", name, "--push", ".", cwd=context)
    definition = predicate()["buildDefinition"]
    assert "build-arg:A" not in definition["externalParameters"]["request"].get("args", {})
    assert "buildConfig" not in definition["internalParameters"]
    buildx(*BUILD, "--attest", "type=provenance,version=v0.2", "-t", name, "--push", ".", cwd=context)
    assert predicate()["buildType"] == "https://mobyproject.org/buildkit@v1"
    buildx(*BUILD, "--provenance=false", "-t", name, "--push", ".", cwd=context)
    assert "manifests" not in json.loads(buildx("imagetools", "inspect", "--raw", name, cwd=context).stdout)
    docker("rmi", name)


def statement(data: bytes) -> Any:
    said = json.loads(data)
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    return said


def test_archives_and_files_have_it_beside_them(buildx: GoClient, context: Path) -> None:
    write(context, "FROM scratch\nCOPY Dockerfile /a/file\n")
    attested = ("--provenance=true",)
    buildx(*BUILD, *attested, "-o", "type=local,dest=out", ".", cwd=context)
    said = statement((context / "out/provenance.json").read_bytes())
    assert said["predicateType"] == V1
    assert [each["name"] for each in said["subject"]] == ["a/file"]
    assert (context / "out/a/file").read_text() == (context / "Dockerfile").read_text()

    buildx(*BUILD, *attested, "-o", "type=tar,dest=out.tar,attestation-prefix=my-", ".", cwd=context)
    with tarfile.open(context / "out.tar") as archive:
        file = archive.extractfile("my-provenance.json")
        assert file is not None
        assert statement(file.read())["subject"] == said["subject"]

    buildx(*BUILD, *attested, "-o", "type=oci,dest=out.oci", ".", cwd=context)
    with tarfile.open(context / "out.oci") as archive:

        def read(digest: str) -> Any:
            file = archive.extractfile(f"blobs/{digest.replace(':', '/')}")
            assert file is not None
            return json.loads(file.read())

        file = archive.extractfile("index.json")
        assert file is not None
        (target,) = json.loads(file.read())["manifests"]
        _, manifest = read(target["digest"])["manifests"]
        (layer,) = read(manifest["digest"])["layers"]
        assert layer["annotations"] == {"in-toto.io/predicate-type": V1}
        assert read(layer["digest"])["_type"] == "https://in-toto.io/Statement/v1"

    # By default files are what they are, and an archive is of one image.
    buildx(*BUILD, "-o", "type=local,dest=plain", ".", cwd=context)
    assert sorted(path.name for path in (context / "plain").iterdir()) == ["a"]


def test_platforms_are_attested_each(buildx: GoClient, context: Path) -> None:
    write(context, "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n")
    platforms = ("--platform", "linux/amd64,linux/arm64")
    buildx(*BUILD, "--provenance=true", *platforms, "-o", "out", "--metadata-file", "said.json", ".", cwd=context)
    for name in ("amd64", "arm64"):
        said = statement((context / f"out/linux_{name}/provenance.json").read_bytes())
        assert [each["name"] for each in said["subject"]] == [name]
        internal = said["predicate"]["buildDefinition"]["internalParameters"]
        assert internal["targetPlatform"] == f"linux/{name}"
    told = json.loads((context / "said.json").read_text())
    assert {"buildx.build.provenance/linux/amd64", "buildx.build.provenance/linux/arm64"} <= told.keys()


def test_records_have_logs_errors_and_attachments(buildx: GoClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\nRUN echo remembered\n")
    buildx(*BUILD, "--metadata-file", "said.json", "-o", "type=image", "-t", "remembered:1", ".", cwd=context)
    ref = json.loads((context / "said.json").read_text())["buildx.build.ref"].rpartition("/")[2]
    inspected = json.loads(buildx("history", "inspect", ref, "--format", "json", cwd=context).stdout)
    assert inspected["Status"] == "completed"
    types = {each["Type"] for each in inspected["Attachments"]}
    assert V1 in types
    attachment = buildx("history", "inspect", "attachment", ref, "--type", "provenance", cwd=context).stdout
    assert json.loads(attachment)["buildDefinition"]["externalParameters"]["request"]["frontend"] == "dockerfile.v0"
    logs = buildx("history", "logs", "--progress", "plain", ref, cwd=context)
    assert "remembered" in logs.stdout + logs.stderr

    write(context, f"FROM {image}\nRUN echo doomed && exit 7\n")
    buildx.fails(*BUILD, "-o", "type=image", ".", cwd=context)
    failed = buildx("history", "ls", "--filter", "status=error", "--no-trunc", cwd=context).stdout
    assert ref not in failed
    newest = failed.splitlines()[1].split()[0]
    shown = json.loads(buildx("history", "inspect", newest, "--format", "json", cwd=context).stdout)
    assert shown["Status"] == "failed"
    assert "exit code: 7" in shown["Error"]["Message"]
    assert any("doomed" in line for line in shown["Error"]["Logs"])
    assert ref in buildx("history", "ls", "--filter", "status=completed", "--no-trunc", cwd=context).stdout
    assert ref not in buildx("history", "ls", "--filter", "duration>10h", "--no-trunc", cwd=context).stdout
    buildx("history", "rm", newest, cwd=context)
    missing = buildx.fails("history", "inspect", newest, cwd=context)
    assert missing.code == 1
