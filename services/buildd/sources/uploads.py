"""``http://buildkit-session/<id>``: a file that a client uploads on its session, as the Docker API does with contexts.

Reference: moby/buildkit, ``session/upload``.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import parse_qs, urlsplit

from buildd.llb.ops import SourceOp
from buildd.protocol import Directory, Output, Pinned, StepContext
from buildd.session.clients import Clients
from buildd.sources.attributes import check_attributes
from sampan.cancellation import to_the_end
from sampan.errors import DataLossError, InvalidArgumentError, NotFoundError
from sampan.oci.digest import Digest
from sampan.sys.trees import removing

HOST: Final = "buildkit-session"

_NAME: Final = "http.filename"
_STEP: Final = "uploading"
_FILES: Final = "files"  # what is known of them is kept beside them, and goes with them


class UploadSource:
    """Takes what is uploaded. It comes once, when it is pinned, and is here for as long as a build wants it."""

    def __init__(self, clients: Clients, scratch: Path) -> None:
        """``scratch`` is a directory for what is here."""
        self._clients = clients
        self._scratch = scratch
        self._here: dict[str, tuple[Path, Digest]] = {}  # by URL
        self._users: dict[Path, int] = {}

    @staticmethod
    def serves(op: SourceOp) -> bool:
        """Say whether a URL is one of uploads."""
        return urlsplit(op.identifier).hostname == HOST

    async def pin(self, op: SourceOp, context: StepContext) -> Pinned:
        """See ``Sources.pin``."""
        check_attributes("http", op.attrs, (_NAME,))
        if op.identifier not in self._here:
            place = self._scratch / secrets.token_hex(8)
            await context.hold(self._kept(place, op.identifier))
            name = op.attrs.get(_NAME) or "context"
            if "/" in name or name in (".", ".."):
                raise InvalidArgumentError(f"invalid {_NAME} {name!r}")
            self._here[op.identifier] = (place, await self._receive(op.identifier, place / _FILES / name, context))
        place, digest = self._here[op.identifier]
        return Pinned(f"{digest}\n{op.attrs.get(_NAME, '')}", digest)

    async def fetch(self, op: SourceOp, pinned: Pinned, context: StepContext) -> Output:
        """See ``Sources.fetch``."""
        place, digest = self._here.get(op.identifier, (None, None))
        if place is None:
            raise NotFoundError(f"upload {op.identifier} is not here any more")
        if digest != pinned.pin:
            raise DataLossError(f"upload {op.identifier} is {digest}, not {pinned.pin}")
        return await context.hold(self._kept(place, op.identifier))

    async def _receive(self, url: str, path: Path, context: StepContext) -> Digest:
        parts = urlsplit(url)
        named = parse_qs(parts.query).get("session", [])
        found, size = hashlib.sha256(), 0
        session = await self._clients.first(context, named[0] if named else "")
        file = await asyncio.to_thread(path.open, "wb")
        try:
            async with aclosing(session.pull_upload(f"{parts.scheme}://{parts.netloc}{parts.path}")) as pieces:
                async for piece in pieces:
                    size += len(piece)
                    await asyncio.to_thread(_take, file, piece, found)
                    context.status(_STEP, current=size)
        finally:
            await asyncio.to_thread(file.close)
        context.status(_STEP, current=size, total=size, done=True)
        return Digest(f"sha256:{found.hexdigest()}")

    @asynccontextmanager
    async def _kept(self, place: Path, url: str) -> AsyncIterator[Output]:
        self._users[place] = self._users.get(place, 0) + 1
        try:
            await to_the_end(asyncio.to_thread((place / _FILES).mkdir, mode=0o700, parents=True, exist_ok=True))
            yield Directory(place / _FILES)
        finally:
            self._users[place] -= 1
            if not self._users[place]:
                del self._users[place]
                self._here.pop(url, None)
                await removing(place)


def _take(file: BinaryIO, piece: bytes, found: "hashlib._Hash") -> None:
    found.update(piece)
    file.write(piece)
