"""Outputs in the forms that ``buildx`` asks for: compressions, names, times."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.docker_client import DockerClient
from tests.support.go_clients import GoClient
from tests.support.registry import Registry

pytestmark = pytest.mark.root

BUILD = ("build", "--progress", "plain", "--provenance=false")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def write(context: Path, image: str) -> None:
    (context / "Dockerfile").write_text(f"FROM {image}\nRUN echo made > /made\nCOPY Dockerfile /file\n")


def manifest(registry: Registry, repository: str, reference: str) -> Any:
    answer = requests.get(
        f"http://{registry.address}/v2/{repository}/manifests/{reference}", headers={"Accept": MANIFEST}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_layers_are_compressed_as_is_asked_for(
    buildx: GoClient, docker: DockerClient, image: str, registry: Registry, context: Path
) -> None:
    write(context, image)
    name = f"{registry.address}/formed"
    output = f"type=image,name={name}:zstd,push=true,compression=zstd,compression-level=19"
    buildx(*BUILD, "-o", output, ".", cwd=context)
    base, *own = [layer["mediaType"] for layer in manifest(registry, "formed", "zstd")["layers"]]
    assert base.endswith("gzip")  # the base image's own stay as they are
    assert own == ["application/vnd.oci.image.layer.v1.tar+zstd"] * 2
    output = f"type=image,name={name}:plain,push=true,compression=uncompressed,force-compression=true"
    buildx(*BUILD, "-o", output, ".", cwd=context)
    layers = manifest(registry, "formed", "plain")["layers"]
    assert [layer["mediaType"] for layer in layers] == ["application/vnd.oci.image.layer.v1.tar"] * 3
    for tag in ("zstd", "plain"):
        docker("rmi", f"{name}:{tag}")
        assert docker("run", "--rm", "--network", "none", f"{name}:{tag}", "cat", "/made").stdout == "made\n"
        docker("rmi", f"{name}:{tag}")


def test_an_image_is_pushed_without_a_tag_or_a_place_here(
    buildx: GoClient, docker: DockerClient, image: str, registry: Registry, context: Path
) -> None:
    write(context, image)
    name = f"{registry.address}/nameless"
    output = f"type=image,name={name},push=true,push-by-digest=true"
    buildx(*BUILD, "-o", output, "--metadata-file", "said.json", ".", cwd=context)
    digest = json.loads((context / "said.json").read_text())["containerimage.digest"]
    assert manifest(registry, "nameless", digest)["layers"]
    tags = requests.get(f"http://{registry.address}/v2/nameless/tags/list", timeout=60)
    assert not tags.json().get("tags")
    docker("rmi", f"{name}@{digest}")

    buildx(*BUILD, "-o", f"type=image,name={registry.address}/passing:1,push=true,store=false", ".", cwd=context)
    assert manifest(registry, "passing", "1")["layers"]
    assert "passing" not in docker("images").stdout


def test_the_same_build_is_the_same_bytes(buildx: GoClient, image: str, context: Path) -> None:
    write(context, image)
    digests = set()
    for number in range(2):
        (context / "Dockerfile").touch()
        output = f"type=oci,dest={number}.tar,rewrite-timestamp=true"
        buildx(*BUILD, "--no-cache", "-o", output, ".", cwd=context, env={"SOURCE_DATE_EPOCH": "1000000000"})
        with tarfile.open(context / f"{number}.tar") as archive:
            index = archive.extractfile("index.json")
            assert index is not None
            digests.add(json.loads(index.read())["manifests"][0]["digest"])
        (context / f"{number}.tar").unlink()
    assert len(digests) == 1


def test_a_cache_is_compressed_as_is_asked_for(buildx: GoClient, image: str, context: Path) -> None:
    write(context, image)
    buildx(*BUILD, "--cache-to", "type=local,dest=cache,mode=max,compression=zstd", ".", cwd=context)
    buildx("prune", "--all", "--force", cwd=context)
    assert " CACHED" in buildx(*BUILD, "--cache-from", "type=local,src=cache", ".", cwd=context).stderr
    blobs = [path.read_bytes() for path in (context / "cache/blobs/sha256").iterdir()]
    assert any(blob.startswith(b"\x28\xb5\x2f\xfd") for blob in blobs)
