"""Search a registry for images, and sift what it finds as Docker does."""

from collections.abc import Mapping, Sequence
from typing import Final

from sampan.docker.filters import check_known, truth
from sampan.errors import InvalidArgumentError
from sampan.resource.image import Credentials, SearchResult
from sampan.resource.storage import Images

FILTERS: Final = ("is-official", "is-automated", "stars")
DEFAULT_LIMIT: Final = 25
MAX_LIMIT: Final = 100

Results = list[SearchResult]


async def search(
    images: Images,
    term: str,
    limit: int,
    filters: Mapping[str, Sequence[str]],
    credentials: Credentials | None,
) -> Results:
    """See ``Engine.search_images``."""
    check_known(filters, FILTERS)
    automated, official = truth(filters, "is-automated"), truth(filters, "is-official")
    stars = max((_number(text) for text in filters.get("stars", ())), default=0)
    limit = limit or DEFAULT_LIMIT
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidArgumentError(f"limit {limit} is outside the range of [1, {MAX_LIMIT}]")
    if automated:
        return []  # nobody builds images that way any more, and Docker finds none
    found = await images.search(term, limit, credentials)
    return [each for each in found if official in (None, each.official) and each.stars >= stars]


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidArgumentError(f"invalid filter 'stars=[{text}]'") from None
