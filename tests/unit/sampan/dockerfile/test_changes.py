import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.dockerfile.changes import apply_changes
from sampan.errors import InvalidArgumentError
from sampan.oci.image_config import HealthCheck, RunConfig


def run(*changes: str, base: RunConfig | None = None) -> RunConfig:
    return apply_changes(base or RunConfig(), changes)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('CMD ["ls", "-l"]', ("ls", "-l")),
        ("CMD ls -l", ("/bin/sh", "-c", "ls -l")),
        ("cmd ls", ("/bin/sh", "-c", "ls")),
        ("CMD ['ls']", ("/bin/sh", "-c", "['ls']")),
        ('CMD ["ls"] x', ("/bin/sh", "-c", '["ls"] x')),
        ("CMD []", ()),
        ("CMD\tls", ("/bin/sh", "-c", "ls")),
        ("CMD echo \\\n  hi", ("/bin/sh", "-c", "echo   hi")),
        ("# comment\n\nCMD ls", ("/bin/sh", "-c", "ls")),
        ("# comment\r\nCMD ls \\\r\n -l\r\n", ("/bin/sh", "-c", "ls  -l")),
        ('CMD ["a\u2028b", "c\x85d"]', ("a\u2028b", "c\x85d")),
    ],
)
def test_commands_in_both_forms(change: str, expected: tuple[str, ...]) -> None:
    assert run(change).cmd == expected


def test_entrypoint_resets_a_command_that_was_there_before() -> None:
    base = RunConfig(cmd=("old",))
    assert run('ENTRYPOINT ["/e"]', base=base).cmd == ()
    assert run('CMD ["new"]', 'ENTRYPOINT ["/e"]', base=base).cmd == ("new",)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("ENV A=b", ("A=b",)),
        ("ENV A=b C=d", ("A=b", "C=d")),
        ('ENV A="b c" D=e', ("A=b c", "D=e")),
        ("ENV A='b $X' D=e", ("A=b $X", "D=e")),
        (r"ENV A=b\ c", ("A=b c",)),
        ("ENV A b c", ("A=b c",)),
        ("ENV A=", ("A=",)),
        ('ENV A="say \\"hi\\""', ('A=say "hi"',)),
        ("ENV A=b\nENV A=c", ("A=c",)),
        ("ENV A=b\nENV C=$A-${A}-${N:-n}-${A:+y}-${N:+z}", ("A=b", "C=b-b-n-y-")),
        ("ENV A=$", ("A=$",)),
        ("ENV A=1$2", ("A=1",)),
    ],
)
def test_environment(change: str, expected: tuple[str, ...]) -> None:
    assert run(change).env == expected


def test_labels_are_added_and_replaced() -> None:
    assert run('LABEL a=1 "b c"=2', "LABEL a=3").labels == {"a": "3", "b c": "2"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("EXPOSE 80", ("80/tcp",)),
        ("EXPOSE 80/udp 443/TCP", ("80/udp", "443/tcp")),
        ("EXPOSE 7000-7002", ("7000/tcp", "7001/tcp", "7002/tcp")),
        ("ENV P=8080\nEXPOSE $P", ("8080/tcp",)),
    ],
)
def test_ports(change: str, expected: tuple[str, ...]) -> None:
    assert run(change).exposed_ports == expected


def test_the_rest() -> None:
    config = run(
        "USER 1000:1000",
        "WORKDIR /a",
        "WORKDIR b/../c",
        'VOLUME ["/v", "/w x"]',
        "VOLUME /y /z",
        "STOPSIGNAL SIGINT",
        "ONBUILD RUN make  all",
    )
    assert config == RunConfig(
        user="1000:1000",
        working_dir="/a/c",
        volumes=("/v", "/w x", "/y", "/z"),
        stop_signal="SIGINT",
        on_build=("RUN make  all",),
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("HEALTHCHECK NONE", HealthCheck(("NONE",))),
        ("HEALTHCHECK CMD curl x", HealthCheck(("CMD-SHELL", "curl x"))),
        (
            'HEALTHCHECK --interval=1m30s --retries=2 CMD ["a", "b"]',
            HealthCheck(("CMD", "a", "b"), interval_ns=90 * 10**9, retries=2),
        ),
    ],
)
def test_health_checks(change: str, expected: HealthCheck) -> None:
    assert run(change).health_check == expected


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("RUN ls", "run is not a valid change command"),
        ("FROM x", "from is not a valid change command"),
        ("nonsense", "nonsense is not a valid change command"),
        ("", "file with no instructions"),
        ("# nothing", "file with no instructions"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=b c", 'Syntax error - can\'t find = in "c". Must be of the form: name=value'),
        ("ENV =b", "ENV names can not be blank"),
        ("ENV A='b", "looking for matching single-quote"),
        ("ENV A=${B", "missing '}'"),
        ("CMD [1, 2]", "arrays must be comprised of strings only"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("LABEL", "LABEL requires at least one argument"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("EXPOSE http", "invalid containerPort: http"),
        ("EXPOSE 0", "invalid containerPort: 0"),
        ("EXPOSE 65536", "invalid containerPort: 65536"),
        ("EXPOSE 9-8", "invalid containerPort: 9-8"),
        ("USER", "USER requires exactly one argument"),
        ("USER a b", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK FOO", 'Unknown type "FOO" in HEALTHCHECK'),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --interval=soon CMD x", 'invalid duration "soon"'),
        ("HEALTHCHECK --what=1 CMD x", "Unknown flag: what"),
    ],
)
def test_mistakes_are_told_in_dockers_words(change: str, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        run(change)
    assert complaint in str(caught.value)


INSTRUCTIONS = ["CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "USER", "VOLUME", "WORKDIR"]


@given(st.sampled_from(INSTRUCTIONS), st.text(alphabet="aA0 \\\"'$={}:-+[],/\n\t", max_size=30))
def test_any_arguments_are_taken_or_refused(instruction: str, arguments: str) -> None:
    with contextlib.suppress(InvalidArgumentError):
        run(f"{instruction} {arguments}")
