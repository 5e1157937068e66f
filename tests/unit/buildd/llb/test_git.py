"""Addresses of repositories."""

import pytest

from buildd.llb.git import GitReference, clone, parse_git_reference
from buildd.llb.ops import Metadata, SourceOp
from sampan.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h.test/a/b.git", GitReference("https://h.test/a/b.git")),
        ("https://h.test/b.git#v1:sub/dir", GitReference("https://h.test/b.git", "v1", "sub/dir")),
        ("https://h.test/b.git#:sub", GitReference("https://h.test/b.git", "", "sub")),
        ("git@h.test:a/b.git#x", GitReference("git@h.test:a/b.git", "x")),
        ("ssh://git@h.test:22/b", GitReference("ssh://git@h.test:22/b")),
        ("git://h.test/b", GitReference("git://h.test/b")),
        ("https://h.test/b.git?tag=v1", GitReference("https://h.test/b.git", "refs/tags/v1")),
        (
            "https://h.test/b.git?branch=m&subdir=d&keep-git-dir&submodules=false&checksum=abc",
            GitReference("https://h.test/b.git", "refs/heads/m", "d", "abc", keep_git_dir=True, submodules=False),
        ),
        ("https://h.test/b.git?commit=abc", GitReference("https://h.test/b.git", "abc", checksum="abc")),
        ("https://h.test/b.tar", None),
        ("./b.git", None),
        ("a/b.git", None),
        ("", None),
    ],
)
def test_what_is_a_repository(text: str, expected: GitReference | None) -> None:
    assert parse_git_reference(text) == expected


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("ref=a&ref=b", "multiple values"),
        ("ref=", "has no value"),
        ("nope=1", 'unexpected query "nope"'),
        ("tag=a&branch=b", "branch conflicts with tag"),
        ("submodules=perhaps", "invalid submodules value"),
        ("ref=b#a", "ref conflicts"),
        ("subdir=b#:a", "subdir conflicts"),
    ],
)
def test_parameters_that_cannot_be_are_refused(query: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        parse_git_reference(f"https://h.test/b.git?{query}")


def test_what_is_fetched_over_ssh_needs_the_clients_agent() -> None:
    reference = parse_git_reference("git@h.test:a/b.git#x")
    assert reference is not None
    op = clone(reference, Metadata()).node.op
    assert isinstance(op, SourceOp)
    assert op.identifier == "git://h.test/a/b.git#x"
    assert op.attrs["git.mountsshsock"] == "default"
    assert op.attrs["git.fullurl"] == "git@h.test:a/b.git"
