"""Pulls and imports as the messages that Docker's clients draw."""

import time
from collections.abc import Iterator
from typing import Final

from sampan.docker.sizes import human_size
from sampan.engine.archives import RemoteArchive
from sampan.engine.progress import Done, LayerProgress, Phase, Progress, Received, Resolved
from sampan.json_types import JsonObject
from sampan.oci.reference import Reference

# A client redraws a line at every message; ten a second for each layer look smooth.
_INTERVAL_S: Final = 0.1

_MOVING: Final = {Phase.DOWNLOADING: "Downloading", Phase.EXTRACTING: "Extracting"}
_STILL: Final = {
    Phase.VERIFYING: "Verifying Checksum",
    Phase.DOWNLOADED: "Download complete",
    Phase.COMPLETE: "Pull complete",
    Phase.EXISTS: "Already exists",
}


class PullMessages:
    """Turns events into messages. Steps of unpacking are thinned out; what changes a layer's state never is.

    Nor are steps of a download: imaged sends ten a second, and the last one before a line stalls is what a client
    sees until it moves again.

    Layers that were here before are not mentioned until one comes that was not, or a name that is new: a client that
    pulls what it has sees two lines and no more.
    """

    def __init__(self, asked: Reference) -> None:
        self._asked = asked
        self._sent_at: dict[tuple[str, Phase], float] = {}
        self._pending: dict[str, None] = {}  # layers nothing was said of, base first
        self._present: dict[str, None] = {}  # those of them that were here

    def render(self, event: Progress) -> Iterator[JsonObject]:
        """Yield the messages for one event, in order."""
        if isinstance(event, Resolved):
            tag = self._asked.tag or self._asked.digest or ""
            # The repository's path without the registry, but with ``library/``.
            yield {"status": f"Pulling from {self._asked.repository}", "id": str(tag)}
            self._pending = dict.fromkeys(event.layers)
        elif isinstance(event, Done):
            if not event.existed:
                yield from self._announce()
            yield from self._done(event)
        elif not isinstance(event, LayerProgress):
            return  # of an archive's
        elif event.phase is Phase.EXISTS and event.digest in self._pending:
            self._present[event.digest] = None
        else:
            yield from self._announce()
            if (message := self._layer(event)) is not None:
                yield message

    def _announce(self) -> Iterator[JsonObject]:
        for digest in self._pending:
            status = _STILL[Phase.EXISTS] if digest in self._present else "Pulling fs layer"
            yield {"status": status, "progressDetail": {}, "id": _short(digest)}
        self._pending = {}

    def _layer(self, event: LayerProgress) -> JsonObject | None:
        layer = _short(event.digest)
        if event.phase is Phase.WAITING:
            return {"status": "Waiting", "progressDetail": {}, "id": layer}
        if event.phase is Phase.RETRYING:
            unit = "second" if event.current == 1 else "seconds"
            return {"status": f"Retrying in {event.current} {unit}", "progressDetail": {}, "id": layer}
        if event.phase in _STILL:
            return {"status": _STILL[event.phase], "progressDetail": {}, "id": layer}
        return moving(_MOVING[event.phase], layer, event.current, event.total) if self._due(event) else None

    def _due(self, event: LayerProgress) -> bool:
        if event.phase is Phase.DOWNLOADING:
            return True
        now = time.monotonic()
        key = (event.digest, event.phase)
        last = self._sent_at.get(key)
        if last is not None and now - last < _INTERVAL_S and event.current != event.total:
            return False
        self._sent_at[key] = now
        return True

    def _done(self, event: Done) -> Iterator[JsonObject]:
        yield {"status": f"Digest: {event.digest}"}
        verdict = "Image is up to date for" if event.existed else "Downloaded newer image for"
        yield {"status": f"Status: {verdict} {self._asked.familiar}"}


class ImportMessages:
    """Turns an import's events into messages: of an archive from the web how far it is, and the image's ID."""

    def __init__(self, archive: RemoteArchive | None = None) -> None:
        self._archive = archive
        self._begun = False

    def render(self, event: Progress) -> Iterator[JsonObject]:
        """Yield the messages for one event, in order."""
        if self._archive is not None:
            if not self._begun:
                self._begun = True
                yield {"status": f"Downloading from {self._archive.url}"}
            if isinstance(event, Received):
                current, total = event.size_bytes, self._archive.size
                detail = {"current": current, "total": total} if total else {"current": current}
                yield {"status": "Importing", "progressDetail": detail, "progress": bar(current, total)}
        if isinstance(event, Done):
            yield {"status": event.image.id}


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def moving(status: str, identity: str, current: int, total: int) -> JsonObject:
    """Return a message with a bar."""
    detail = {"current": current, "total": total}
    return {"status": status, "progressDetail": detail, "progress": bar(current, total), "id": identity}


def bar(current: int, total: int) -> str:
    """Return the bar that clients without a terminal print as it is: 50 cells with an arrow head, then the sizes."""
    if total <= 0:
        return f"{human_size(current):>8}"
    filled = min(current * 50 // total, 50)
    return f"[{'=' * filled}>{' ' * (50 - filled)}] {human_size(current):>8}/{human_size(total)}"
