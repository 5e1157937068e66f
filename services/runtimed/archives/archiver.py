"""The process that reads or writes files of a container: ``python -m runtimed.archives.archiver <job as JSON>``.

It is a process because it has a mount namespace of its own, see ``view``; its root directory stays the host's, and
every path of the container's is resolved by openat2(2) inside the view. What a job gives goes to stdout; the last line
of stderr is its answer, JSON: empty, or an error. Without one, it died.
"""

import errno
import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import IO, Final

from runtimed.archives.lookup import look, plain
from runtimed.archives.view import ArchiveJob, show
from runtimed.oci.rootfs import RootFs
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, PermissionDeniedError, SampanError
from sampan.sys.processes import die_with_parent

_PIECE_BYTES: Final = 1 << 20


def tell(tree: RootFs, job: ArchiveJob, out: IO[bytes]) -> None:
    """Write the path's stat as a line of JSON."""
    with look(tree, job.path) as found:
        out.write(json.dumps(asdict(found.status)).encode() + b"\n")


def read(tree: RootFs, job: ArchiveJob, out: IO[bytes]) -> None:
    """Write the path's stat as a line of JSON, and its tar."""
    from runtimed.archives.packing import Packer
    from sampan.tar.entry import MAX_COPIED_NAME_BYTES
    from sampan.tar.writer import TarWriter

    with look(tree, job.path) as found:
        out.write(json.dumps(asdict(found.status)).encode() + b"\n")
        base = b"." if job.path.endswith("/.") else os.fsencode(found.status.name)
        writer = TarWriter(out.write, MAX_COPIED_NAME_BYTES)
        Packer(writer).pack(found, b"" if base == b"/" else base)
        writer.close()


def write(tree: RootFs, job: ArchiveJob, source: IO[bytes]) -> None:
    """Unpack the archive on ``source``, plain or packed, into the path."""
    from runtimed.archives.packed import plain_bytes
    from runtimed.archives.unpacking import Unpacker
    from sampan.tar.reader import TarReader

    top = tree.find(plain(job.path))
    try:
        if not stat.S_ISDIR(os.fstat(top).st_mode):
            raise InvalidArgumentError("extraction point is not a directory")
        reader = TarReader(plain_bytes(source))
        Unpacker(tree, top, keep_kinds=job.keep_kinds).unpack(reader)
        reader.drain()  # a checksum follows the archive
    finally:
        os.close(top)


def run(job: ArchiveJob) -> dict[str, str]:
    """Do the job; return an error's kind and text, or nothing."""
    actions: dict[str, Callable[[RootFs], object]] = {
        "stat": lambda tree: _to_stdout(tree, job, tell),
        "read": lambda tree: _to_stdout(tree, job, read),
        "write": lambda tree: write(tree, job, sys.stdin.buffer),
    }
    try:
        with show(job) as tree:
            actions[job.action](tree)
    except SampanError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except (FileNotFoundError, NotADirectoryError):
        return {"error": NotFoundError.__name__, "message": ""}
    except PermissionError as error:
        return {"error": PermissionDeniedError.__name__, "message": f"{error.strerror}: {error.filename or job.path}"}
    except OSError as error:
        if error.errno == errno.ELOOP:
            return {"error": NotFoundError.__name__, "message": ""}
        return {"error": ConflictError.__name__, "message": f"{error.strerror}: {error.filename or job.path}"}
    return {}


def _to_stdout(tree: RootFs, job: ArchiveJob, action: Callable[[RootFs, ArchiveJob, IO[bytes]], None]) -> None:
    with open(os.dup(1), "wb", buffering=_PIECE_BYTES) as out:
        action(tree, job, out)


def main(argv: list[str]) -> int:
    """Do the job; return 0 if an answer was written."""
    die_with_parent()
    os.umask(0)
    answer = run(ArchiveJob.from_json(argv[1]))
    sys.stderr.write("\n" + json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
