"""Sparse files: where their data is."""

import errno
import os
from collections.abc import Iterator


def data_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where the data of an open file's first ``size`` bytes begins and ends; what is between is a hole.

    Asks as it goes, with lseek(2), which moves the file's offset.

    Raises:
        OSError: the file system cannot say.
    """
    offset = 0
    while offset < size:
        try:
            offset = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        end = os.lseek(fd, offset, os.SEEK_HOLE)
        yield offset, end
        offset = end
