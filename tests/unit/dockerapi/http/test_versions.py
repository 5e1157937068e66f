"""API versions."""

import pytest

from dockerapi.http.versions import NEWEST, split
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
