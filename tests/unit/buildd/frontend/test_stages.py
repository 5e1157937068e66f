"""Stages: which are built, from what, and with which variables."""

import pytest

from sampan.dockerfile.source import DockerfileError, Lines
from sampan.errors import InvalidArgumentError, NotFoundError
from tests.fakes.build_bridge import image_config
from tests.unit.buildd.frontend.building import ALPINE, build


def test_steps_are_named_as_progress_shows_them() -> None:
    built = build("FROM alpine AS build\nRUN make\nFROM alpine\nWORKDIR /app\nCOPY --from=build /out /bin/\n")
    plain = [name.partition("@")[0] for name in built.names]
    assert plain == [
        "[stage-1 1/3] FROM docker.io/library/alpine:latest",
        "[stage-1 2/3] WORKDIR /app",
        "[build 1/2] FROM docker.io/library/alpine:latest",
        "[build 2/2] RUN make",
        "[stage-1 3/3] COPY --from=build /out /bin/",
    ]
    assert [query.step for query in built.bridge.queries] == [f"[internal] load metadata for {ALPINE}"] * 2
    assert built.bridge.solved[0].metadata.name == "[internal] load build definition from Dockerfile"


def test_a_lone_stage_has_no_name_in_progress() -> None:
    assert build("FROM scratch\nCOPY a /\n").names == ["[internal] load build context", "[1/1] COPY a /"]


def test_stages_that_nothing_needs_are_not_built_nor_their_images_asked_for() -> None:
    built = build("FROM missing AS unused\nRUN never\nFROM alpine\nRUN once\n")
    assert [query.reference for query in built.bridge.queries] == [ALPINE]
    assert not any("never" in name for name in built.names)


def test_a_target_is_built_by_name_whatever_its_case() -> None:
    assert build("FROM alpine AS One\nRUN 1\nFROM missing\nRUN 2", {"target": "ONE"}).run().process.args[-1] == "1"


def test_a_target_that_is_not_there_is_named_with_one_that_is_near() -> None:
    with pytest.raises(InvalidArgumentError, match=r'target stage "buidl" could not be found \(did you mean build\?\)'):
        build("FROM alpine AS build\n", {"target": "buidl"})


def test_an_image_that_is_not_there_fails_at_its_line() -> None:
    with pytest.raises(
        DockerfileError, match=r"docker.io/library/biuld:latest: not found \(did you mean build\?\)"
    ) as caught:
        build("FROM alpine AS build\n\nFROM biuld\n")
    assert caught.value.lines == Lines(3, 3)
    assert caught.value.file_name == "Dockerfile"
    assert isinstance(caught.value.__cause__, NotFoundError)


@pytest.mark.parametrize(
    ("text", "before", "line"),
    [
        ("FROM alpine AS a\nCOPY --from=b / /\nFROM alpine AS b\nCOPY --from=a / /\n", [2], 4),
        ("FROM alpine AS a\nCOPY --from=a / /\n", [], 2),
        (
            "FROM alpine AS a\nCOPY --from=c / /\nCOPY --from=b / /a\nCOPY --from=b / /\n"
            "FROM alpine AS b\nRUN --mount=from=c,target=/x true\nFROM alpine AS c\nCOPY --from=b /x /y\n",
            [2, 8],
            6,
        ),
    ],
)
def test_stages_that_need_themselves_are_refused_with_each_line_of_the_way(
    text: str, before: list[int], line: int
) -> None:
    with pytest.raises(DockerfileError, match="circular dependency detected on stage: a") as caught:
        build(text)
    assert caught.value.lines == Lines(line, line)
    assert caught.value.before == tuple(Lines(each, each) for each in before)


def test_nothing_is_mounted_from_a_stage_that_begins_from_this_one() -> None:
    words = 'cannot mount from stage "b" to "/x", stage needs to be defined before current command'
    with pytest.raises(DockerfileError, match=words) as caught:
        build("FROM alpine AS a\nRUN --mount=from=b,target=/x true\nFROM a AS b\n")
    assert caught.value.lines == Lines(2, 2)


def test_flags_may_be_quoted() -> None:
    assert build('FROM alpine AS a\nRUN 1\nFROM scratch\nCOPY --from="a" /x /y\n').names[-1].endswith("--from=a /x /y")


def test_a_stage_cannot_take_from_a_later_one() -> None:
    with pytest.raises(
        DockerfileError, match='cannot copy from stage "b", it needs to be defined before current stage "a"'
    ):
        build("FROM alpine AS a\nCOPY --from=b / /\nFROM alpine AS b\n", {"target": "a"})


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("UPPER", 'failed to parse stage name "UPPER": invalid reference format'),
        (
            "--platform=bogus alpine",
            'failed to parse platform bogus: "bogus": unknown operating system or architecture',
        ),
        ("$nope", r"base name \(\$nope\) should not be blank"),
        ("alpine AS 1a", "invalid name for build stage"),
    ],
)
def test_a_from_that_cannot_be_is_refused(image: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words):
        build(f"FROM {image}\n")


def test_a_stage_index_that_is_not_there_is_refused() -> None:
    with pytest.raises(DockerfileError, match="invalid stage index 7"):
        build("FROM alpine\nCOPY --from=7 / /\n")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("FROM alpine\nRUN x\n", "2/2"),
        ("FROM alpine AS own\nRUN x\n", "2/2"),
        ("FROM alpine\nRUN --mount=type=cache,target=/c x\n", "stage-0 2/2"),
        ("FROM alpine AS own\nRUN --mount=type=tmpfs,target=/c x\n", "own 2/2"),
        ("FROM alpine\nRUN --mount=from=alpine,target=/c x\n", "stage-0 2/2"),
        ("FROM base\nRUN x\n", "3/3"),  # a trigger of the base names no stage
    ],
)
def test_the_only_stage_is_named_beside_what_its_mounts_and_copies_are_of(text: str, place: str) -> None:
    triggering = image_config(OnBuild=["COPY --from=alpine /a /a"])
    images = {"docker.io/library/alpine:latest": image_config(), "docker.io/library/base:latest": triggering}
    assert build(text, images=images).names[-1].startswith(f"[{place}] RUN ")


@pytest.mark.parametrize(
    "text",
    [
        "FROM alpine\nFROM UPPER\nFROM alpine\n",
        "FROM alpine\nFROM alpine AS unused\nCOPY --from=UPPER /a /a\nFROM alpine\n",
    ],
)
def test_a_base_that_is_no_name_is_refused_although_nobody_needs_its_stage(text: str) -> None:
    with pytest.raises(DockerfileError, match='failed to parse stage name "UPPER"'):
        build(text)


def test_arguments_before_from_choose_the_base_and_are_seen_by_stages_that_declare_them() -> None:
    text = "ARG BASE=missing\nARG TAG=3\nFROM $BASE:${TAG}\nARG TAG\nARG OTHER=$TAG\nRUN x $BASE\n"
    built = build(text, {"build-arg:BASE": "alpine"}, images={"docker.io/library/alpine:3": image_config()})
    env = built.run().process.env
    assert "TAG=3" in env
    assert "OTHER=3" in env
    assert not any(entry.startswith("BASE=") for entry in env)
    assert built.history == ["ARG TAG=3", "ARG OTHER=3", "RUN |2 TAG=3 OTHER=3 /bin/sh -c x $BASE # buildkit"]


def test_automatic_arguments_are_there_when_they_are_declared() -> None:
    env = build("FROM alpine AS last\nARG TARGETARCH TARGETPLATFORM TARGETSTAGE\nRUN x\n").run().process.env
    assert env[-3:] == ("TARGETARCH=amd64", "TARGETPLATFORM=linux/amd64", "TARGETSTAGE=last")


def test_a_stage_inherits_arguments_and_variables_of_the_stage_that_it_begins_from() -> None:
    built = build("FROM alpine AS a\nARG X=1\nENV Y=2\nFROM a\nRUN z\n")
    assert {"X=1", "Y=2"} <= set(built.run().process.env)
    assert built.config["config"]["Env"] == ["PATH=/bin", "Y=2"]


def test_triggers_of_the_base_image_come_first_and_may_need_stages_of_their_own() -> None:
    images = {"docker.io/library/base:latest": image_config(OnBuild=["COPY --from=tool /t /t", "RUN use $V"])}
    built = build("FROM alpine AS tool\nRUN make-tool\nFROM base\nRUN own\n", images=images)
    assert built.names[-3:] == [
        "[stage-1 2/4] ONBUILD COPY --from=tool /t /t",
        "[stage-1 3/4] ONBUILD RUN use $V",
        "[stage-1 4/4] RUN own",
    ]
    assert any("make-tool" in name for name in built.names)
    assert "OnBuild" not in built.config["config"]


def test_triggers_of_a_stage_run_in_the_stage_that_begins_from_it() -> None:
    built = build("FROM alpine AS a\nONBUILD RUN late\nFROM a\nRUN own\n")
    assert [name.partition("] ")[2] for name in built.names[1:]] == ["ONBUILD RUN late", "RUN own"]


def test_a_trigger_that_cannot_be_fails_at_the_from() -> None:
    images = {"docker.io/library/base:latest": image_config(OnBuild=["NONSENSE"])}
    with pytest.raises(DockerfileError, match="unknown instruction: NONSENSE") as caught:
        build("\nFROM base\n", images=images)
    assert caught.value.lines == Lines(2, 2)


def test_several_platforms_give_an_edge_and_a_config_each() -> None:
    text = "FROM --platform=$BUILDPLATFORM alpine AS a\nARG TARGETARCH\nRUN cross\nFROM alpine\nCOPY --from=a /x /x\n"
    built = build(text, {"platform": "linux/amd64,linux/arm64/v8"})
    assert set(built.result.edges) == {"linux/amd64", "linux/arm64"}
    assert {"containerimage.config/linux/amd64", "containerimage.config/linux/arm64"} <= set(built.result.metadata)
    arm = built.result.edges["linux/arm64"]
    assert arm is not None
    assert arm.node.metadata.name == "[linux/arm64 stage-1 2/2] COPY --from=a /x /x"
    assert arm.node.inputs[1].node.metadata.name.startswith("[linux/amd64->arm64 a 2/2]")


def test_without_a_platform_the_image_for_another_one_stays_what_it_is() -> None:
    built = build("FROM alpine\nRUN x\n", {"platform": ""}, images={ALPINE: image_config("riscv64")})
    assert built.config["architecture"] == "riscv64"


def test_an_empty_dockerfile_and_one_without_a_stage_are_refused() -> None:
    with pytest.raises(DockerfileError, match="the Dockerfile cannot be empty"):
        build("")
    with pytest.raises(DockerfileError, match="dockerfile contains no stages to build"):
        build("ARG A\n")
    with pytest.raises(DockerfileError, match="no build stage in current context"):
        build("RUN x\nFROM alpine\n")


def test_epoch_is_the_time_of_the_history_of_copies_and_of_the_result() -> None:
    built = build("FROM scratch\nCOPY a /\n", {"build-arg:SOURCE_DATE_EPOCH": "1700000000"})
    assert built.config["created"] == "2023-11-14T22:13:20.000000000Z"
    assert built.config["history"][0]["created"] == "2023-11-14T22:13:20.000000000Z"
    assert built.result.metadata["source.date.epoch"] == b"1700000000"
    assert getattr(built.change().action, "timestamp_ns", 0) == 1700000000 * 10**9


def test_cache_is_ignored_for_all_stages_or_for_the_named_ones() -> None:
    text = "FROM alpine AS a\nRUN 1\nFROM alpine\nRUN 2\nCOPY --from=a /x /x\n"
    ignoring = [node.metadata.name for node in build(text, {"no-cache": "A"}).nodes if node.metadata.ignore_cache]
    assert ignoring == ["[a 2/2] RUN 1"]
    assert sum(node.metadata.ignore_cache for node in build(text, {"no-cache": ""}).nodes) == 3


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("platform", "a/b/c/d", '"a/b/c/d": cannot parse platform specifier'),
        ("add-hosts", "nonsense", "invalid hostname:ip 'nonsense'"),
        ("force-network-mode", "bridge", "network mode 'bridge' is not supported"),
        ("shm-size", "many", "shm-size 'many' is not a number of bytes"),
        ("ulimit", "nofile", "invalid ulimit 'nofile'"),
        ("image-resolve-mode", "never", "invalid image-resolve-mode 'never'"),
        ("multi-platform", "perhaps", "invalid boolean value 'perhaps' for multi-platform"),
        ("build-arg:SOURCE_DATE_EPOCH", "soon", "invalid SOURCE_DATE_EPOCH: soon"),
    ],
)
def test_a_value_that_cannot_be_is_refused(name: str, value: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        build("FROM alpine\n", {name: value})


def test_several_platforms_cannot_be_one_image() -> None:
    with pytest.raises(InvalidArgumentError, match="returning multiple target platforms is not allowed"):
        build("FROM alpine\n", {"platform": "linux/amd64,linux/arm64", "multi-platform": "false"})


def test_an_unknown_attribute_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgumentError, match="unsupported frontend attribute 'frobnicate'"):
        build("FROM alpine\n", {"frobnicate": "1"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUN x\n" * 5001, "more than 5000 instructions"),
        ("ENV a=xxxxxxxx\n" + "ENV a=$a$a\n" * 40, "expands to more than 1048576 characters"),
        ("ENV " + " ".join(f"a{number}=1" for number in range(10_001)), "more than 10000 variables"),
        ("EXPOSE " + "1-65535 " * 1000, "more than 10000 ports"),
        ("EXPOSE 1-9999\n" * 100, "history has more than 4194304 characters"),
        ("COPY " + "a " * 10_001 + "/d/", "COPY has 10001 sources, the most is 10000"),
        ("ENV a=" + "${a:-" * 1000 + "}" * 1000, "nests more than 50 substitutions"),
    ],
)
def test_what_grows_without_end_is_refused_at_its_line(text: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words) as caught:
        build(f"FROM alpine\n{text}\n")
    assert caught.value.lines is not None
