"""Names, digests, ranges and passwords, as they come over the wire."""

from base64 import b64encode
from pathlib import Path

import bcrypt
import pytest

from registryd.http.call import parse_digest, parse_repository, parse_target
from registryd.http.htpasswd import Htpasswd, parse_htpasswd
from registryd.repositories.ranges import Span, parse_content_range, parse_range
from registryd.repositories.refusal import Code, RefusedError
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest
from sampan.service.listening import Address, parse_address

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize("name", ["a", "a/b/c", "a.b_c-d/e__f", "a---b", "0/1", "x" * 255])
def test_repository_names_of_the_spec_are_taken(name: str) -> None:
    assert parse_repository(name) == name


@pytest.mark.parametrize("name", ["", "A", "a/", "/a", "a//b", "a..b", "a___b", ".a", "a.", "ä", "a\n", "x" * 256])
def test_other_repository_names_are_refused(name: str) -> None:
    with pytest.raises(RefusedError, match="invalid repository name") as refused:
        parse_repository(name)
    assert refused.value.code is Code.NAME_INVALID


def test_target_is_a_digest_or_a_tag() -> None:
    assert isinstance(parse_target(DIGEST), Digest)
    assert parse_target("v1.2-x_Y") == "v1.2-x_Y"
    for text, code in ((".x", Code.TAG_INVALID), ("a\n", Code.TAG_INVALID), ("sha256:x", Code.DIGEST_INVALID)):
        with pytest.raises(RefusedError) as refused:
            parse_target(text)
        assert refused.value.code is code


def test_digest_of_another_algorithm_is_refused() -> None:
    with pytest.raises(RefusedError, match="expected sha256"):
        parse_digest("sha512:" + "a" * 128)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=0-", Span(0, 10)),
        ("bytes=3-5", Span(3, 3)),
        ("bytes=3-99", Span(3, 7)),
        ("bytes=-4", Span(6, 4)),
        ("bytes=-99", Span(0, 10)),
        ("bytes=0-1,3-4", None),
        ("bytes=5-3", None),
        ("bytes=-", None),
        ("lines=1-2", None),
    ],
)
def test_range_is_the_part_that_there_is(header: str | None, span: Span | None) -> None:
    assert parse_range(header, 10) == span


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_range_of_nothing_is_refused(header: str) -> None:
    with pytest.raises(RefusedError) as refused:
        parse_range(header, 10)
    assert refused.value.headers == {"Content-Range": "bytes */10"}


def test_content_range_says_where_a_chunk_begins() -> None:
    assert parse_content_range(None, 5) is None
    assert parse_content_range("10-14", 5) == 10
    assert parse_content_range("bytes 10-14/*", 5) == 10
    assert parse_content_range("10-14", None) == 10
    for header, length in (("10-14", 4), ("14-10", 5), ("x", 1), ("-5", 5)):
        with pytest.raises(RefusedError):
            parse_content_range(header, length)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("[::1]:80", "[::1]:80"),
        (":5000", "0.0.0.0:5000"),
        ("reg.lan:0", "reg.lan:0"),
    ],
)
def test_address_is_a_host_and_a_port(text: str, address: str) -> None:
    assert str(parse_address(text)) == address


@pytest.mark.parametrize("text", ["", "5000", "host", "host:", "host:x", "host:70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected host:port"):
        parse_address(text)
    assert Address("::1", 1).port == 1


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


async def test_user_is_who_has_the_password(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(f"# people\n\nalice:{hashed('sesame')}\nbob:{hashed('pass:word')}\n")
    users = Htpasswd(file)
    for _ in range(2):  # the second time it is remembered
        assert await users.accepts(basic("alice", "sesame")) == "alice"
        assert await users.accepts(basic("bob", "pass:word")) == "bob"
        for wrong in (basic("alice", "pass:word"), basic("carol", "nobody"), basic("", ""), None, "", "Bearer x"):
            assert await users.accepts(wrong) is None
        for nonsense in ("Basic !", "Basic " + b64encode(b"\xff:x").decode(), "Basic " + b64encode(b"alice").decode()):
            assert await users.accepts(nonsense) is None


async def test_password_that_changed_is_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(f"alice:{hashed('old')}\n")
    users = Htpasswd(file)
    assert await users.accepts(basic("alice", "old")) == "alice"
    file.write_text(f"alice:{hashed('new')}\n#\n")
    assert await users.accepts(basic("alice", "old")) is None
    assert await users.accepts(basic("alice", "new")) == "alice"
    file.unlink()
    assert await users.accepts(basic("alice", "new")) == "alice"


async def test_hash_that_is_cut_short_lets_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(f"alice:{hashed('x')[:20]}\n")
    assert await Htpasswd(file).accepts(basic("alice", "x")) is None


@pytest.mark.parametrize("line", ["alice", ":x", "alice:{SHA}abc", "alice:$apr1$x$y", "alice:plain"])
def test_line_without_a_bcrypt_hash_is_named(line: str) -> None:
    with pytest.raises(InvalidArgumentError, match="users, line 2: "):
        parse_htpasswd(f"#\n{line}\n", "users")
