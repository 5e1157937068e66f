"""Source policies, as ``buildx`` sends them."""

import json
from pathlib import Path

import pytest

from tests.support.go_clients import GoClient
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
