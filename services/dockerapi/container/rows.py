"""Rows of GET /containers/json, each written once as long as its container does not change.

A list is asked for again and again, and most containers are as they were. Of a row the time goes on alone:
"Up 3 minutes".
"""

from typing import Final, NamedTuple

from dockerapi.http.encode import encode
from dockerapi.http.versions import Version
from sampan.docker.views.container_view import status_text, summary_json
from sampan.resource.container import ContainerDetails

# As many, and as large, as clients of runtimed keep decoded: the same object is the same container then.
_KEPT: Final = 2048
_LARGEST_BYTES: Final = 16 << 10

_STATUS: Final = b'"Status":'


class _Row(NamedTuple):
    container: ContainerDetails
    before: bytes  # up to the status
    after: bytes


class ContainerRows:
    """Writes rows, and keeps them."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, Version], _Row] = {}  # the one that was not used for longest first

    def row(self, container: ContainerDetails, version: Version, now: float) -> bytes:
        """Return a container's row as JSON; ``now`` is the time that "Up 3 seconds" counts from."""
        key = container.id, version
        kept = self._rows.pop(key, None)
        if kept is None or kept.container is not container:
            kept = _written(container, version, now)
        if len(kept.before) + len(kept.after) <= _LARGEST_BYTES:
            self._rows[key] = kept
            if len(self._rows) > _KEPT:
                del self._rows[next(iter(self._rows))]
        return kept.before + encode(status_text(container.state, now))[:-1] + kept.after


def _written(container: ContainerDetails, version: Version, now: float) -> _Row:
    fields = summary_json(container, version, now)
    names = list(fields)
    place = names.index("Status")
    before = encode({name: fields[name] for name in names[:place]})[:-2]
    after = encode({name: fields[name] for name in names[place + 1 :]})[1:-1]
    return _Row(container, before + b"," + _STATUS, b"," + after)
