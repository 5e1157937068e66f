"""The process that makes a layer, without being one."""

import os
from pathlib import Path

import pytest

from snapshotter.diff import packer
from snapshotter.workers.job import Compression, DiffJob, Failure
from tests.support.tools import eventually


@pytest.mark.parametrize(
    ("size", "count", "settles", "synced"),
    [(8 << 10, 65, True, False), (3 << 20, 65, True, True), (3 << 20, 65, False, False), (3 << 20, 3, True, False)],
)
def test_a_large_directory_of_many_files_is_synced_while_it_is_packed_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, count: int, settles: bool, synced: bool
) -> None:
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    for directory in (upper, lower):
        directory.mkdir()
    for number in range(count):
        (upper / str(number)).write_bytes(os.urandom(size // count + 1))
    begun: list[str] = []
    monkeypatch.setattr(packer, "_EARLY_SYNC_BYTES", 1 << 20)
    monkeypatch.setattr(packer._EarlySync, "_sync", lambda self: begun.append(self._directory))
    settle = str(upper) if settles else ""
    job = DiffJob((str(lower),), (str(upper), str(lower)), Compression.GZIP.value, str(tmp_path / "blob"), (), settle)
    assert not isinstance(packer.run(job), Failure)
    if synced:  # in a thread of its own
        eventually(lambda: begun == [str(upper)], "the directory is synced")
    assert begun == ([str(upper)] if synced else [])
