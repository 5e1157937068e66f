"""Rows of images in GET /images/json and GET /system/df, each written once as long as nothing of it changes.

Both show all images each time that they are asked, and of hundreds hardly one is another than it was.
"""

from typing import Final, NamedTuple

from dockerapi.http.encode import Written, encode
from dockerapi.http.kept_rows import KeptRows
from dockerapi.http.versions import Version
from sampan.docker.views.image_view import summary_json
from sampan.resource.image import ImageDetails

_LARGEST_BYTES: Final = 4 << 10


class _Asked(NamedTuple):
    """What a row says beside what is of the image itself."""

    image: str
    version: Version
    size_bytes: int
    shared_bytes: int
    containers: int


class ImageRows:
    """Writes rows, and keeps them."""

    def __init__(self) -> None:
        self._kept = KeptRows[_Asked, Written](_LARGEST_BYTES)

    def row(
        self, image: ImageDetails, size_bytes: int, version: Version, *, shared_bytes: int = -1, containers: int = -1
    ) -> Written:
        """Return an image's row as JSON; numbers as for ``summary_json``."""

        def write() -> tuple[Written]:
            shown = summary_json(image, size_bytes, version, shared_bytes=shared_bytes, containers=containers)
            return (Written(encode(shown)[:-1]),)

        asked = _Asked(image.id, version, size_bytes, shared_bytes, containers)
        (row,) = self._kept.pieces(asked, image, write)
        return row
