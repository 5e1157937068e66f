"""Make beforehand what several groups of tests need and would each wait for: Debian's tree, and clients of others.

It takes minutes the first time, and is kept. What cannot be made here is told; the tests that need it say so again.
"""

import sys
from collections.abc import Callable
from typing import Final

import pytest

from tests.support.go_clients import PROGRAMS, go_program
from tests.support.trees import debian_tar

# Of them, those that `make examples` and `make test-cri` alone need.
_NOT_HERE: Final = ("buildkitd", "critest", "kubelet", "kubernetes")


def _make(what: str, make: Callable[[], object]) -> None:
    try:
        make()
    except (pytest.fail.Exception, pytest.skip.Exception) as reason:
        sys.stderr.write(f"{what} cannot be made here: {reason}\n")


def main() -> None:
    """Make all of it."""
    _make("Debian's tree", debian_tar)
    for name in PROGRAMS:
        if name not in _NOT_HERE:
            _make(name, lambda name=name: go_program(name))  # type: ignore[misc]


if __name__ == "__main__":
    main()
