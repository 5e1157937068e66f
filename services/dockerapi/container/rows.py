"""Rows of GET /containers/json, each written once as long as its container does not change.

A list is asked for again and again, and most containers are as they were. Of a row the time goes on alone:
"Up 3 minutes".
"""

from typing import Final

from dockerapi.http.encode import encode
from dockerapi.http.kept_rows import KeptRows
from dockerapi.http.versions import Version
from sampan.docker.views.container_view import status_text, summary_json
from sampan.resource.container import ContainerDetails

_LARGEST_BYTES: Final = 16 << 10

_STATUS: Final = b'"Status":'


class ContainerRows:
    """Writes rows, and keeps them."""

    def __init__(self) -> None:
        self._kept = KeptRows[tuple[str, Version], bytes](_LARGEST_BYTES)

    def row(self, container: ContainerDetails, version: Version, now: float) -> bytes:
        """Return a container's row as JSON; ``now`` is the time that "Up 3 seconds" counts from."""
        before, after = self._kept.pieces(
            (container.id, version), container, lambda: _around_status(container, version, now)
        )
        return before + encode(status_text(container.state, now))[:-1] + after


def _around_status(container: ContainerDetails, version: Version, now: float) -> tuple[bytes, bytes]:
    fields = summary_json(container, version, now)
    names = list(fields)
    place = names.index("Status")
    before = encode({name: fields[name] for name in names[:place]})[:-2]
    after = encode({name: fields[name] for name in names[place + 1 :]})[1:-1]
    return before + b"," + _STATUS, b"," + after
