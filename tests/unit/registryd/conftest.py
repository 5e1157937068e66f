"""What the registry's tests ask for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.registryd.parts import Parts, registry_parts


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    """A registry without a network."""
    async with registry_parts(tmp_path) as parts:
        yield parts
