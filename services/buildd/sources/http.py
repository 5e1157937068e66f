"""``https://`` and ``http://``: single files of web servers.

Reference: moby/buildkit, solver/pb/attr.go, ``AttrHTTP*``.
"""

import asyncio
import email.utils
import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

from buildd.llb.ops import SourceOp
from buildd.protocol import Directory, FileWorker, Output, Pinned, StepContext
from buildd.session.clients import Clients
from buildd.source_metadata import Checksum, ChecksumQuery
from buildd.sources.attributes import check_attributes, digest, number
from buildd.sources.downloads import Download, Downloads
from sampan.cancellation import to_the_end
from sampan.errors import DataLossError, InvalidArgumentError
from sampan.oci.digest import Digest
from sampan.sys.trees import temporary_tree

SCHEMES: Final = ("http", "https")

_HEADER: Final = "http.header."
_ATTRIBUTES: Final = (
    "http.filename",
    "http.checksum",
    "http.perm",
    "http.uid",
    "http.gid",
    "http.authheadersecret",
    _HEADER,
)
_SENT: Final = ("accept", "user-agent")
_MODE: Final = 0o600
_MAX_SUFFIX_BYTES: Final = 4 << 10
_DISPOSITION: Final = re.compile(r'filename\s*=\s*(?:"([^"\\]*)"|([^\s;]+))', re.IGNORECASE)


class HttpSource:
    """Downloads files, and makes trees of one file each."""

    def __init__(self, downloads: Downloads, files: FileWorker, clients: Clients, scratch: Path) -> None:
        """``scratch`` is a directory for what is on its way."""
        self._downloads = downloads
        self._files = files
        self._clients = clients
        self._scratch = scratch
        self._users: Counter[Path] = Counter()  # of downloads
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def pin(self, op: SourceOp, context: StepContext) -> Pinned:
        """See ``Sources.pin``: with a checksum nobody is asked; else what is there now is known afterwards."""
        check_attributes("http", op.attrs, _ATTRIBUTES)
        checksum = digest(op.attrs, "http.checksum")
        if checksum is not None:
            return Pinned(_key(op, checksum, _name(op, ""), 0), checksum)
        async with self._asking.setdefault(op.identifier, asyncio.Lock()):
            found = await self._get(op, context, conditional=True)
            await context.hold(self._kept(found))  # nobody need ever fetch what is in the cache
        return Pinned(_key(op, found.digest, _name(op, found.disposition), _time(found)), found.digest)

    async def fetch(self, op: SourceOp, pinned: Pinned, context: StepContext) -> Output:
        """See ``Sources.fetch``."""
        checksum = digest(op.attrs, "http.checksum")
        async with temporary_tree(self._scratch) as staged:
            async with self._asking.setdefault(op.identifier, asyncio.Lock()):
                found = await self._bytes(op, pinned, context)
                said = found if checksum is None else replace(found, last_modified="", disposition="")
                await asyncio.to_thread(_stage, op, said, staged / "files")
                # What is known of it is enough to ask for a newer one.
                await asyncio.to_thread(found.path.unlink, missing_ok=True)
            return await self._files.flatten(Directory(staged / "files"))

    async def checksum(self, op: SourceOp, pinned: Pinned, query: ChecksumQuery, context: StepContext) -> Checksum:
        """See ``Sources.checksum``."""
        if len(query.suffix) > _MAX_SUFFIX_BYTES:
            raise InvalidArgumentError(f"http checksum request suffix exceeds max size {_MAX_SUFFIX_BYTES}")
        async with self._asking.setdefault(op.identifier, asyncio.Lock()):
            found = await self._bytes(op, pinned, context)
            digest = await asyncio.to_thread(_checksum, found.path, query)
        return Checksum(digest, query.suffix)

    async def _bytes(self, op: SourceOp, pinned: Pinned, context: StepContext) -> Download:
        """Return a download whose bytes are here, and stay for the build."""
        checksum = digest(op.attrs, "http.checksum")
        found = await asyncio.to_thread(self._downloads.known, op.identifier, await self._headers(op, context))
        if found is None or found.digest != pinned.pin or not found.here:
            found = await self._get(op, context, conditional=False)
            await context.hold(self._kept(found))
        if checksum not in (None, found.digest):
            raise DataLossError(f"digest mismatch {found.digest}: {checksum}")
        return found

    @asynccontextmanager
    async def _kept(self, found: Download) -> AsyncIterator[Output]:
        """Keep the bytes of a download, if they are here, for as long as a build may want them, and no longer."""
        path = found.path
        self._users[path] += 1
        try:
            yield Directory(path.parent)
        finally:
            self._users[path] -= 1
            if not self._users[path]:
                del self._users[path]
                await to_the_end(asyncio.to_thread(path.unlink, missing_ok=True))

    async def _get(self, op: SourceOp, context: StepContext, *, conditional: bool) -> Download:
        shown = op.identifier.partition("?")[0]
        found = await self._downloads.get(
            op.identifier,
            await self._headers(op, context),
            lambda current, total: context.status(shown, current=current, total=total),
            conditional=conditional,
        )
        context.status(shown, current=found.size, total=found.size, done=True)
        return found

    async def _headers(self, op: SourceOp, context: StepContext) -> dict[str, str]:
        headers = {}
        for name, value in op.attrs.items():
            if name.startswith(_HEADER):
                header = name.removeprefix(_HEADER)
                if header.lower() not in _SENT or not value.isprintable():
                    raise InvalidArgumentError(f"invalid {name}: only {' and '.join(_SENT)} can be set")
                headers[header] = value
        secret = op.attrs.get("http.authheadersecret")
        if secret and (value := await self._clients.secret(secret, context)):
            headers["Authorization"] = value
        return headers


def _checksum(path: Path, query: ChecksumQuery) -> str:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, query.algorithm)
    found.update(query.suffix)
    return f"{query.algorithm}:{found.hexdigest()}"


def _key(op: SourceOp, digest: Digest, name: str, time_s: int) -> str:
    owner = (op.attrs.get(each, "") for each in ("http.perm", "http.uid", "http.gid"))
    return "\n".join((digest, name, str(time_s), *owner))


def _name(op: SourceOp, disposition: str) -> str:
    """Return what the file is called: as it is asked for, as the server says, or as the URL ends."""
    said = _DISPOSITION.search(disposition)
    last = unquote(urlsplit(op.identifier).path).rpartition("/")[2]
    for name in (op.attrs.get("http.filename", ""), (said[1] or said[2] or "") if said else "", last):
        name = name.rpartition("/")[2]
        if name not in ("", ".", "..") and "\0" not in name and len(os.fsencode(name)) <= 255:
            return name
    return "download"


def _time(found: Download) -> int:
    """Return when the file was changed, in seconds since the epoch; 0 if the server does not say."""
    try:
        return max(0, int(email.utils.parsedate_to_datetime(found.last_modified).timestamp()))
    except ValueError:
        return 0


def _stage(op: SourceOp, found: Download, files: Path) -> None:
    files.mkdir(mode=0o755)
    target = files / _name(op, found.disposition)
    shutil.copyfile(found.path, target)
    uid, gid = number(op.attrs, "http.uid"), number(op.attrs, "http.gid")
    if uid or gid:
        os.chown(target, uid, gid)
    target.chmod(number(op.attrs, "http.perm", _MODE) & 0o7777)
    time_s = _time(found)
    os.utime(target, (time_s, time_s))
