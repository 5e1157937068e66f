"""Rows of lists of images that were written before."""

import json
from dataclasses import replace

import pytest

from dockerapi.http.encode import Written
from dockerapi.image.rows import ImageRows
from sampan.docker.views.image_view import summary_json
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.image_config import RunConfig
from sampan.resource.image import ImageDetails

ID = Digest("sha256:" + "a" * 64)
TARGET = Descriptor("application/vnd.oci.image.manifest.v1+json", ID, 5)
IMAGE = ImageDetails(ID, TARGET, TARGET, repo_tags=("web:1",), config=RunConfig(labels={"é": '","\udcff<>'}))


def read(row: Written) -> object:
    return json.loads(row.decode(errors="surrogateescape"))


@pytest.mark.parametrize("version", [(1, 24), (1, 43), (1, 44), (1, 48), (1, 52)])
def test_a_row_is_what_the_view_says_also_when_it_is_asked_for_again(version: tuple[int, int]) -> None:
    rows = ImageRows()
    for _ in range(2):
        assert read(rows.row(IMAGE, 7, version)) == summary_json(IMAGE, 7, version)
    assert rows.row(IMAGE, 7, version) is rows.row(IMAGE, 7, version)


def test_what_has_changed_is_written_anew() -> None:
    rows = ImageRows()
    renamed = replace(IMAGE, repo_tags=("web:1", "other:2"))
    for image in (IMAGE, renamed, replace(IMAGE), IMAGE):
        for version in ((1, 24), (1, 52)):
            for size, shared, users in ((7, -1, -1), (8, -1, -1), (7, 2, -1), (7, 2, 1)):
                row = rows.row(image, size, version, shared_bytes=shared, containers=users)
                assert read(row) == summary_json(image, size, version, shared_bytes=shared, containers=users)


def test_rows_that_are_kept_are_bounded() -> None:
    rows = ImageRows()
    for size in range(3000):
        rows.row(IMAGE, size, (1, 50))
    large = replace(IMAGE, config=RunConfig(labels={"a": "x" * 5_000}))
    for _ in range(2):
        assert len(rows.row(large, 1, (1, 50))) > 5_000
    assert len(rows._kept._rows) == 2048
    assert all(about is IMAGE for about, _ in rows._kept._rows.values())
