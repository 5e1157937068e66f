"""Values of ``sampan build``'s flags."""

import socket
from pathlib import Path

import pytest

from sampan.build.request import CacheOption, Export
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan_cli.options.build import (
    Output,
    SecretSource,
    attestations,
    build_arguments,
    is_remote,
    parse_cache,
    parse_context,
    parse_output,
    parse_secret,
    parse_ssh,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id=a,src=/x", SecretSource("a", Path("/x"))),
        ("id=a,source=y", SecretSource("a", Path("y"))),
        ("type=file,id=a", SecretSource("a", Path("a"))),
        ("id=a,env=B", SecretSource("a", variable="B")),
        ("type=env,id=a,src=B", SecretSource("a", variable="B")),
        ("id=IN_ENV", SecretSource("IN_ENV", variable="IN_ENV")),
        ('"id=a","src=/x,y"', SecretSource("a", Path("/x,y"))),
    ],
)
def test_secrets(text: str, expected: SecretSource) -> None:
    assert parse_secret(text, {"IN_ENV": "1"}) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("src=/x", "has no id"),
        ("id=a,colour=red", "unexpected key 'colour'"),
        ("type=moon,id=a", "unsupported secret type 'moon'"),
        ("a", "expected key=value"),
    ],
)
def test_secrets_that_cannot_be(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        parse_secret(text, {})


def test_a_secret_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "s"
    file.write_bytes(b"x\0y")
    assert SecretSource("a", file).read({}) == b"x\0y"
    assert SecretSource("a", variable="B").read({"B": "v"}) == b"v"
    with pytest.raises(NotFoundError, match="B is not set"):
        SecretSource("a", variable="B").read({})
    with pytest.raises(NotFoundError, match="no such file"):
        SecretSource("a", tmp_path / "gone").read({})
    file.write_bytes(bytes((500 << 10) + 1))
    with pytest.raises(InvalidArgumentError, match=r"secret a too big\. max size 500KiB"):
        SecretSource("a", file).read({})


def test_a_secret_s_file_is_looked_at_before_the_build(tmp_path: Path) -> None:
    file = tmp_path / "s"
    with pytest.raises(InvalidArgumentError, match=r"failed to stat .*/s: no such file or directory"):
        SecretSource("a", file).check()
    file.write_bytes(bytes(500 << 10))
    SecretSource("a", file).check()
    SecretSource("a", variable="B").check()
    file.write_bytes(bytes((500 << 10) + 1))
    with pytest.raises(InvalidArgumentError, match="secret a too big"):
        SecretSource("a", file).check()


def test_agents(tmp_path: Path) -> None:
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        assert parse_ssh("default", {"SSH_AUTH_SOCK": str(path)}) == ("default", path)
        assert parse_ssh(f"work={path}", {}) == ("work", path)
    with pytest.raises(InvalidArgumentError, match="make sure SSH_AUTH_SOCK is set"):
        parse_ssh("default", {})
    key = tmp_path / "id_ed25519"
    key.write_text("key")
    with pytest.raises(InvalidArgumentError, match="ssh-add"):
        parse_ssh(f"default={key}", {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("out", Output(Export("local"), Path("out"))),
        ("-", Output(Export("tar"), to_stdout=True)),
        ("type=local,dest=out", Output(Export("local", {}), Path("out"))),
        ("type=tar,dest=-", Output(Export("tar", {}), to_stdout=True)),
        ("type=oci,dest=x.tar,name=a", Output(Export("oci", {"name": "a"}), Path("x.tar"))),
        ("type=docker,dest=x.tar", Output(Export("docker", {}), Path("x.tar"))),
        ("type=docker,name=a", Output(Export("image", {"name": "a"}))),
        ("type=image,name=a,push=true", Output(Export("image", {"name": "a", "push": "true"}))),
        ("type=registry,name=a", Output(Export("image", {"name": "a", "push": "true"}))),
    ],
)
def test_outputs(text: str, expected: Output) -> None:
    assert parse_output(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dest=x", "type is required"),
        ("type=moon", "unknown output type 'moon'"),
        ("type=local", "dest is required for local output"),
        ("type=local,dest=-", "dest cannot be stdout"),
        ("type=oci,dest=x,tar=false", "tar=false is not supported"),
        ('type=oci,dest="x"', r'invalid output .*: parse error on line 1, column 15: bare "'),
    ],
)
def test_outputs_that_cannot_be(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        parse_output(text)


def test_caches_contexts_and_arguments() -> None:
    assert parse_cache("user/app:cache") == CacheOption("registry", {"ref": "user/app:cache"})
    assert parse_cache("type=local,src=c") == CacheOption("local", {"src": "c"})
    with pytest.raises(InvalidArgumentError, match="type is required for cache"):
        parse_cache("ref=x")
    assert parse_context("base=docker-image://alpine") == ("base", "docker-image://alpine")
    with pytest.raises(InvalidArgumentError, match="expected key=value"):
        parse_context("base")
    assert build_arguments(["A=1", "HERE", "GONE", "A=2"], {"HERE": "h"}) == {"A": "2", "HERE": "h"}
    with pytest.raises(InvalidArgumentError, match="empty name"):
        build_arguments(["=x"], {})


def test_attestations_have_short_forms() -> None:
    assert attestations([], None, None) == {}
    assert attestations(["type=provenance,mode=max"], None, "false") == {
        "attest:provenance": "mode=max",
        "attest:sbom": "disabled=true",
    }
    assert attestations([], "max", None) == {"attest:provenance": "mode=max"}
    with pytest.raises(InvalidArgumentError, match="duplicate attestation field provenance"):
        attestations(["type=provenance"], "true", None)
    with pytest.raises(InvalidArgumentError, match="'moon' is not known"):
        attestations(["type=moon"], None, None)


@pytest.mark.parametrize(
    ("context", "remote"),
    [(".", False), ("-", False), ("https://x/y.git", True), ("git@x:y", True), ("github.com/a/b", True)],
)
def test_some_contexts_are_fetched_by_the_builder(context: str, remote: bool) -> None:
    assert is_remote(context) is remote
