"""Build checks: what each rule finds, and how a Dockerfile or a client chooses among them."""

import asyncio

import pytest

from buildd.frontend import checks
from buildd.frontend.frontend import DockerfileFrontend
from sampan.dockerfile.source import DockerfileError
from sampan.errors import InvalidArgumentError
from tests.fakes.build_bridge import FakeBuildBridge, image_config
from tests.unit.buildd.frontend.building import ALPINE, build

_EXPERIMENTAL = {"build-arg:BUILDKIT_DOCKERFILE_CHECK": "experimental=all"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM alpine AS Build", "StageNameCasing: Stage name 'Build' should be lowercase (line 1)"),
        ("FROM alpine as b", "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)"),
        ("FROM alpine\nRUN a \\\n\n b", "NoEmptyContinuation: Empty continuation line (line 4)"),
        (
            "FROM alpine\nRUN a\nrun b",
            "ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase) "
            "(line 3)",
        ),
        (
            "FROM alpine AS a\nFROM alpine AS a",
            'DuplicateStageName: Duplicate stage name "a", stage names should be unique (line 2)',
        ),
        (
            "FROM alpine AS scratch",
            'ReservedStageName: Stage name should not use the same name as reserved stage "scratch" (line 1)',
        ),
        (
            "FROM alpine\nCMD a",
            "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS "
            "signals (line 2)",
        ),
        (
            "FROM alpine\nMAINTAINER me",
            "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)",
        ),
        (
            "ARG VERSION=latest\nFROM alpine:${VERSIO:-latest}$VERSIO",
            "UndefinedArgInFrom: FROM argument 'VERSIO' is not declared (did you mean VERSION?) (line 2)",
        ),
        (
            "FROM alpine\nWORKDIR a",
            'WorkdirRelativePath: Relative workdir "a" can have unexpected results if the base image changes (line 2)',
        ),
        (
            "FROM alpine\nENV DIRECTORY=a\nCOPY $DIRECTROY /",
            "UndefinedVar: Usage of undefined variable '$DIRECTROY' (did you mean $DIRECTORY?) (line 3)",
        ),
        (
            'FROM alpine\nCMD ["a"]\nCMD ["b"]',
            "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because "
            "only the last one will be used (line 2)",
        ),
        (
            "FROM alpine\nENV a b",
            'LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format (line 2)',
        ),
        (
            "FROM --platform=$TARGETPLATFORM alpine",
            "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is "
            "the default behavior (line 1)",
        ),
        (
            "FROM alpine\nARG GITHUB_TOKEN",
            'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "GITHUB_TOKEN") '
            "(line 2)",
        ),
        (
            "FROM --platform=linux/amd64 alpine",
            'FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/amd64" '
            "(line 1)",
        ),
        (
            "FROM alpine\nEXPOSE 80/TCP",
            "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 2)",
        ),
        (
            "FROM alpine\nEXPOSE 127.0.0.1:80:80",
            "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found "
            "'127.0.0.1:80:80' (line 2)",
        ),
        (
            "# what it is\nFROM alpine AS base",
            "InvalidDefinitionDescription: Comment for FROM should follow the format: `# base <description>` (line 2)",
        ),
        (
            "# what they are\nARG A B\nFROM alpine",
            "InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>` "
            "(line 2)",
        ),
    ],
)
def test_a_rule_says_what_it_found_and_where(text: str, expected: str) -> None:
    assert build(f"{text}\n", _EXPERIMENTAL).warnings == [expected]


def test_a_default_that_is_no_name_is_found_although_the_build_gives_another() -> None:
    built = build("ARG TAG\nFROM alpine:${TAG}\n", {"build-arg:TAG": "latest"})
    assert built.warnings == [
        "InvalidDefaultArgInFrom: Default value for ARG alpine:${TAG} results in empty or invalid base image name "
        "(line 2)"
    ]


def test_a_copy_of_what_is_ignored_is_found_unless_there_are_exceptions() -> None:
    text = "FROM alpine\nCOPY a/b /\n"
    expected = 'CopyIgnoredFile: Attempting to Copy file "a/b" that is excluded by .dockerignore (line 2)'
    assert build(text, ignore="a\n").warnings == [expected]
    assert build(text, ignore="a\n!a/b\n").warnings == []


def test_a_base_image_of_another_platform_is_found() -> None:
    built = build("FROM alpine\n", images={ALPINE: image_config("arm64")})
    assert built.warnings == [
        'InvalidBaseImagePlatform: Base image alpine was pulled with platform "linux/arm64", expected "linux/amd64" '
        "for current build (line 1)"
    ]


@pytest.mark.parametrize(
    ("asked", "first", "warned", "runs_on", "made"),
    [
        ("", "FROM alpine", False, "linux/386", "386"),
        ("linux/amd64", "FROM alpine", True, "linux/amd64", "amd64"),
        ("", "FROM --platform=$BUILDPLATFORM alpine", True, "linux/amd64", "386"),
    ],
)
def test_a_base_that_runs_here_makes_a_build_of_its_platform_if_none_is_asked_for(
    asked: str, first: str, warned: bool, runs_on: str, made: str
) -> None:
    built = build(f"{first}\nRUN x\n", {"platform": asked}, images={ALPINE: image_config("386")})
    assert [each.partition(":")[0] for each in built.warnings] == ["InvalidBaseImagePlatform"] * warned
    assert {str(node.platform) for node in built.nodes} == {runs_on}
    assert built.config["architecture"] == made


def test_a_default_makes_no_variable_of_a_name() -> None:
    built = build("ARG TAG\nFROM alpine AS a\nENV P=${Q:-1}\nFROM alpine${TGA:-}\n", {"target": "a"})
    assert built.warnings == [
        "UndefinedArgInFrom: FROM argument 'TGA' is not declared (did you mean TAG?) (line 4)",
        "UndefinedVar: Usage of undefined variable '$Q' (line 3)",
    ]


def test_rules_lead_to_their_pages() -> None:
    rules = [each for each in vars(checks).values() if isinstance(each, checks.Rule)]
    pages = {each.name: each.url.rstrip("/").rpartition("/")[2] for each in rules}
    assert pages["JSONArgsRecommended"] == "json-args-recommended"
    assert pages["SecretsUsedInArgOrEnv"] == "secrets-used-in-arg-or-env"
    assert pages["InvalidBaseImagePlatform"] == ""


def test_clean_files_have_no_warnings() -> None:
    text = 'FROM alpine AS a\nWORKDIR /w\nWORKDIR d\nARG X\nRUN x $X $SHELL_VAR\nENV P=${X:-1}\nCMD ["a"]\n'
    assert build(text, {"build-arg:BUILDKIT_DOCKERFILE_CHECK": "experimental=all"}).warnings == []


@pytest.mark.parametrize("check", ["skip=all", "skip=JSONArgsRecommended,MaintainerDeprecated"])
def test_the_directive_skips_rules(check: str) -> None:
    assert build(f"# check={check}\nFROM alpine\nMAINTAINER me\nCMD a\n").warnings == []


def test_a_comment_skips_rules_for_one_instruction() -> None:
    built = build("FROM alpine\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c d\n")
    assert [warning.positions[0].first_line for warning in built.bridge.warnings] == [4]


def test_findings_are_errors_for_who_asks() -> None:
    with pytest.raises(InvalidArgumentError, match="lint violation found for rules: JSONArgsRecommended"):
        build("# check=error=true\nFROM alpine\nCMD a\n")


@pytest.mark.parametrize(
    ("check", "words"),
    [("nonsense", 'invalid check option "nonsense"'), ("error=perhaps", '"error" with value "perhaps"')],
)
def test_options_that_cannot_be_are_refused(check: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words) as caught:
        build(f"# check={check}\nFROM alpine\n")
    assert caught.value.lines is not None


def test_warnings_are_told_once_for_several_platforms() -> None:
    assert len(build("FROM alpine\nCMD a\n", {"platform": "linux/amd64,linux/arm64"}).warnings) == 1


def test_warnings_are_told_also_if_the_build_fails() -> None:
    bridge = FakeBuildBridge({"local://dockerfile": {"Dockerfile": b"FROM alpine AS A\n"}, "local://context": {}})
    with pytest.raises(DockerfileError, match="not found"):
        asyncio.run(DockerfileFrontend().build({}, {}, bridge))
    assert [warning.rule for warning in bridge.warnings] == ["StageNameCasing"]
