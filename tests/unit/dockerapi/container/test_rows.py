"""Rows of lists of containers that were written before."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dockerapi.container.rows import ContainerRows
from sampan.docker.views.container_view import summary_json
from sampan.resource.container import ContainerDetails, ContainerState, Status
from sampan.resource.container_spec import ContainerSpec

BEGAN = datetime.fromtimestamp(1000, UTC)
SPEC = ContainerSpec(name="web", labels={"a": '","Status":"', "é": "\udcff<>"})
CONTAINER = ContainerDetails("c" * 64, SPEC, BEGAN, state=ContainerState(Status.RUNNING, started_at=BEGAN))


@pytest.mark.parametrize("version", [(1, 24), (1, 44), (1, 52)])
def test_a_row_is_what_the_view_says_and_its_time_goes_on(version: tuple[int, int]) -> None:
    rows = ContainerRows()
    for now in (1010.0, 1100.0, 1_000_000.0):
        row = json.loads(rows.row(CONTAINER, version, now).decode(errors="surrogateescape"))
        assert row == summary_json(CONTAINER, version, now)
        assert list(row) == list(summary_json(CONTAINER, version, now))
    assert row["Status"] == "Up 11 days"


def test_what_has_changed_is_written_anew_for_each_version() -> None:
    rows = ContainerRows()
    stopped = replace(CONTAINER, state=ContainerState(Status.EXITED, exit_code=3, started_at=BEGAN, finished_at=BEGAN))
    renamed = replace(CONTAINER, spec=replace(SPEC, name="other", labels={}))
    shown = []
    for container in (CONTAINER, stopped, CONTAINER, renamed):
        row = json.loads(rows.row(container, (1, 50), 1060.0).decode(errors="surrogateescape"))
        shown.append((row["Names"], row["State"], row["Status"]))
    assert shown == [
        (["/web"], "running", "Up About a minute"),
        (["/web"], "exited", "Exited (3) About a minute ago"),
        (["/web"], "running", "Up About a minute"),
        (["/other"], "running", "Up About a minute"),
    ]


def test_versions_do_not_share_a_row() -> None:
    rows = ContainerRows()
    for version in ((1, 24), (1, 52), (1, 24), (1, 52)):
        row = json.loads(rows.row(CONTAINER, version, 1060.0).decode(errors="surrogateescape"))
        assert row == summary_json(CONTAINER, version, 1060.0)


def test_rows_that_are_kept_are_bounded() -> None:
    rows = ContainerRows()
    for number in range(3000):
        rows.row(replace(CONTAINER, id=f"{number:064}"), (1, 50), 1060.0)
    large = replace(CONTAINER, spec=replace(SPEC, labels={"a": "x" * 20_000}))
    assert len(rows.row(large, (1, 50), 1060.0)) > 20_000
    assert len(rows._kept._rows) == 2048
    assert ("c" * 64, (1, 50)) not in rows._kept._rows
