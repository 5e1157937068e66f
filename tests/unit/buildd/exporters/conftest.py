from pathlib import Path

import pytest

from tests.unit.buildd.exporters.exporting import Room


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)
