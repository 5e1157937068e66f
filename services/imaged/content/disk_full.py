"""A full disk, said in our own words wherever something is stored."""

from collections.abc import Iterator
from contextlib import contextmanager

from sampan.errors import NoSpaceError
from sampan.sys.files import is_full


@contextmanager
def storing(what: str) -> Iterator[None]:
    """Name ``what`` when the disk is full.

    Raises:
        NoSpaceError: no space, or no quota, is left.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise NoSpaceError(f"write {what}: no space left on device") from error
