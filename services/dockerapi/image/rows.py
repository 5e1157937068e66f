"""Rows of images in GET /images/json and GET /system/df, each written once as long as nothing of it changes.

Both show all images each time that they are asked, and of hundreds hardly one is another than it was.
"""

from typing import Final, NamedTuple

from dockerapi.http.encode import Written, encode
from dockerapi.http.versions import Version
from sampan.docker.views.image_view import summary_json
from sampan.resource.image import ImageDetails

# Large ones are few, and are not what takes time.
_KEPT: Final = 2048
_LARGEST_BYTES: Final = 4 << 10


class _Asked(NamedTuple):
    """What a row says beside what is of the image itself."""

    image: str
    version: Version
    size_bytes: int
    shared_bytes: int
    containers: int


class _Row(NamedTuple):
    image: ImageDetails  # clients of imaged keep what they have decoded: the same object is the same image then
    written: Written


class ImageRows:
    """Writes rows, and keeps them."""

    def __init__(self) -> None:
        self._rows: dict[_Asked, _Row] = {}  # the one that was not used for longest first

    def row(
        self, image: ImageDetails, size_bytes: int, version: Version, *, shared_bytes: int = -1, containers: int = -1
    ) -> Written:
        """Return an image's row as JSON; numbers as for ``summary_json``."""
        key = _Asked(image.id, version, size_bytes, shared_bytes, containers)
        kept = self._rows.pop(key, None)
        if kept is None or kept.image is not image:
            shown = summary_json(image, size_bytes, version, shared_bytes=shared_bytes, containers=containers)
            kept = _Row(image, Written(encode(shown)[:-1]))
        if len(kept.written) <= _LARGEST_BYTES:
            self._rows[key] = kept
            if len(self._rows) > _KEPT:
                del self._rows[next(iter(self._rows))]
        return kept.written
