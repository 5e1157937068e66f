"""The process that layers' workers are forked from: ``python -m snapshotter.workers.fork_server <socket> <parent>``.

See ``sampan.forking.template``.
"""

import sys

import isal.isal_zlib  # noqa: F401  # nearly every layer is gzip

from sampan.forking.template import serve
from snapshotter.workers import worker


def main(argv: list[str]) -> int:
    """Serve until the other side has gone."""
    return serve(argv, worker.main, lambda error, answers: worker.answer(worker.cannot_start(error), answers))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
