"""Fixtures for the Docker API."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.unit.dockerapi.support import Api, running_api


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Api]:
    """A Docker API with a fake engine; the path is short because a socket's must be."""
    with tempfile.TemporaryDirectory(prefix="api") as root:
        async with running_api(Path(root)) as running:
            yield running
