"""API versions."""

import pytest

from dockerapi.http.versions import NEWEST, known, split
from sampan.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("path", "version", "rest"),
    [
        ("/v1.24/info", (1, 24), "/info"),
        ("/v1.50/containers/v1.2/json", (1, 50), "/containers/v1.2/json"),
        ("/info", NEWEST, "/info"),
        ("/volumes/x", NEWEST, "/volumes/x"),
    ],
)
def test_the_version_is_taken_off_the_path(path: str, version: tuple[int, int], rest: str) -> None:
    assert split(path) == (version, rest)


def test_a_version_too_new_is_refused_in_docker_s_words() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"^client version 1\.99 is too new\. Maximum supported API version is 1\.52$"
    ):
        split("/v1.99/info")


def test_a_version_too_old_is_refused_in_docker_s_words() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^client version 1\.23 is too old\. Minimum supported API version"):
        split("/v1.23/info")


def test_docker_compose_1_is_answered_in_a_version_that_it_understands() -> None:
    agent = "docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1"
    assert (known((1, 52), agent), known((1, 30), agent)) == ((1, 44), (1, 30))
    assert known((1, 52), "docker-compose/2.30") == known((1, 52), "") == (1, 52)
