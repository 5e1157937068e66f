"""What a servicer is called with, and a machine for a test."""

from pathlib import Path
from unittest.mock import create_autospec

import grpc
import pytest

from crid.wire.services import Context
from tests.unit.crid.world import World


@pytest.fixture
def context() -> Context:
    """Nothing that a method looks at."""
    made: Context = create_autospec(grpc.aio.ServicerContext, instance=True)
    return made


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
