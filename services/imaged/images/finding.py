"""Which image a user means: by ID, prefix of one, or name. Runs inside transactions of ``Store``."""

import re
import sqlite3
from dataclasses import replace
from typing import Final

from imaged.images import store
from imaged.images.model import ImageRecord
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference, parse_reference

_ID: Final = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


def find(db: sqlite3.Connection, text: str) -> tuple[ImageRecord, Reference | None]:
    """Return an image, and the name that it was found by, None if that was an ID.

    Raises:
        NotFoundError: in Docker's words.
        InvalidArgumentError: neither an ID nor a name.
    """
    match = _ID.fullmatch(text)
    whole = match is not None and len(match[1]) == 64
    if not whole:
        try:
            reference = parse_reference(text).with_default_tag()
        except InvalidArgumentError:
            if match is None:
                raise
        else:
            image = store.find_name(db, reference)
            if image is not None:
                if reference.digest is not None:
                    reference = replace(reference, tag=None)
                return existing(db, image), reference
    image = store.find_prefix(db, match[1]) if match else None
    if image is None:
        shown = f"sha256:{match[1]}" if whole and match else parse_reference(text).with_default_tag().familiar
        raise NotFoundError(f"No such image: {shown}")
    return existing(db, image), None


def existing(db: sqlite3.Connection, image: Digest) -> ImageRecord:
    """Return an image that a name refers to."""
    record = store.get_image(db, image)
    assert record is not None  # names refer to images
    return record
