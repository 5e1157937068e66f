"""crid beside an engine, shared by all tests of this room."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cri import Cri, Pod, run_cri


@pytest.fixture(scope="module")
def cri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cri]:
    with run_cri(tmp_path_factory.mktemp("cri")) as running:
        yield running


@pytest.fixture(scope="module")
def busybox(cri: Cri) -> str:
    """A small image, pulled."""
    cri.crictl("pull", cri.busybox)
    return cri.busybox


@pytest.fixture
def pod(cri: Cri, busybox: str, tmp_path: Path, unique: Callable[[str], str]) -> Iterator[Pod]:
    """A pod that is ready, and gone after the test."""
    made = Pod.run(cri, unique("pod"), tmp_path, busybox)
    yield made
    cri.crictl("rmp", "--force", made.id)
