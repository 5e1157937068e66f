"""Source policies, as ``buildx`` sends them, and what they may want to know of a source."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.go_clients import GoClient, go_program
from tests.support.images import push_blob, push_manifest, sha256
from tests.support.private_registry import content_store, private_registry
from tests.support.registry import Registry

pytestmark = pytest.mark.root

BUILD = ("build", "--progress", "plain")


def write(context: Path, dockerfile: str, *rules: object) -> dict[str, str]:
    """Write what is built, and a policy; return the variable that names it."""
    (context / "Dockerfile").write_text(dockerfile)
    policy = context.parent / "policy.json"
    policy.write_text(json.dumps({"rules": rules}))
    return {"EXPERIMENTAL_BUILDKIT_SOURCE_POLICY": str(policy)}


def test_a_source_that_is_denied_is_not_used(buildx: GoClient, image: str, context: Path) -> None:
    rule = {"action": "DENY", "selector": {"identifier": f"docker-image://{image}"}}
    env = write(context, f"FROM {image}\nRUN true\n", rule)
    said = buildx.fails(*BUILD, ".", cwd=context, env=env).stderr
    assert f'source "docker-image://{image}" denied by policy' in said
    allow = {"action": "ALLOW", "selector": {"identifier": "docker-image://*"}}
    buildx(*BUILD, ".", cwd=context, env=write(context, f"FROM {image}\nRUN true\n", rule, allow))


def test_a_policy_of_the_client_decides_on_each_source(buildx: GoClient, image: str, context: Path) -> None:
    repository, _, tag = image.rpartition(":")
    (context / "Dockerfile").write_text(f"FROM {image}\nRUN true\n")
    (context / "Dockerfile.rego").write_text(
        f"""package docker

default allow := false

allow if input.local

allow if {{
    input.image.fullRepo == "{repository}"
    input.image.labels["probe"] == "good"
}}

deny_msg contains "it has no label" if {{
    input.image
    not input.image.labels["probe"] == "good"
}}

decision := {{"allow": allow, "deny_msg": deny_msg}}
"""
    )
    said = buildx.fails(*BUILD, ".", cwd=context)
    assert said.code == 1
    assert f'source "docker-image://{image}" not allowed by policy: action DENY' in said.stderr
    assert "it has no label" in said.stderr
    buildx(*BUILD, "--policy", "disabled=true", ".", cwd=context)
    policy = (context / "Dockerfile.rego").read_text()
    (context / "Dockerfile.rego").write_text(policy.replace('== "good"', '!= "x"').replace('labels["probe"]', "tag"))
    buildx(*BUILD, "--no-cache", ".", cwd=context)
    assert tag


def test_another_image_is_taken_instead(buildx: GoClient, image: str, registry: Registry, context: Path) -> None:
    rule = {
        "action": "CONVERT",
        "selector": {"identifier": "docker-image://docker.io/library/nowhere:*"},
        "updates": {"identifier": f"docker-image://{registry.address}/busybox:${{1}}"},
    }
    env = write(context, "FROM nowhere:1\nRUN echo it runs\n", rule)
    shown = buildx(*BUILD, "--metadata-file", "said.json", ".", cwd=context, env=env)
    assert "it runs" in shown.stderr
    materials = json.loads((context / "said.json").read_text())["buildx.build.provenance"]["materials"]
    assert [each["uri"].partition("?")[0] for each in materials] == [f"pkg:docker/{registry.address}/busybox@1"]
    assert image


OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
COSIGN = "application/vnd.dev.cosign.artifact.sig.v1+json"
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
SLSA = "https://slsa.dev/provenance/v1"


@pytest.fixture(params=["with a list of referrers", "with tags alone"])
def signing(request: pytest.FixtureRequest, registry: Registry, tmp_path: Path) -> Iterator[Registry]:
    """A registry that lists what is about a manifest, and one that does not and has a tag for it."""
    if request.param == "with tags alone":
        yield registry
    else:
        with content_store(tmp_path) as layout, private_registry(layout, tmp_path) as served:
            yield served.registry


def described(data: bytes, media_type: str, **more: object) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}


def sign(registry: Registry, repository: str, subject: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Sign a manifest as cosign does; return the signature's layer."""
    key, payload = directory / "key.pem", directory / "payload.json"
    payload.write_text(json.dumps({"critical": {"image": {"docker-manifest-digest": subject["digest"]}}}))
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
    signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key, payload], check=True, capture_output=True)
    layer = described(payload.read_bytes(), PAYLOAD)
    layer["annotations"] = {"dev.cosignproject.cosign/signature": signed.stdout.hex()}
    for blob in (payload.read_bytes(), b"{}"):
        push_blob(registry, repository, blob)
    about = {each: subject[each] for each in ("mediaType", "digest", "size")}
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": COSIGN, "subject": about,
                "config": described(b"{}", "application/vnd.oci.empty.v1+json"), "layers": [layer]}  # fmt: skip
    content = json.dumps(manifest).encode()
    push_manifest(registry, repository, sha256(content), OCI_MANIFEST, content)
    with registry.session() as session:
        listed = session.get(f"{registry.url}/v2/{repository}/referrers/{subject['digest']}", timeout=60)
    if listed.status_code == 404:  # the client's own business, says the specification
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX,
                 "manifests": [described(content, OCI_MANIFEST, artifactType=COSIGN)]}  # fmt: skip
        tag = subject["digest"].replace(":", "-")
        push_manifest(registry, repository, tag, OCI_INDEX, json.dumps(index).encode())
    return layer


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_client_is_told_who_has_signed_what_is_attested_of_an_image(
    buildx: GoClient, image: str, signing: Registry, engine: Engine, context: Path
) -> None:
    (context / "Dockerfile").write_text(f"FROM {image}\nLABEL attested=yes\n")
    name = f"{signing.address}/attested/app"
    buildx(*BUILD, "--provenance", "mode=max", "-t", f"{name}:1", "--push", ".", cwd=context)
    index = json.loads(buildx("imagetools", "inspect", "--raw", f"{name}:1", cwd=context).stdout)
    made, said = index["manifests"]

    def chain(*predicates: str) -> Any:
        address = f"unix://{engine.layout.socket('buildd')}"
        command = [str(go_program("attestations")), address, f"{name}:1", *predicates]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
        assert found["AttestationChain"]["Root"] == found["Digest"]
        return found["AttestationChain"]

    assert chain()["SignatureManifests"] == []
    layer = sign(signing, "attested/app", said, context)
    told = chain(SLSA)
    assert (told["ImageManifest"], told["AttestationManifest"]) == (made["digest"], said["digest"])
    (signature,) = told["SignatureManifests"]
    blobs = {digest: blob["Descriptor"] for digest, blob in told["Blobs"].items()}
    kinds = [each.get("annotations", {}).get("in-toto.io/predicate-type") for each in blobs.values()]
    assert kinds.count(SLSA) == 1
    assert {told["Root"], said["digest"], signature, layer["digest"]} < blobs.keys()
    assert blobs[layer["digest"]]["annotations"] == layer["annotations"]


def test_a_policy_decides_by_the_provenance_of_an_image(
    buildx: GoClient, image: str, registry: Registry, context: Path
) -> None:
    base, plain = f"{registry.address}/attested/base:1", f"{registry.address}/attested/plain:1"
    (context / "Dockerfile").write_text(f"FROM {image}\nARG WHO\nRUN echo $WHO > /who\n")
    full = ("--provenance", "mode=max", "--build-arg", "WHO=us")
    buildx(*BUILD, *full, "-t", base, "--push", ".", cwd=context)
    buildx(*BUILD, "--provenance=false", "-t", plain, "--push", ".", cwd=context)
    (context / "app.Dockerfile.rego").write_text(
        """package docker

default allow := false

allow if input.local

allow if input.image.provenance.buildArgs.WHO == "us"

deny_msg contains "nobody knows how it was made" if {
    input.image
    not input.image.hasProvenance
}

decision := {"allow": allow, "deny_msg": deny_msg}
"""
    )
    app = context / "app.Dockerfile"
    for name, allowed in ((base, True), (plain, False)):
        app.write_text(f"FROM {name}\nRUN cat /who\n")
        said = buildx.fails(*BUILD, "--no-cache", "-f", "app.Dockerfile", ".", cwd=context)
        assert (said.code == 0, "nobody knows how it was made" in said.stderr) == (allowed, not allowed), said.stderr
