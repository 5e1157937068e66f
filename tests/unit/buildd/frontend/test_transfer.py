"""COPY, ADD and WORKDIR: what is put where, and what of the context is asked for."""

import json

import pytest

from buildd.llb.ops import Copy, FileOp, MakeDirectory, MakeFile, MergeOp, Owner, UserName
from sampan.dockerfile.source import DockerfileError
from tests.unit.buildd.frontend.building import Built, build


def copy(built: Built) -> Copy:
    action = built.change().action
    assert isinstance(action, Copy)
    return action


def test_copy_keeps_directories_contents_and_takes_wildcards() -> None:
    action = copy(build("FROM alpine\nWORKDIR /w\nCOPY a*/ ./\n"))
    assert (action.src, action.dest) == ("/a*", "/w/")
    assert action.dir_copy_contents
    assert action.allow_wildcard
    assert action.follow_symlink
    assert not action.attempt_unpack


def test_only_what_is_named_of_the_context_is_asked_for() -> None:
    text = "FROM alpine\nCOPY b ./c/../d* /\nRUN --mount=target=/s,source=src x\nADD tar.gz /\n"
    built = build(text, ignore="*.log\n!keep.log\n")
    attributes = built.source("local://context")
    assert json.loads(attributes["local.followpaths"]) == ["b", "d*", "src", "tar.gz"]
    assert json.loads(attributes["local.excludepatterns"]) == ["*.log", "!keep.log"]
    assert "local.followpaths" not in build("FROM alpine\nCOPY . /\nCOPY a /\n").source("local://context")


def test_a_context_that_nothing_reads_is_not_asked_for() -> None:
    assert not any("load build context" in name for name in build("FROM alpine\nRUN x\n").names)


def test_several_sources_are_one_step_of_several_copies() -> None:
    op = build("FROM alpine\nCOPY a b /d/\n").edge.node.op
    assert isinstance(op, FileOp)
    assert [(each.input, each.secondary_input, each.output) for each in op.actions] == [(0, 1, -1), (2, 1, 0)]


def test_sources_stay_inside_of_the_context() -> None:
    assert copy(build("FROM alpine\nCOPY ../../etc/passwd /\n")).src == "/etc/passwd"


def test_owner_and_mode_may_be_names_numbers_octal_and_symbolic() -> None:
    assert copy(build("FROM alpine\nCOPY --chown=app:5 --chmod=0640 a /\n")) == Copy(
        "/a",
        "/",
        Owner(UserName("app", input=0), UserName(number=5)),
        0o640,
        follow_symlink=True,
        dir_copy_contents=True,
        create_dest_path=True,
        allow_wildcard=True,
        allow_empty_wildcard=True,
    )
    assert copy(build("FROM alpine\nCOPY --chmod=u=rwX,go=rX a /\n")).mode_text == "u=rwX,go=rX"


@pytest.mark.parametrize("mode", ["9", "17777", "888", "u+z", "0o644"])
def test_a_mode_that_cannot_be_is_refused(mode: str) -> None:
    with pytest.raises(DockerfileError, match=f"invalid chmod parameter: '{mode.replace('+', '.')}'"):
        build(f"FROM alpine\nCOPY --chmod={mode} a /\n")


def test_a_linked_copy_does_not_depend_on_what_it_is_put_on() -> None:
    built = build("FROM alpine\nCOPY --link a /a\n")
    node = built.edge.node
    assert node.op == MergeOp((0, 1))
    assert node.metadata.name == "[2/2] LINK COPY --link a /a"
    added = node.inputs[1].node
    assert added.metadata.name == "[2/2] COPY --link a /a"
    assert built.change().input == -1
    assert node.metadata.progress_group is not None
    assert added.metadata.progress_group is not None
    assert node.metadata.progress_group.id == added.metadata.progress_group.id


def test_parents_keeps_the_path_behind_the_pivot() -> None:
    action = copy(build("FROM alpine\nCOPY --parents src/./lib/*.py /d/\n"))
    assert (action.src, action.include_patterns, action.required_paths) == ("/src", ("lib/*.py",), ())
    action = copy(build("FROM alpine\nCOPY --parents a/b /d/\n"))
    assert (action.src, action.include_patterns, action.required_paths) == ("/", ("a/b",), ("/a/b",))


def test_exclude_leaves_out() -> None:
    assert copy(build("FROM alpine\nCOPY --exclude=*.md --exclude=t/ . /\n")).exclude_patterns == ("*.md", "t/")


def test_here_documents_become_files() -> None:
    text = "FROM alpine\nENV V=1\nCOPY <<a.txt <<\"b.txt\" /d/\n$V '$V'\na.txt\n$V\nb.txt\n"
    built = build(text)
    made = [node.op.actions[0].action for node in built.nodes if isinstance(node.op, FileOp)][:2]
    assert made == [MakeFile("/a.txt", 0o644, b"1 '1'\n"), MakeFile("/b.txt", 0o644, b"$V\n")]
    assert built.history[-1] == "COPY <<a.txt <<b.txt /d/ # buildkit"


def test_add_fetches_urls_and_unpacks_local_archives_alone() -> None:
    digest = f"sha256:{'0' * 64}"
    built = build(f"FROM alpine\nADD --checksum={digest} https://example.test/x/y.tar?q=1 /d\n")
    assert built.source("https://example.test/x/y.tar?q=1") == {"http.filename": "y.tar", "http.checksum": digest}
    assert (copy(built).src, copy(built).attempt_unpack) == ("/y.tar", False)
    assert copy(build("FROM alpine\nADD --unpack https://example.test/y.tar /d\n")).attempt_unpack
    assert copy(build("FROM alpine\nADD y.tar /d\n")).attempt_unpack
    assert not copy(build("FROM alpine\nADD --unpack=false y.tar /d\n")).attempt_unpack


@pytest.mark.parametrize("url", ["https://example.test", "https://example.test/..", "https://example.test/a/"])
def test_a_url_without_a_file_name_cannot_choose_a_path(url: str) -> None:
    assert copy(build(f"FROM alpine\nADD {url} /d\n")).src == "/__unnamed__"


def test_add_clones_repositories() -> None:
    built = build("FROM alpine\nADD --keep-git-dir=true https://example.test/r.git#v1:sub /d\n")
    assert built.source("git://example.test/r.git#v1:sub")["git.keepgitdir"] == "true"
    assert copy(built).src == "/"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("COPY https://example.test/x /", "source can't be a URL for COPY"),
        ("COPY https://example.test/x.git /", "source can't be a git ref for COPY"),
        (f"ADD --checksum=sha256:{'0' * 64} a /", r"checksum requires HTTP\(S\) or Git sources"),
        ("ADD --checksum=md5:1 https://example.test/a /", "digest"),
        (f"ADD --checksum=sha256:{'0' * 64} https://example.test/a b /", "multiple sources"),
        ("ADD https://example.test/x.git?tag=a&branch=b /", "branch conflicts with tag"),
        ("COPY --from=$X a /", "variable expansion is not supported for --from"),
        ("COPY a", "requires at least two arguments"),
        ("COPY --chwon=1 a /", r"unknown flag: --chwon \(did you mean chmod\?\)"),
        ("COPY --chown=:1 a /", "invalid chown parameter"),
    ],
)
def test_what_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words):
        build(f"FROM alpine\n{text}\n")


def test_work_directory_is_made_for_its_user_and_the_root_is_not() -> None:
    built = build("FROM alpine\nUSER app\nWORKDIR /\nWORKDIR ../a/./b\n")
    action = built.change().action
    assert isinstance(action, MakeDirectory)
    assert (action.path, action.make_parents, action.owner) == ("/a/b", True, Owner(UserName("app", input=0)))
    assert built.config["config"]["WorkingDir"] == "/a/b"
    assert built.history == ["USER app", "WORKDIR /", "WORKDIR /a/b"]
    assert built.config["history"][-2]["empty_layer"] is True
    assert "empty_layer" not in built.config["history"][-1]


def test_an_absolute_work_directory_stays_as_it_is_written_and_an_empty_one_changes_nothing() -> None:
    built = build("FROM alpine\nWORKDIR /a//b/../c/\nRUN x\nWORKDIR $NOPE\nWORKDIR d\n")
    assert built.run().process.cwd == "/a/c"
    assert built.history[0] == "WORKDIR /a//b/../c/"
    assert built.history[-2:] == ["WORKDIR /a/c", "WORKDIR /a/c/d"]
