"""Search a registry for images, and sift what it finds as Docker does."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sampan.api.image.v1 import images_pb2
from sampan.docker.filters import check_known, truth
from sampan.errors import InvalidArgumentError
from sampan.wire.channel import rpc_errors

if TYPE_CHECKING:
    from sampan.engine.services import Services

FILTERS: Final = ("is-official", "is-automated", "stars")
DEFAULT_LIMIT: Final = 25
MAX_LIMIT: Final = 100

Results = list[images_pb2.SearchResponse.Result]


async def search(
    engine: "Services",
    term: str,
    limit: int,
    filters: Mapping[str, Sequence[str]],
    credentials: images_pb2.Credentials | None,
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
    request = images_pb2.SearchRequest(term=term, limit=limit, credentials=credentials)
    with rpc_errors():
        found = (await engine.images.Search(request)).results
    return [each for each in found if official in (None, each.official) and each.stars >= stars]


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidArgumentError(f"invalid filter 'stars=[{text}]'") from None
