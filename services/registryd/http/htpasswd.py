"""Who may use the registry: a file that Apache's ``htpasswd -B`` writes."""

import asyncio
import hashlib
import hmac
import secrets
from base64 import b64decode
from pathlib import Path
from typing import Final

import bcrypt

from sampan.errors import InvalidArgumentError
from sampan.log import log

_BCRYPT: Final = ("$2y$", "$2b$", "$2a$")

# What bcrypt itself reads of a password; newer versions refuse longer ones.
_MAX_PASSWORD_BYTES: Final = 72

# Compared with for a user that there is not, so that an answer takes as long as for one that there is.
_NOBODY: Final = bcrypt.hashpw(b"nobody", bcrypt.gensalt(10))


def parse_htpasswd(text: str, what: str) -> dict[str, bytes]:
    """Return user -> hash.

    Raises:
        InvalidArgumentError: a line that is not one, or is hashed by anything but bcrypt; it names the line.
    """
    users = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        user, colon, hashed = line.strip().partition(":")
        if not colon or not user:
            raise InvalidArgumentError(f"{what}, line {number}: expected user:hash")
        if not hashed.startswith(_BCRYPT):
            raise InvalidArgumentError(
                f"{what}, line {number}: user {user!r} has no bcrypt hash: make it by htpasswd -B"
            )
        users[user] = hashed.encode()
    return users


class Htpasswd:
    """The file, read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises InvalidArgumentError."""
        self._path = path
        # bcrypt is slow by design, and a client sends its password with each request: what was right is remembered,
        # under a key that no other process has.
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()
        self._version = self._stat()
        self._users = self._read()

    def _stat(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise InvalidArgumentError(f"htpasswd file {self._path}: {error.strerror}") from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> dict[str, bytes]:
        try:
            text = self._path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgumentError(f"htpasswd file {self._path}: {error}") from error
        return parse_htpasswd(text, f"htpasswd file {self._path}")

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def problem(self) -> str:
        """Return why the file cannot be read just now, or nothing; blocks."""
        try:
            self._stat()
            self._read()
        except InvalidArgumentError as error:
            return str(error)
        return ""

    async def accepts(self, authorization: str | None) -> str | None:
        """Return the user that an Authorization header proves to be, or None."""
        credentials = _parse_basic(authorization or "")
        if credentials is None:
            return None
        self._read_again_if_changed()
        user, password = credentials
        hashed = self._users.get(user)
        proof = hmac.digest(self._key, b"\0".join((user.encode(), hashed or b"", password)), hashlib.sha256)
        if proof in self._right:
            return user
        right = await asyncio.to_thread(_check, password, hashed or _NOBODY)
        if hashed is None or not right:
            return None
        self._right.add(proof)
        return user

    def _read_again_if_changed(self) -> None:
        try:
            version = self._stat()
            if version == self._version:
                return
            self._version = version
            self._users = self._read()
        except InvalidArgumentError as error:
            log.error("htpasswd file cannot be read: the users stay as they were", error=str(error))
            return
        self._right.clear()
        log.info("htpasswd file read again", users=len(self._users))


def _check(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:_MAX_PASSWORD_BYTES], hashed)
    except ValueError:  # a hash that is cut short
        return False


def _parse_basic(header: str) -> tuple[str, bytes] | None:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = b64decode(value.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except ValueError:
        return None
