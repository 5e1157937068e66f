"""What registries are asked without a pull: what a name means, what there is, who may come in."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import DockerClient as Sdk
from docker.errors import APIError, NotFound

from tests.support.docker_client import DockerClient, Result, result_of
from tests.support.engine import SAMPAN, Engine
from tests.support.images import Entry, Image, layer, push, push_index, tar
from tests.support.registry import Registry, run_registry
from tests.support.web_registry import WebRegistry, run_web_registry

Unique = Callable[[str], str]

ALICE = ("alice", "s3:cret")
FOUND = [
    {"name": "team/app", "description": "An app\nof " + "many words " * 9, "star_count": 12, "is_official": False},
    {"name": "base", "description": "", "star_count": 3, "is_official": True, "is_automated": True},
]


def image(architecture: str) -> Image:
    """Return a small image."""
    return Image([layer(tar(Entry("file", architecture.encode())))], architecture=architecture)


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that lets in one user."""
    with run_registry(tmp_path_factory.mktemp("private"), credentials=ALICE) as running:
        push(running, "app", "1", image("amd64"))
        yield running


@pytest.fixture
def searched() -> Iterator[WebRegistry]:
    """A registry that offers a search."""
    with run_web_registry() as registry:
        registry.found = FOUND
        yield registry


def test_the_sdk_is_told_what_a_name_means(sdk: Sdk, registry: Registry, unique: Unique) -> None:
    name = unique("app")
    digest = push_index(registry, name, "1", [image("amd64"), image("arm64")], oci=True)
    found = sdk.images.get_registry_data(f"{registry.address}/{name}:1")
    assert found.id == digest
    assert found.has_platform("linux/arm64")
    assert not found.has_platform("linux/s390x")
    with pytest.raises(NotFound, match="manifest unknown"):
        sdk.images.get_registry_data(f"{registry.address}/{name}:2")
    with pytest.raises(APIError, match=r"repository name .* must be lowercase"):
        sdk.images.get_registry_data(f"{registry.address}/UPPER:1")


def test_the_sdk_shows_who_asks(sdk: Sdk, private: Registry) -> None:
    name = f"{private.address}/app:1"
    who = {"username": ALICE[0], "password": ALICE[1]}
    assert sdk.images.get_registry_data(name, auth_config=who).has_platform("linux/amd64")
    with pytest.raises(APIError, match=r"unauthorized|no basic auth credentials"):
        sdk.images.get_registry_data(name, auth_config=who | {"password": "wrong"})
    with pytest.raises(APIError, match="no basic auth credentials"):
        sdk.images.get_registry_data(name)


def test_all_tags_of_a_repository_are_pulled(
    engine: Engine, docker: DockerClient, registry: Registry, unique: Unique
) -> None:
    repository = unique("many")
    for tag in ("1", "2", "old"):
        push(registry, repository, tag, Image([layer(tar(Entry(tag)))]))
    name = f"{registry.address}/{repository}"
    tags = {f"{name}:{tag}" for tag in ("1", "2", "old")}
    pulled = docker("pull", "--all-tags", name).lines
    assert pulled[-2:] == [f"Status: Downloaded newer image for {name}", name]
    assert {line for line in pulled if "Pulling from" in line} == {
        f"{tag}: Pulling from {repository}" for tag in ["1", "2", "old"]
    }
    assert set(docker("images", "--format", "{{.Repository}}:{{.Tag}}", name).lines) == tags
    again = docker("pull", "--all-tags", name).lines
    assert again[-2] == f"Status: Image is up to date for {name}"
    docker("rmi", *tags)
    assert engine.sampan("pull", "--quiet", "--all-tags", name).line == name
    assert engine.sampan_fails("pull", "--all-tags", f"{name}:1").code == 1
    docker("rmi", *tags)
    missing = docker.fails("pull", "--all-tags", f"{name}-none")
    assert (missing.code, "not known to registry" in missing.stderr) == (1, True), missing.stderr


def test_search_lists_what_the_registry_finds(docker: DockerClient, searched: WebRegistry) -> None:
    header, app, base = docker("search", f"{searched.address}/a").lines
    assert header.split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    assert app.split("   ")[:2] == ["team/app", "An app of many words many words many words m…"]
    assert app.split()[-1] == "12"
    assert base.split() == ["base", "3", "[OK]"]
    assert searched.requests[-1] == "GET /v1/search?q=a&n=25"
    official = docker("search", "--filter", "is-official=true", "--limit", "7", f"{searched.address}/a")
    assert [line.split()[0] for line in official.lines] == ["NAME", "base"]
    assert searched.requests[-1] == "GET /v1/search?q=a&n=7"
    assert len(docker("search", "--filter", "stars=10", f"{searched.address}/a").lines) == 2


def test_search_says_what_is_wrong_in_dockers_words(docker: DockerClient, registry: Registry) -> None:
    none = docker.fails("search", f"{registry.address}/a")
    assert (none.code, none.stderr) == (1, "Error response from daemon: Unexpected status code 404\n")
    limit = docker.fails("search", "--limit", "101", f"{registry.address}/a")
    assert "limit 101 is outside the range of [1, 100]" in limit.stderr
    bad = docker.fails("search", "--filter", "stars=many", f"{registry.address}/a")
    assert "invalid filter 'stars=[many]'" in bad.stderr


def test_sampan_searches_like_docker(
    engine: Engine, docker: DockerClient, searched: WebRegistry, registry: Registry
) -> None:
    for arguments in ([], ["--no-trunc"], ["--filter", "stars=10"], ["--format", "{{.Name}} {{.IsOfficial}}"]):
        ours = engine.sampan("search", *arguments, f"{searched.address}/a").stdout
        theirs = docker("search", *arguments, f"{searched.address}/a").stdout
        assert [line.rstrip() for line in ours.splitlines()] == [line.rstrip() for line in theirs.splitlines()]
    none = engine.sampan_fails("search", f"{registry.address}/a")
    assert (none.code, none.stderr) == (1, "sampan: Unexpected status code 404\n")


def run_sampan(engine: Engine, config: Path, *arguments: str, input: str = "") -> Result:
    """Run ``sampan`` with another user's configuration, and helpers from the same directory."""
    env = engine.env() | {"DOCKER_CONFIG": str(config)}
    env["PATH"] = f"{config}:{env['PATH']}"
    done = subprocess.run([SAMPAN, *arguments], input=input.encode(), capture_output=True, timeout=60, env=env)
    return result_of(done)


def test_login_is_remembered_until_logout(engine: Engine, private: Registry, tmp_path: Path) -> None:
    name, who = f"{private.address}/app:1", ("--username", ALICE[0], "--password-stdin", private.address)
    before = run_sampan(engine, tmp_path, "pull", "--quiet", name)
    assert (before.code, "no basic auth credentials" in before.stderr) == (1, True)
    wrong = run_sampan(engine, tmp_path, "login", *who, input="wrong")
    assert (wrong.code, "unauthorized: authentication required" in wrong.stderr) == (1, True)
    right = run_sampan(engine, tmp_path, "login", *who, input=f"{ALICE[1]}\n")
    assert (right.code, right.stdout) == (0, "Login Succeeded\n")
    assert f"stored unencrypted in '{tmp_path}/config.json'" in right.stderr
    again = run_sampan(engine, tmp_path, "login", private.address)
    assert "Authenticating with existing credentials... [Username: alice]" in again.stderr
    assert (again.code, again.stdout) == (0, "Login Succeeded\n")
    assert run_sampan(engine, tmp_path, "pull", "--quiet", name).code == 0
    gone = run_sampan(engine, tmp_path, "logout", private.address)
    assert gone.stdout == f"Removing login credentials for {private.address}\n"
    assert json.loads((tmp_path / "config.json").read_text()) == {"auths": {}}
    engine.sampan("rmi", name)


def test_what_docker_login_keeps_sampan_uses_and_the_other_way_round(
    engine: Engine, docker: DockerClient, private: Registry, tmp_path: Path
) -> None:
    who = ("--username", ALICE[0], "--password-stdin", private.address)
    user = DockerClient(docker.host, tmp_path)
    user("login", *who, input=ALICE[1])
    assert run_sampan(engine, tmp_path, "pull", "--quiet", f"{private.address}/app:1").code == 0
    user("logout", private.address)
    assert run_sampan(engine, tmp_path, "login", *who, input=ALICE[1]).code == 0
    user("push", "--quiet", f"{private.address}/app:1")
    engine.sampan("rmi", f"{private.address}/app:1")


def test_helper_that_is_missing_or_prints_garbage_is_named(engine: Engine, private: Registry, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {private.address: "of-the-tests"}}))
    missing = run_sampan(engine, tmp_path, "pull", f"{private.address}/app:1")
    assert (missing.code, missing.stderr) == (
        1,
        "sampan: credential helper docker-credential-of-the-tests is not in $PATH\n",
    )
    helper = tmp_path / "docker-credential-of-the-tests"
    helper.write_text("#!/bin/sh\necho '<html>'\n")
    helper.chmod(0o755)
    garbage = run_sampan(engine, tmp_path, "pull", f"{private.address}/app:1")
    assert (garbage.code, "docker-credential-of-the-tests get: the answer is not" in garbage.stderr) == (1, True)
    helper.write_text(f"""#!/bin/sh\necho '{{"Username": "{ALICE[0]}", "Secret": "{ALICE[1]}"}}'\n""")
    assert run_sampan(engine, tmp_path, "pull", "--quiet", f"{private.address}/app:1").code == 0
    engine.sampan("rmi", f"{private.address}/app:1")
