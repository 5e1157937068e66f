import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    """Workers have none."""
    before = os.umask(0)
    yield
    os.umask(before)
