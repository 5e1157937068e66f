from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_services import Roots, fake_roots


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[Roots]:
    """An engine of fake services."""
    with fake_roots(tmp_path) as made:
        yield made
