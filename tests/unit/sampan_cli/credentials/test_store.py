import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import InvalidArgumentError, NotFoundError, UnauthenticatedError
from sampan.resource.image import Credentials
from sampan_cli.credentials.store import CredentialStore, config_path

ALICE = Credentials(username="alice", password="s3:cret")

HELPER = """#!/bin/sh
store=%s
case $1 in
    store) cat >"$store" ;;
    get) if [ -e "$store" ]; then cat "$store"; else echo "credentials not found"; exit 1; fi ;;
    erase) rm -f "$store" ;;
esac
"""


def write(path: Path, config: dict[str, Any]) -> CredentialStore:
    path.write_text(json.dumps(config))
    return CredentialStore(path)


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "docker-credential-test"
    program.write_text(HELPER % (tmp_path / "secret"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "secret"


def test_file_is_where_docker_keeps_it() -> None:
    assert config_path({"DOCKER_CONFIG": "/etc/dc"}) == Path("/etc/dc/config.json")
    assert config_path({}) == Path.home() / ".docker" / "config.json"


async def test_stored_credentials_are_found_again_and_only_the_user_may_read_them(tmp_path: Path) -> None:
    store = CredentialStore(tmp_path / "new" / "config.json")
    assert await store.store("localhost:5000", ALICE) == tmp_path / "new" / "config.json"
    assert await store.get("localhost:5000") == ALICE
    assert await store.get("localhost:5001") is None
    assert stat.S_IMODE((tmp_path / "new" / "config.json").stat().st_mode) == 0o600


async def test_storing_keeps_what_else_is_in_the_file(tmp_path: Path) -> None:
    store = write(tmp_path / "config.json", {"proxies": {"a": 1}, "auths": {"other": {"auth": "x"}}})
    await store.store("localhost:5000", ALICE)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["proxies"] == {"a": 1}
    assert set(config["auths"]) == {"other", "localhost:5000"}


async def test_file_that_is_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "config.json").symlink_to("elsewhere/docker.json")
    await CredentialStore(tmp_path / "config.json").store("localhost:5000", ALICE)
    assert (tmp_path / "config.json").is_symlink()
    assert "localhost:5000" in json.loads((tmp_path / "elsewhere" / "docker.json").read_text())["auths"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["config.json", "elsewhere"]


async def test_image_without_a_registry_uses_the_default_ones_old_key(tmp_path: Path) -> None:
    auth = base64.b64encode(b"alice:s3:cret").decode()
    store = write(tmp_path / "config.json", {"auths": {"https://index.docker.io/v1/": {"auth": auth}}})
    assert await store.for_image("debian:12") == ALICE
    assert await store.for_image("localhost:5000/debian") is None


async def test_registry_may_be_written_as_a_url(tmp_path: Path) -> None:
    auth = base64.b64encode(b"alice:s3:cret").decode()
    store = write(tmp_path / "config.json", {"auths": {"https://registry.example.com": {"auth": auth}}})
    assert await store.for_image("registry.example.com/app") == ALICE


async def test_erased_credentials_are_gone(tmp_path: Path) -> None:
    store = CredentialStore(tmp_path / "config.json")
    await store.store("localhost:5000", ALICE)
    await store.erase("localhost:5000")
    await store.erase("localhost:5000")
    assert await store.get("localhost:5000") is None


async def test_helper_keeps_the_secret_out_of_the_file(tmp_path: Path, helper: Path) -> None:
    store = write(tmp_path / "config.json", {"credsStore": "test"})
    assert await store.get("localhost:5000") is None
    assert await store.store("localhost:5000", ALICE) is None
    assert json.loads(helper.read_text()) == {"ServerURL": "localhost:5000", "Username": "alice", "Secret": "s3:cret"}
    assert "cret" not in (tmp_path / "config.json").read_text()
    assert await store.get("localhost:5000") == ALICE
    await store.erase("localhost:5000")
    assert not helper.exists()
    await store.erase("localhost:5000")


async def test_token_from_a_helper_is_an_identity_token(tmp_path: Path, helper: Path) -> None:
    helper.write_text(json.dumps({"Username": "<token>", "Secret": "refresh"}))
    store = write(tmp_path / "config.json", {"credHelpers": {"localhost:5000": "test"}})
    assert await store.get("localhost:5000") == Credentials(identity_token="refresh")
    assert await store.get("elsewhere.example.com") is None


async def test_missing_helper_is_named(tmp_path: Path) -> None:
    store = write(tmp_path / "config.json", {"credsStore": "nosuch"})
    with pytest.raises(NotFoundError, match="docker-credential-nosuch is not in"):
        await store.get("localhost:5000")


@pytest.mark.parametrize("text", ["{", "[]"])
async def test_file_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidArgumentError, match=r"config\.json"):
        await CredentialStore(tmp_path / "config.json").get("localhost:5000")


# What a helper may do instead of answering, and what is said of it.
BROKEN = {
    "echo '<html>garbage'": "docker-credential-test get: the answer is not an object of Username and Secret",
    "echo '[1]'": "docker-credential-test get: the answer is not an object of Username and Secret",
    """echo '{"Username": 1, "Secret": {}}'""": "docker-credential-test get: the answer is not an object",
    "cat >/dev/null; echo 'the keyring is locked'; exit 1": "docker-credential-test get: the keyring is locked",
    "exit 3": "docker-credential-test get: exit status 3",
    "cat /dev/zero; exit": "docker-credential-test get: the answer is longer than 262144 bytes",
    "exec cat /dev/zero": "docker-credential-test get: the answer is longer than 262144 bytes",
    "sleep 10; exit": r"docker-credential-test get did not answer within 0\.5 seconds",
    "exec sleep 1000": r"docker-credential-test get did not answer within 0\.5 seconds",
    "exec >&-; exec sleep 1000": r"docker-credential-test get did not answer within 0\.5 seconds",
    "printf '\\033[2Jowned'; exit 1": r"docker-credential-test get:  \[2Jowned",
}


@pytest.mark.parametrize("script", BROKEN)
async def test_helper_that_does_not_answer_rightly_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    program = tmp_path / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {"localhost:5000": "test"}}))
    timeout_s = 0.5 if "sleep" in script else 60
    store = CredentialStore(tmp_path / "config.json", timeout_s)
    with pytest.raises(UnauthenticatedError, match=BROKEN[script]):
        await store.get("localhost:5000")


@pytest.mark.parametrize(("content", "mode"), [("#!/bin/sh\n", 0o644), ("#!/no/such/shell\n", 0o755), ("\0", 0o755)])
async def test_helper_that_cannot_be_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, mode: int
) -> None:
    program = tmp_path / "docker-credential-test"
    program.write_text(content)
    program.chmod(mode)
    monkeypatch.setenv("PATH", str(tmp_path))
    store = write(tmp_path / "config.json", {"credsStore": "test"})
    with pytest.raises((NotFoundError, UnauthenticatedError), match="credential helper docker-credential-test"):
        await store.store("localhost:5000", ALICE)


@pytest.mark.parametrize("name", ["../evil", "/bin/sh", ["list"], 7])
async def test_helper_is_a_name_and_not_a_path(tmp_path: Path, name: object) -> None:
    store = write(tmp_path / "config.json", {"credsStore": name})
    with pytest.raises(InvalidArgumentError, match="is not the name of a credential helper"):
        await store.get("localhost:5000")


@pytest.mark.parametrize("entry", [{"auth": 7}, {"username": ["a"]}, {"auth": "***"}])
async def test_entry_that_is_none_is_named(tmp_path: Path, entry: dict[str, Any]) -> None:
    store = write(tmp_path / "config.json", {"auths": {"localhost:5000": entry}})
    with pytest.raises(InvalidArgumentError, match="the credentials of localhost:5000 are not"):
        await store.get("localhost:5000")


async def test_file_says_only_once_that_it_has_new_passwords(tmp_path: Path) -> None:
    store = CredentialStore(tmp_path / "config.json")
    assert await store.store("localhost:5000", ALICE) == tmp_path / "config.json"
    assert await store.store("localhost:5000", ALICE) is None
