"""crid beside an engine, asked as kubelet asks."""

import os
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest

from tests.support.engine import Engine

_READY_S = 20


@pytest.fixture(scope="package")
def cri(engine: Engine) -> Iterator[grpc.Channel]:
    """A channel to a crid of the engine."""
    layout = engine.layout
    roots = ["--data-root", str(layout.data_root), "--run-root", str(layout.run_root)]
    with subprocess.Popen([sys.executable, "-P", "-m", "crid", *roots], env=os.environ) as running:
        try:
            with grpc.insecure_channel(f"unix:{layout.socket('crid')}") as channel:
                grpc.channel_ready_future(channel).result(_READY_S)
                yield channel
        finally:
            running.terminate()
            running.wait(_READY_S)
