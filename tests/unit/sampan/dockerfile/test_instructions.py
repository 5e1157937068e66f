import pytest

from sampan.dockerfile import instructions as kinds
from sampan.dockerfile.instructions import Instruction, parse_instructions, trigger_statement
from sampan.dockerfile.mounts import RunMount, parse_run_mount
from sampan.dockerfile.source import DockerfileError, Lines, parse_source
from sampan.errors import InvalidArgumentError


def parse(text: str) -> Instruction:
    (instruction,) = parse_instructions(parse_source(text.encode()))
    return instruction


def test_a_stage_has_an_image_a_name_in_lower_case_and_a_platform() -> None:
    stage = parse("from --platform=$BUILDPLATFORM alpine:3 As Build")
    assert isinstance(stage, kinds.From)
    assert (stage.image, stage.name, stage.platform) == ("alpine:3", "build", "$BUILDPLATFORM")


def test_arguments_with_and_without_a_default() -> None:
    arg = parse('ARG a b= c="d e"')
    assert isinstance(arg, kinds.Arg)
    assert arg.arguments == (("a", None), ("b", ""), ("c", '"d e"'))


def test_pairs_keep_their_quotes_until_they_are_expanded() -> None:
    env = parse("ENV a='b c' d=$e")
    assert isinstance(env, kinds.Pairs)
    assert env.pairs == (("a", "'b c'"), ("d", "$e"))
    legacy = parse("ENV a b c")
    assert isinstance(legacy, kinds.Pairs)
    assert (legacy.pairs, legacy.legacy) == ((("a", "b c"),), True)


def test_a_command_is_words_or_one_text_for_the_shell() -> None:
    words, text = parse('CMD ["a", "b c"]'), parse("CMD a 'b c'")
    assert isinstance(words, kinds.Command)
    assert isinstance(text, kinds.Command)
    assert (words.words, words.shell_form) == (("a", "b c"), False)
    assert (text.words, text.shell_form) == (("a 'b c'",), True)


def test_run_takes_mounts_network_and_security() -> None:
    run = parse("RUN --mount=type=cache,target=/c --mount=target=/ctx --network=none --security=insecure make")
    assert isinstance(run, kinds.Run)
    assert run.mounts == (RunMount(type="cache", target="/c"), RunMount(target="/ctx"))
    assert (run.network, run.security, run.words) == ("none", "insecure", ("make",))


def test_copy_takes_all_its_flags() -> None:
    copy = parse("COPY --from=b --chown=1:2 --chmod=u=rw --link --parents --exclude=*.o --exclude=x a b c/")
    assert isinstance(copy, kinds.Transfer)
    assert (copy.from_stage, copy.chown, copy.chmod, copy.link, copy.parents) == ("b", "1:2", "u=rw", True, True)
    assert (copy.sources, copy.destination, copy.excludes) == (("a", "b"), "c/", ("*.o", "x"))


def test_add_takes_a_checksum_and_says_whether_to_unpack() -> None:
    add = parse("ADD --checksum=sha256:00 --unpack=false --keep-git-dir http://x/a.tar /")
    assert isinstance(add, kinds.Transfer)
    assert (add.checksum, add.unpack, add.keep_git_dir) == ("sha256:00", False, True)


def test_documents_of_a_copy_are_no_paths() -> None:
    copy = parse("COPY <<A b /to/\nx\nA\n")
    assert isinstance(copy, kinds.Transfer)
    assert (copy.sources, [each.name for each in copy.documents]) == (("b",), ["A"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\0FORM a", "unknown instruction: \0FORM"),
        ("RUN a\0", "it has a NUL byte in it"),
        ("HEALTHCHECK --interval=1x CMD a", 'time: unknown unit "x" in duration "1x"'),
        ("FORM a", r"unknown instruction: FORM \(did you mean FROM\?\)"),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a AS 1b", "invalid name for build stage"),
        ("FROM a b c", "FROM requires either one or three arguments"),
        ("COPY --form=x a b", r"unknown flag: --form \(did you mean from\?\)"),
        ("COPY --from a b", "missing a value on flag: --from"),
        ("COPY --link=perhaps a b", "expecting boolean value for flag link"),
        ("COPY --from=a --from=b c d", "duplicate flag specified: --from"),
        ("ADD --parents a b", "unknown flag: --parents"),
        ("COPY a", "COPY requires at least two arguments, but only one was provided"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV a=b c", "can't find = in"),
        ("SHELL bash", "JSON form"),
        ("RUN --mount=type=odd a", "unsupported mount type"),
        ("RUN --network=odd a", "invalid network mode"),
        ("ONBUILD ONBUILD RUN a", "Chaining ONBUILD"),
        ("ONBUILD FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
    ],
)
def test_what_an_instruction_does_not_take_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message) as refused:
        parse_instructions(parse_source(f"# above\n{text}\n".encode()))
    assert refused.value.lines == Lines(2, 2)


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("type=bind,from=b,source=/s,target=/t,rw",
         RunMount(from_stage="b", source="/s", target="/t", read_only=False)),
        ("type=cache,dst=/c,id=x,sharing=locked,mode=0700,uid=1,gid=2",
         RunMount(type="cache", target="/c", id="x", sharing="locked", mode=0o700, uid=1, gid=2)),
        ("type=tmpfs,target=/t,size=2k", RunMount(type="tmpfs", target="/t", size_bytes=2048)),
        ("type=secret,id=k,env=TOKEN,required", RunMount(type="secret", id="k", env="TOKEN", required=True)),
        ("type=secret,src=k", RunMount(type="secret", id="k")),
        ('type=ssh,"target=/a,b"', RunMount(type="ssh", target="/a,b")),
    ],
)  # fmt: skip
def test_mounts_are_records_of_keys_and_values(text: str, mount: RunMount) -> None:
    assert parse_run_mount(text) == mount


@pytest.mark.parametrize(
    "text",
    ["target=/a,size=1", "type=tmpfs,target=/t,size=9e99",
     "type=cache,target=/c,sharing=odd",
     "type=secret", "type=ssh,uid=99999999999", "type=cache,target=/c,mode=9", "odd", "odd=1", 'type="bind'],
)  # fmt: skip
def test_a_mount_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_run_mount(text)


def test_a_trigger_is_an_instruction_at_the_place_of_the_stage() -> None:
    on_build = parse("ONBUILD COPY <<E /x\na\nE\n")
    assert isinstance(on_build, kinds.OnBuild)
    statement = trigger_statement(on_build.trigger, Lines(7, 7))
    assert (statement.keyword, statement.here_documents[0].content, statement.lines) == ("COPY", "a\n", Lines(7, 7))
    with pytest.raises(DockerfileError, match="more than one"):
        trigger_statement("RUN a\nRUN b", Lines(7, 7))
