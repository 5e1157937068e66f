"""The process that layers' workers are forked from: ``python -m snapshotter.workers.fork_server <socket> <parent>``.

See ``sampan.forking.fork_server``. The first word of a job is a ``job.Work``.
"""

import sys
from typing import Final

import isal.isal_zlib  # noqa: F401  # nearly every layer is gzip

from sampan.forking.fork_server import serve
from snapshotter.diff import packer
from snapshotter.workers import worker
from snapshotter.workers.job import Work
from snapshotter.workers.process import answer, cannot_start

_MAINS: Final = {Work.APPLY.value: worker.main, Work.PACK.value: packer.main}


def work(message: str, parent: int) -> int:
    """Do a job, in a process of its own."""
    kind, _, job = message.partition(" ")
    return _MAINS[kind](job, parent)


def main(argv: list[str]) -> int:
    """Serve until the other side has gone."""
    return serve(argv, work, lambda error, answers: answer(cannot_start(error), answers))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
