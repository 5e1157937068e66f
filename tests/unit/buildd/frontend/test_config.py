"""The image's config: what instructions that change no files leave in it and in its history."""

import json

import pytest

from sampan.dockerfile.source import DockerfileError
from sampan.dockerfile.words import quoted
from tests.fakes.build_bridge import image_config
from tests.unit.buildd.frontend.building import ALPINE, build

_TEXT = r"""FROM alpine
MAINTAINER somebody
ENV A=1 B="two words"
ENV C $A
LABEL l.one=1 "l two"='2'
EXPOSE 80 53/udp 8000-8001
VOLUME /v /w
USER 1000
STOPSIGNAL SIGQUIT
SHELL ["/bin/ash", "-c"]
ENTRYPOINT ["/e", "\t\"x\""]
CMD run it
HEALTHCHECK --interval=90s --retries=3 CMD curl -f localhost
ONBUILD RUN later
"""


def test_config_has_what_the_instructions_say() -> None:
    config = build(_TEXT, {"label:l.one": "9"}).config
    assert config["author"] == "somebody"
    assert config["config"] == {
        "User": "1000",
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}},
        "Env": ["PATH=/bin", "A=1", "B=two words", "C=1"],
        "Entrypoint": ["/e", '\t"x"'],
        "Cmd": ["/bin/ash", "-c", "run it"],
        "Healthcheck": {"Test": ["CMD-SHELL", "curl -f localhost"], "Interval": 90 * 10**9, "Retries": 3},
        "Volumes": {"/v": {}, "/w": {}},
        "Labels": {"l.one": "9", "l two": "2"},
        "StopSignal": "SIGQUIT",
        "Shell": ["/bin/ash", "-c"],
        "OnBuild": ["RUN later"],
        "ArgsEscaped": True,
    }
    assert (config["architecture"], config["os"]) == ("amd64", "linux")
    assert config["rootfs"]["diff_ids"] == [f"sha256:{'1' * 64}"]


def test_history_is_in_buildkits_words() -> None:
    built = build(_TEXT)
    assert built.history == [
        "MAINTAINER somebody",
        "ENV A=1 B=two words",
        "ENV C=1",
        "LABEL l.one=1 l two=2",
        "EXPOSE [53/udp 80/tcp 8000/tcp 8001/tcp]",
        "VOLUME [/v /w]",
        "USER 1000",
        "STOPSIGNAL SIGQUIT",
        "SHELL [/bin/ash -c]",
        r'ENTRYPOINT ["/e" "\t\"x\""]',
        'CMD ["/bin/ash" "-c" "run it"]',
        "HEALTHCHECK {Test:[CMD-SHELL curl -f localhost] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s "
        "Retries:3}",
    ]
    lines = [line for line in built.config["history"] if line.get("comment")]
    assert all(line["comment"] == "buildkit.dockerfile.v0" and line["empty_layer"] for line in lines)


def test_an_entrypoint_drops_the_command_of_the_base_and_keeps_the_stages_own() -> None:
    assert "Cmd" not in build('FROM alpine\nENTRYPOINT ["/e"]\n').config["config"]
    assert build('FROM alpine\nCMD ["a"]\nENTRYPOINT ["/e"]\n').config["config"]["Cmd"] == ["a"]


def test_a_variable_that_is_there_keeps_its_place() -> None:
    images = {ALPINE: image_config(Env=["A=1", "PATH=/p"])}
    built = build("FROM alpine\nENV A=2 Z=3\n", images=images)
    assert built.config["config"]["Env"] == ["A=2", "PATH=/p", "Z=3"]


def test_pairs_of_one_instruction_see_the_values_before_it() -> None:
    assert build("FROM alpine\nENV a=1\nENV a=2 b=$a\n").config["config"]["Env"][-1] == "b=1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("STOPSIGNAL NOPE", "invalid signal: NOPE"),
        ("STOPSIGNAL 0", "invalid signal: 0"),
        ("CMD [1]", "dockerfile parse error on line 2: when using JSON array syntax"),
        ("SHELL", "SHELL requires at least one argument"),
        ("EXPOSE 70000", "invalid containerPort: 70000"),
        ("EXPOSE 80/xtp", "invalid proto: xtp"),
        ("EXPOSE 9-8", "invalid containerPort: 9-8"),
        ("VOLUME $NOPE", "VOLUME specified can not be an empty string"),
        ("HEALTHCHECK --bad=1 CMD x", "Unknown flag: bad"),
        ("LABEL a=${x", "missing '}'"),
    ],
)
def test_what_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words):
        build(f"FROM alpine\n{text}\n")


@pytest.mark.parametrize("signal", ["9", "65", "KILL", "sigterm", "RTMIN+3", "SIGRTMAX-2"])
def test_signals_have_numbers_and_names(signal: str) -> None:
    assert build(f"FROM alpine\nSTOPSIGNAL {signal}\n").config["config"]["StopSignal"] == signal


def test_a_scratch_image_has_nothing_but_what_was_said() -> None:
    built = build('FROM scratch\nCMD ["/x"]\n')
    assert list(built.result.edges.values()) == [None]
    assert built.config["rootfs"] == {"type": "layers", "diff_ids": []}
    assert built.config["config"]["WorkingDir"] == "/"


def test_the_result_names_its_platform_and_the_base_config() -> None:
    metadata = build("FROM alpine\nRUN x\n").result.metadata
    assert json.loads(metadata["refs.platforms"]) == {
        "Platforms": [{"ID": "linux/amd64", "Platform": {"architecture": "amd64", "os": "linux"}}]
    }
    assert json.loads(metadata["containerimage.base.config"])["config"] == {"Env": ["PATH=/bin"], "Cmd": ["sh"]}


def test_quoting_is_gos() -> None:
    assert quoted('a"\\\n\x01é\u200b') == '"a\\"\\\\\\n\\x01é\\u200b"'
