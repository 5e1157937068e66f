"""Who may pull, and where credentials go."""

import asyncio
import re

import pytest

from imaged.registry.challenge import Challenge, is_link_local
from sampan.errors import InvalidArgumentError, NotFoundError, RemoteError, UnauthenticatedError
from sampan.resource.image import Credentials
from tests.fakes.registry import REFRESH_TOKEN, TOKEN, FakeRegistry, Fault
from tests.unit.imaged.parts import Parts

ALICE = Credentials("alice", "sesame")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("Basic", (("basic", {}),)),
        ('Basic realm="a b"', (("basic", {"realm": "a b"}),)),
        ("Basic realm=plain", (("basic", {"realm": "plain"}),)),
        (
            'Bearer realm="https://auth/token",service="s",scope="repository:a/b:pull,push"',
            (("bearer", {"realm": "https://auth/token", "service": "s", "scope": "repository:a/b:pull,push"}),),
        ),
        ('Bearer realm="x" , service="y"', (("bearer", {"realm": "x", "service": "y"}),)),
        (r'Basic realm="say \"hi\""', (("basic", {"realm": 'say "hi"'}),)),
        ('Negotiate, Basic realm="r"', (("negotiate", {}), ("basic", {"realm": "r"}))),
        ('Basic realm="r", Bearer realm="b",x=y', (("basic", {"realm": "r"}), ("bearer", {"realm": "b", "x": "y"}))),
        ('BEARER REALM="x"', (("bearer", {"realm": "x"}),)),
        (',,"=;', ()),
        ('Bearer realm="never closed', (("bearer", {}), ("closed", {}))),
    ],
)  # fmt: skip
def test_challenges_are_parsed(text: str, expected: tuple[tuple[str, dict[str, str]], ...]) -> None:
    found = Challenge.parse_all(text)
    if text.endswith("never closed"):
        assert found[0].scheme == "bearer"
        assert found[0].get("realm") == ""
    else:
        assert [(challenge.scheme, dict(challenge.parameters)) for challenge in found] == list(expected)


def test_long_nonsense_is_parsed_in_no_time() -> None:
    assert Challenge.parse_all("a=" * 100_000 + '"' * 100_000) is not None


async def test_basic_authentication_lets_in_who_is_known(parts: Parts) -> None:
    async with FakeRegistry(auth="basic", users={"alice": "sesame"}).running() as registry:
        registry.add_image("x", "1", b"layer")
        await parts.fetch(f"{registry.address}/x:1", credentials=ALICE)


async def test_missing_credentials_are_told_in_dockers_words(parts: Parts) -> None:
    async with FakeRegistry(auth="basic", users={"alice": "sesame"}).running() as registry:
        registry.add_image("x", "1", b"layer")
        with pytest.raises(UnauthenticatedError, match="no basic auth credentials"):
            await parts.fetch(f"{registry.address}/x:1")


async def test_wrong_password_is_unauthenticated(parts: Parts) -> None:
    async with FakeRegistry(auth="basic", users={"alice": "sesame"}).running() as registry:
        registry.add_image("x", "1", b"layer")
        with pytest.raises(UnauthenticatedError, match="unauthorized: authentication required"):
            await parts.fetch(f"{registry.address}/x:1", credentials=Credentials("alice", "wrong"))


async def test_token_is_fetched_once_for_a_repository(parts: Parts) -> None:
    async with FakeRegistry(auth="token", users={"alice": "sesame"}).running() as registry:
        registry.add_image("a/x", "1", b"one", b"two")
        await parts.fetch(f"{registry.address}/a/x:1", credentials=ALICE)
        await parts.fetch(f"{registry.address}/a/x:1", credentials=ALICE)
        assert registry.tokens_given == 1
        (query,) = registry.paths("/token")
        assert "scope=repository%3Aa%2Fx%3Apull" in query
        assert "account=alice" in query


async def test_nothing_is_kept_of_credentials_that_are_refused(parts: Parts) -> None:
    tokens = parts.puller._sources._tokens
    async with FakeRegistry(auth="token", users={"alice": "sesame"}).running() as registry:
        registry.add_image("x", "1", b"layer")
        for number in range(20):
            wrong = Credentials("alice", f"wrong-{number}")
            fetches = (parts.fetch(f"{registry.address}/x:1", credentials=wrong) for _ in range(2))
            results = await asyncio.gather(*fetches, return_exceptions=True)
            assert {type(result) for result in results} == {UnauthenticatedError}
        assert (tokens._turns, len(tokens._cache)) == ({}, 0)
        await parts.fetch(f"{registry.address}/x:1", credentials=ALICE)
        assert (tokens._turns, len(tokens._cache)) == ({}, 1)


async def test_anonymous_token_is_asked_for_without_credentials(parts: Parts) -> None:
    async with FakeRegistry(auth="token").running() as registry:
        registry.add_image("x", "1", b"layer")
        await parts.fetch(f"{registry.address}/x:1")
        assert all("Authorization" not in headers for _, path, headers in registry.requests if "/token" in path)


async def test_token_of_one_user_is_not_used_for_another(parts: Parts) -> None:
    async with FakeRegistry(auth="token", users={"alice": "sesame"}).running() as registry:
        registry.add_image("x", "1", b"layer")
        await parts.fetch(f"{registry.address}/x:1", credentials=ALICE)
        with pytest.raises(UnauthenticatedError, match="incorrect username or password"):
            await parts.fetch(f"{registry.address}/x:1", credentials=Credentials("alice", "wrong"))


async def test_expired_token_is_replaced_once(parts: Parts) -> None:
    async with FakeRegistry(auth="token").running() as registry:
        registry.add_image("x", "1", b"layer")
        await parts.fetch(f"{registry.address}/x:1")
        registry.good_tokens = {"a-new-token"}
        registry.token_answer = {"token": "a-new-token"}
        await parts.fetch(f"{registry.address}/x:1")
        assert registry.tokens_given == 2


async def test_token_that_is_not_enough_is_pull_access_denied(parts: Parts) -> None:
    async with FakeRegistry(auth="token").running() as registry:
        registry.good_tokens = set()
        registry.insufficient_scope = True
        with pytest.raises(NotFoundError) as caught:
            await parts.fetch(f"{registry.address}/x:1")
        assert str(caught.value) == (
            f"pull access denied for {registry.address}/x, repository does not exist or may require 'docker login': "
            "denied: requested access to the resource is denied"
        )


async def test_identity_token_is_posted(parts: Parts) -> None:
    async with FakeRegistry(auth="token").running() as registry:
        registry.add_image("x", "1", b"layer")
        await parts.fetch(f"{registry.address}/x:1", credentials=Credentials(identity_token=REFRESH_TOKEN))
        assert [method for method, path, _ in registry.requests if path == "/token"] == ["POST"]


async def test_registry_token_is_sent_as_it_is(parts: Parts) -> None:
    async with FakeRegistry(auth="token").running() as registry:
        registry.add_image("x", "1", b"layer")
        await parts.fetch(f"{registry.address}/x:1", credentials=Credentials(registry_token=TOKEN))
        assert registry.tokens_given == 0


@pytest.mark.parametrize(
    ("realm", "complaint"),
    [
        ("file:///etc/passwd", "not http or https"),
        ("ftp://127.0.0.1/token", "not http or https"),
        ("http://169.254.169.254/token", "link-local"),
        ("http://[fe80::1]/token", "link-local"),
        ("http://[not-an-address/token", "not a URL"),
        ("http://127.0.0.1:99999/token", "not a URL"),
        ("http://127.0.0.1/to ken", "not a URL"),
        ("http:///token", "not http or https"),
        ("", "not http or https"),
    ],
)
async def test_realm_that_must_not_be_asked_is_refused(parts: Parts, realm: str, complaint: str) -> None:
    async with FakeRegistry(auth="token").running() as registry:
        registry.realm = realm or " "
        with pytest.raises(RemoteError, match=complaint):
            await parts.fetch(f"{registry.address}/x:1", credentials=ALICE)


@pytest.mark.parametrize("status", [429, 503])
async def test_token_server_that_is_busy_is_asked_again(parts: Parts, status: int) -> None:
    async with FakeRegistry(auth="token").running() as registry:
        registry.add_image("x", "1", b"layer")
        registry.faults.append(Fault("/token", times=2, status=status, headers={"Retry-After": "0"}))
        await parts.fetch(f"{registry.address}/x:1")
        assert parts.metrics.get_sample_value("sampan_image_pull_retries_total") == 2
        registry.token_answer, registry.good_tokens = None, {"none"}
        registry.faults.append(Fault("/token", times=99, status=status))
        with pytest.raises(RemoteError, match=f"/token.*: {'toomanyrequests' if status == 429 else 'unknown'}"):
            await parts.fetch(f"{registry.address}/y:1")


@pytest.mark.parametrize("answer", [{}, {"token": 7}, {"token": "line\nbreak"}, {"token": None, "access_token": ""}])
async def test_token_answer_without_a_token_is_told(parts: Parts, answer: dict[str, object]) -> None:
    async with FakeRegistry(auth="token").running() as registry:
        registry.token_answer = answer or {"nothing": "here"}
        with pytest.raises(RemoteError, match="did not include a token"):
            await parts.fetch(f"{registry.address}/x:1")


async def test_credentials_do_not_follow_a_redirect_to_another_host(parts: Parts) -> None:
    async with (
        FakeRegistry(auth="basic", users={"alice": "sesame"}).running() as registry,
        FakeRegistry().running() as storage,
    ):
        registry.add_image("x", "1", b"layer")
        storage.add_image("x", "1", b"layer")
        for digest in registry.blobs:
            location = f"{storage.url}/v2/x/blobs/{digest}?signature=a%2Fb"
            registry.faults.append(Fault(f"/blobs/{digest}", status=307, headers={"Location": location}))
        await parts.fetch(f"{registry.address}/x:1", credentials=ALICE)
        assert len(storage.requests) == 2
        for _, path, headers in storage.requests:
            assert "Authorization" not in headers
            assert path.endswith("?signature=a%2Fb")


async def test_credentials_follow_a_redirect_on_the_same_host(parts: Parts) -> None:
    async with FakeRegistry(auth="basic", users={"alice": "sesame"}).running() as registry:
        registry.add_image("x", "1", b"layer")
        registry.faults.append(Fault("/manifests/1", status=302, headers={"Location": "/v2/x/manifests/1"}))
        await parts.fetch(f"{registry.address}/x:1", credentials=ALICE)


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("file:///etc/passwd", "not http or https"),
        ("http://169.254.169.254/latest", "link-local"),
        ("//[fe80::1]/x", "link-local"),
        ("http://[not-an-address", "not a URL"),
        ("http://127.0.0.1:port/", "not a URL"),
        ("http://127.0.0.1/a b", "not a URL"),
        ("/v2/x/manifests/1", "stopped after 10 redirects"),
    ],
)
async def test_redirect_that_must_not_be_followed_is_refused(
    parts: Parts, registry: FakeRegistry, location: str, complaint: str
) -> None:
    registry.faults.append(Fault("/manifests/", times=99, status=302, headers={"Location": location}))
    with pytest.raises(RemoteError, match=complaint):
        await parts.fetch(f"{registry.address}/x:1")


async def test_login_says_who_is_known(parts: Parts) -> None:
    async with FakeRegistry(auth="basic", users={"alice": "sesame"}).running() as registry:
        assert await parts.login.check(registry.address, ALICE) == ""
        with pytest.raises(UnauthenticatedError):
            await parts.login.check(registry.address, Credentials("alice", "wrong"))


async def test_login_returns_the_identity_token_of_a_token_server(parts: Parts) -> None:
    async with FakeRegistry(auth="token", users={"alice": "sesame"}).running() as registry:
        assert await parts.login.check(registry.address, ALICE) == REFRESH_TOKEN
        with pytest.raises(UnauthenticatedError, match="incorrect username or password"):
            await parts.login.check(registry.address, Credentials("alice", "wrong"))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("169.254.169.254", True),
        ("fe80::1", True),
        ("fe80::1%eth0", True),
        ("::ffff:169.254.169.254", True),
        ("10.0.0.1", False),
        ("registry.example", False),
    ],
)
def test_link_local_addresses_are_known(address: str, expected: bool) -> None:
    assert is_link_local(address) is expected


def test_token_that_would_break_the_header_is_refused() -> None:
    with pytest.raises(InvalidArgumentError):
        Credentials(registry_token="good\r\nEvil: yes")


async def test_token_that_lives_for_ever_is_no_trouble(parts: Parts) -> None:
    async with FakeRegistry(auth="token").running() as registry:
        registry.add_image("x", "1", b"layer")
        registry.token_answer = {"token": TOKEN, "expires_in": 10**400}
        await parts.fetch(f"{registry.address}/x:1")


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials("alice", "sesame", "identity", "registry"))
    assert "alice" in shown
    assert not re.search("sesame|identity'|registry'", shown)
