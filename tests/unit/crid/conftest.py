"""What a servicer is called with."""

from unittest.mock import create_autospec

import grpc
import pytest

from crid.wire.services import Context


@pytest.fixture
def context() -> Context:
    """Nothing that a method looks at."""
    made: Context = create_autospec(grpc.aio.ServicerContext, instance=True)
    return made
