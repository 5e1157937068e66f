"""What of a search's results is shown, and what cannot be asked for."""

from collections.abc import Sequence
from typing import cast

import pytest

from sampan.engine.transfer import search
from sampan.errors import InvalidArgumentError
from sampan.resource.image import Credentials, SearchResult
from sampan.resource.storage.images import Images

FOUND = [
    SearchResult("debian", "", 5000, official=True, automated=False),
    SearchResult("me/debian", "", 3, official=False, automated=False),
]


class SearchedImages:
    """Finds the same for every term."""

    def __init__(self) -> None:
        self.limits: list[int] = []

    async def search(self, term: str, limit: int, credentials: Credentials | None = None) -> Sequence[SearchResult]:
        del term, credentials
        self.limits.append(limit)
        return FOUND


async def found(limit: int = 0, **filters: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return what is shown, and the limits that the registry was asked with."""
    images = SearchedImages()
    sifted: dict[str, Sequence[str]] = {key.replace("_", "-"): values for key, values in filters.items()}
    results = await search(cast("Images", images), "debian", limit, sifted, None)
    return [each.name for each in results], images.limits


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
