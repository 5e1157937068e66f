"""What of a search's results is shown, and what cannot be asked for."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from sampan.api.image.v1 import images_pb2 as pb
from sampan.engine.engine import Engine
from sampan.engine.search import search
from sampan.errors import InvalidArgumentError

FOUND = [
    pb.SearchResponse.Result(name="debian", stars=5000, official=True),
    pb.SearchResponse.Result(name="me/debian", stars=3),
]


class FakeImages:
    """Finds the same for every term."""

    def __init__(self) -> None:
        self.limits: list[int] = []

    async def Search(self, request: pb.SearchRequest) -> pb.SearchResponse:
        self.limits.append(request.limit)
        return pb.SearchResponse(results=FOUND)


class FakeEngine:
    """Has images alone."""

    def __init__(self) -> None:
        self.images = FakeImages()


async def found(limit: int = 0, **filters: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return what is shown, and the limits that the registry was asked with."""
    engine = FakeEngine()
    sifted: dict[str, Sequence[str]] = {key.replace("_", "-"): values for key, values in filters.items()}
    results = await search(cast("Engine", cast("Any", engine)), "debian", limit, sifted, None)
    return [each.name for each in results], engine.images.limits


async def test_without_filters_everything_is_shown() -> None:
    assert await found() == (["debian", "me/debian"], [25])
    assert (await found(limit=100))[1] == [100]


async def test_filters_sift() -> None:
    assert (await found(is_official=["true"]))[0] == ["debian"]
    assert (await found(is_official=["0"]))[0] == ["me/debian"]
    assert (await found(stars=["4", "10"]))[0] == ["debian"]
    assert (await found(is_automated=["false"]))[0] == ["debian", "me/debian"]
    # Docker says of no image that it is one.
    assert await found(is_automated=["true"]) == ([], [])


@pytest.mark.parametrize(
    ("limit", "filters", "complaint"),
    [
        (101, {}, r"limit 101 is outside the range of \[1, 100\]"),
        (-1, {}, r"limit -1 is outside the range of \[1, 100\]"),
        (0, {"is_official": ["maybe"]}, r"invalid filter 'is-official=\[maybe\]'"),
        (0, {"stars": ["many"]}, r"invalid filter 'stars=\[many\]'"),
        (0, {"size": ["1"]}, "invalid filter 'size'"),
    ],
)
async def test_what_cannot_be_asked_for_is_told_in_dockers_words(
    limit: int, filters: dict[str, list[str]], complaint: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        await found(limit, **filters)
