"""Patterns in filters and log options: Docker's language, and never more time than the text is long."""

from collections.abc import Callable, Iterator

import pytest

from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient

HOSTILE = ("(a+)+$", "(a|a)*b", "(.*)*!", "(a+a+)+b")


@pytest.fixture
def long_name(docker: DockerClient, image: str) -> Iterator[str]:
    """A name that a backtracking matcher needs years for."""
    name = "a" * 60 + "b"
    docker("create", "--name", name, image, "true")
    yield name
    docker("rm", "--force", name)


@pytest.mark.parametrize("pattern", HOSTILE)
def test_pattern_that_would_backtrack_for_ever_is_answered(docker: DockerClient, long_name: str, pattern: str) -> None:
    del long_name
    for command in (("ps", "--all"), ("network", "ls"), ("volume", "ls")):
        for key in ("name", "id"):
            if (command[0], key) != ("volume", "id"):
                docker(*command, "--quiet", "--filter", f"{key}={pattern}", timeout=60)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [(r"^a{60}b$", True), (r"^/a+b$", True), (r"\Aa+?b\z", True), (r"(?i)^A+B$", True), (r"^[[:alpha:]]+a$", False)],
)
def test_name_filter_is_written_in_gos_language(
    docker: DockerClient, long_name: str, pattern: str, found: bool
) -> None:
    listed = docker("ps", "--all", "--filter", f"name={pattern}", "--format", "{{.Names}}").lines
    assert (long_name in listed) is found


def test_networks_volumes_and_ids_are_filtered_by_patterns_too(
    docker: DockerClient, unique: Callable[[str], str]
) -> None:
    volume = unique("v")
    docker("volume", "create", volume)
    assert docker("volume", "ls", "--quiet", "--filter", f"name=^{volume[:-1]}.$").lines == [volume]
    docker("volume", "rm", volume)
    assert docker("network", "ls", "--filter", "name=^br.dge$", "--format", "{{.Name}}").lines == ["bridge"]
    bridge = docker("network", "inspect", "bridge", "--format", "{{.Id}}").stdout.strip()
    assert docker("network", "ls", "--no-trunc", "--quiet", "--filter", f"id={bridge[-8:]}$").lines == [bridge]


@pytest.mark.skipif(bool(TARGET), reason="dockerd takes a pattern that it cannot compile for one that matches nothing")
@pytest.mark.parametrize("command", [("ps",), ("network", "ls"), ("volume", "ls")])
def test_bad_pattern_is_refused_in_gos_words(docker: DockerClient, command: tuple[str, ...]) -> None:
    failed = docker.fails(*command, "--filter", "name=(a")
    assert failed.code == 1
    assert "invalid filter 'name': error parsing regexp: missing closing ): `(a`" in failed.stderr


@pytest.mark.usefixtures("nothing_left")
def test_bad_pattern_of_a_log_option_is_refused(docker: DockerClient, image: str) -> None:
    failed = docker.fails("run", "--rm", "--log-opt", "labels-regex=(a", image, "true")
    assert failed.code != 0
    assert "error parsing regexp: missing closing ): `(a`" in failed.stderr
