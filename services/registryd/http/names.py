"""Repositories, tags and digests as they stand in a path: checked once, at the door.

Reference: OCI distribution spec 1.1, "Pulling manifests".
"""

import re
from typing import Final

from registryd.repositories.refusal import Code, RefusedError
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

# Many clients limit "<registry>/<repository>" to 255 characters.
_MAX_REPOSITORY: Final = 255


def parse_repository(text: str) -> str:
    """Return a repository's name. Raises RefusedError, NAME_INVALID."""
    if len(text) > _MAX_REPOSITORY or not _REPOSITORY.fullmatch(text):
        raise RefusedError(Code.NAME_INVALID, f"invalid repository name {_shown(text)}")
    return text


def parse_digest(text: str) -> Digest:
    """Return a digest. Raises RefusedError, DIGEST_INVALID."""
    try:
        return Digest.parse(text)
    except InvalidArgumentError as error:
        raise RefusedError(Code.DIGEST_INVALID, str(error)) from error


def parse_target(text: str) -> Digest | str:
    """Return the digest, or the tag, that a manifest is asked for by. Raises RefusedError."""
    if ":" in text:
        return parse_digest(text)
    if not _TAG.fullmatch(text):
        raise RefusedError(Code.TAG_INVALID, f"invalid tag {_shown(text)}")
    return text


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
