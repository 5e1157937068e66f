"""What clients ask instead of building: ``--check`` and ``--call``."""

import json
from typing import Any

import pytest

from sampan.dockerfile.source import DockerfileError, Lines
from sampan.errors import UnimplementedError
from tests.unit.buildd.frontend.building import build

_TEXT = """# VERSION which one
ARG VERSION=latest
ARG UNUSED=1
# base is where it begins
FROM alpine:$VERSION AS base
# MODE how
ARG MODE=fast
RUN --mount=type=secret,id=tok,required --mount=type=ssh --mount=type=cache,target=/c x
# final what is shipped
FROM --platform=$BUILDPLATFORM base AS final
"""


def ask(request: str, text: str = _TEXT, **attributes: str) -> tuple[Any, str, bytes]:
    metadata = build(text, {"requestid": request, "platform": "", **attributes}).result.metadata
    return json.loads(metadata["result.json"]), metadata["result.txt"].decode(), metadata.get("result.statuscode", b"")


def at(first: int, last: int | None = None) -> dict[str, object]:
    return {"ranges": [{"start": {"line": first}, "end": {"line": last or first}}]}


def test_describe_names_every_request() -> None:
    document, text, _ = ask("frontend.subrequests.describe")
    assert [each["name"] for each in document] == [
        "frontend.outline",
        "frontend.targets",
        "frontend.lint",
        "frontend.subrequests.describe",
    ]
    assert text.splitlines()[0].split() == ["NAME", "VERSION", "DESCRIPTION"]


def test_targets_are_the_stages_as_they_are_written() -> None:
    document, text, _ = ask("frontend.targets")
    assert document["targets"] == [
        {"name": "base", "description": "is where it begins", "base": "alpine:$VERSION", "location": at(5)},
        {
            "name": "final",
            "default": True,
            "description": "what is shipped",
            "base": "base",
            "platform": "$BUILDPLATFORM",
            "location": at(10),
        },
    ]
    assert text == (
        "TARGET            DESCRIPTION\nbase              is where it begins\nfinal (default)   what is shipped\n"
    )


def test_an_outline_has_what_the_target_takes() -> None:
    document, text, _ = ask("frontend.outline")
    assert (document["name"], document["description"]) == ("final", "what is shipped")
    assert document["args"] == [
        {"name": "VERSION", "description": "which one", "value": "latest", "location": at(2)},
        {"name": "MODE", "description": "how", "value": "fast", "location": at(7)},
    ]
    assert document["secrets"] == [{"name": "tok", "required": True, "location": at(8)}]
    assert document["ssh"] == [{"name": "default", "location": at(8)}]
    assert document["cache"] == [{"ID": "/c", "location": at(8)}]
    assert "TARGET:        final\n" in text
    assert "tok      true\n" in text


def test_lint_goes_through_all_stages() -> None:
    text = "FROM alpine AS unused\nENV a b\nFROM alpine\nMAINTAINER me\n"
    document, shown, status = ask("frontend.lint", text)
    assert [each["ruleName"] for each in document["warnings"]] == ["MaintainerDeprecated", "LegacyKeyValueFormat"]
    assert document["warnings"][1]["location"] == at(2)
    assert document["sources"][0]["filename"] == "Dockerfile"
    assert status == b"1"
    assert (
        "Dockerfile:2\n"
        "--------------------\n"
        "   1 |     FROM alpine AS unused\n"
        "   2 | >>> ENV a b\n"
        "   3 |     FROM alpine\n"
        "   4 |     MAINTAINER me\n"
        "--------------------\n"
    ) in shown


def test_lint_tells_why_a_dockerfile_cannot_be_built() -> None:
    document, _, status = ask("frontend.lint", "FROM alpine\nRUNN x\n")
    assert document["buildError"] == {
        "message": "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
        "location": at(2),
    }
    assert status == b"1"


def test_lint_of_a_clean_file_is_empty() -> None:
    document, text, status = ask("frontend.lint", "FROM alpine\nRUN x\n")
    assert (document["warnings"], text, status) == ([], "", b"0")


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(UnimplementedError, match=r"unsupported request frontend\.nope"):
        ask("frontend.nope")
    with pytest.raises(UnimplementedError, match=r"unsupported frontend capability moby\.nope"):
        build("FROM alpine\n", {"frontend.caps": "moby.nope"})


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("# syntax=other/frontend:1 with more\nnot: a Dockerfile\n", {}),
        ("// check=skip=all\n// syntax=other/frontend:1 with more\n\n{", {}),
        ('#!/usr/bin/env x\n{"syntax": "other/frontend:1 with more", "a": [1]}', {}),
        ("\ufeff#syntax = other/frontend:1 with more\n", {}),
        ("whatever", {"build-arg:BUILDKIT_SYNTAX": "other/frontend:1 with more"}),
    ],
)
def test_a_file_for_another_frontend_is_forwarded_with_all_that_was_asked(text: str, more: dict[str, str]) -> None:
    attributes = {"its-own": "attribute", "frontend.caps": "moby.nope", **more}
    made = build(text, attributes)
    ((forwarded, inputs),) = made.bridge.forwarded
    asked = {**attributes, "cmdline": "other/frontend:1 with more", "source": "other/frontend:1"}
    assert forwarded.items() >= asked.items()
    assert inputs == {}


def test_a_frontend_that_cannot_be_had_is_told_with_the_line_that_names_it() -> None:
    with pytest.raises(DockerfileError, match="invalid reference format") as caught:
        build("#!x\n# syntax=Not//a name\nFROM alpine\n")
    assert caught.value.lines == Lines(2, 2)


@pytest.mark.parametrize(
    "name",
    [
        "docker/dockerfile", "docker/dockerfile:1.7", "docker/dockerfile:1-labs", "docker.io/docker/dockerfile:1",
        "docker/dockerfile-upstream:master-labs", f"docker/dockerfile:1@sha256:{'0' * 64}",
    ],
)  # fmt: skip
def test_every_image_of_the_dockerfile_frontend_is_this_one(name: str) -> None:
    assert build(f"# syntax={name}\nFROM alpine\nRUN x\n").run()
