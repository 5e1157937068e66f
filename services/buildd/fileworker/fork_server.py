"""The process that file workers are forked from: ``python -m buildd.fileworker.fork_server <socket> <parent>``.

See ``sampan.forking.fork_server``.
"""

import sys

from buildd.fileworker import worker
from sampan.forking.fork_server import serve


def main(argv: list[str]) -> int:
    """Serve until the other side has gone."""
    return serve(argv, worker.main, worker.refuse)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
