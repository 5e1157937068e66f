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
