"""Extended attributes that no file can have are refused with the layer, not stored in it."""

import io
import os
import tarfile
from collections.abc import Iterator

import pytest

from sampan.errors import InvalidArgumentError
from sampan.tar.reader import TarReader
from snapshotter.drivers.erofs.converter import Converter


@pytest.fixture
def image() -> Iterator[int]:
    fd = os.memfd_create("image", os.MFD_CLOEXEC)
    yield fd
    os.close(fd)


def layer(attributes: dict[str, str]) -> TarReader:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("file")
        entry.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in attributes.items()}
        archive.addfile(entry)
    out.seek(0)
    return TarReader(out)


@pytest.mark.parametrize(
    "attributes",
    [
        {"user.a\0b": "x"},
        {"": "x"},
        {"user.": "x"},
        {"user." + "a" * 251: "x"},
        {"user.a": "x" * 100_000},
        {f"user.{number}": "x" * 60_000 for number in range(6)},
        {f"user.{number:0200}": "x" for number in range(1000)},
    ],
    ids=["NUL", "no name", "a namespace alone", "long name", "long value", "long altogether", "many names"],
)
def test_a_layer_with_attributes_that_no_file_can_have_is_refused(image: int, attributes: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentError, match="extended attribute"):
        Converter(image).convert(layer(attributes))


def test_the_longest_attributes_that_a_file_can_have_are_kept(image: int) -> None:
    converted = Converter(image).convert(layer({"user." + "a" * 250: "x" * 0xFFFF}))
    assert converted.skipped_xattrs == 0
