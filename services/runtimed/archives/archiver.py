"""The process that those are forked from that read or write files of a container.

``python -m runtimed.archives.archiver <socket> <parent>``, see ``sampan.forking.fork_server``; ``worker`` is the other
side. It is a process because it has a mount namespace of its own, see ``view``; its root directory stays the host's,
and every path of the container's is resolved by openat2(2) inside the view.

Its third descriptor is a file, which begins with the job as JSON; the message says how many bytes that is. Behind it
comes the answer, the last line: JSON, empty or an error or, for ``stat``, what there is. Without one, it died.

``read`` writes the path's stat to stdout, a line of JSON, and its tar; one that is handed a descriptor by its stdin
writes the tar there instead, in HTTP's chunks. ``write`` reads an archive from stdin, in HTTP's chunks or as it is.
"""

import errno
import json
import os
import socket
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Final

from runtimed.archives.lookup import Found, is_content, look, plain
from runtimed.archives.packed import plain_bytes
from runtimed.archives.packing import TreeWriter
from runtimed.archives.unpacking import Unpacker
from runtimed.archives.view import ArchiveJob, show
from runtimed.oci.rootfs import RootFs
from sampan.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    SampanError,
)
from sampan.forking.fork_server import serve
from sampan.handing import passing
from sampan.handing.chunks import ChunkedReader, ChunkedWriter, PlainWriter
from sampan.sys.processes import die_with_parent
from sampan.tar.entry import MAX_COPIED_NAME_BYTES
from sampan.tar.reader import TarReader
from sampan.tar.writer import TarWriter

_PIECE_BYTES: Final = 1 << 20
_IN, _OUT, _NOTES = range(3)

Answer = Mapping[str, object]


def tell(tree: RootFs, job: ArchiveJob) -> Answer:
    """Return the path's stat."""
    with look(tree, job.path) as found:
        return {"stat": asdict(found.status)}


def read(tree: RootFs, job: ArchiveJob) -> Answer:
    """Write the path's stat and its tar."""
    with look(tree, job.path) as found:
        out = PlainWriter(_OUT)
        out.write(json.dumps(asdict(found.status)).encode() + b"\n")
        if not job.handed:
            return _pack(found, job, out)
        out.flush()
        with socket.socket(fileno=os.dup(_IN)) as line:
            _, fds = passing.receive(line, 1, 1)
        return _pack(found, job, ChunkedWriter(fds[0])) if fds else {}


def _pack(found: Found, job: ArchiveJob, out: PlainWriter) -> Answer:
    base = b"." if is_content(job.path) else os.fsencode(found.status.name)
    writer = TarWriter(out.write, MAX_COPIED_NAME_BYTES)
    TreeWriter(writer, out.file).pack(found, b"" if base == b"/" else base)
    writer.close()
    out.flush()
    return {}


def write(tree: RootFs, job: ArchiveJob) -> Answer:
    """Unpack the archive on stdin, plain or packed, into the path."""
    top = tree.find(plain(job.path))
    try:
        if not stat.S_ISDIR(os.fstat(top).st_mode):
            raise InvalidArgumentError("extraction point is not a directory")
        source = ChunkedReader(_IN, job.begun) if job.handed else open(_IN, "rb", _PIECE_BYTES, closefd=False)  # noqa: SIM115
        reader = TarReader(plain_bytes(source))
        Unpacker(tree, top, keep_kinds=job.keep_kinds).unpack(reader)
        reader.drain()  # a checksum follows the archive
    finally:
        os.close(top)
    return {}


_ACTIONS: Final[Mapping[str, Callable[[RootFs, ArchiveJob], Answer]]] = {"stat": tell, "read": read, "write": write}


def run(job: ArchiveJob) -> Answer:
    """Do the job; return what there is to say, or an error's kind and text."""
    try:
        with show(job) as tree:
            return _ACTIONS[job.action](tree, job)
    except SampanError as error:
        return _failure(type(error), str(error))
    except (FileNotFoundError, NotADirectoryError):
        return _failure(NotFoundError, "")
    except PermissionError as error:
        return _failure(PermissionDeniedError, f"{error.strerror}: {error.filename or job.path}")
    except OSError as error:
        if error.errno == errno.ELOOP:
            return _failure(NotFoundError, "")
        return _failure(ConflictError, f"{error.strerror}: {error.filename or job.path}")


def _failure(kind: type[SampanError], message: str) -> Answer:
    return {"error": kind.__name__, "message": message}


def work(message: str, parent: int) -> int:
    """Do a job, in a process of its own; return 0 if an answer was written."""
    die_with_parent(parent)
    os.umask(0)
    answer = run(ArchiveJob.from_json(os.pread(_NOTES, int(message), 0).decode()))
    os.write(_NOTES, b"\n" + json.dumps(answer).encode() + b"\n")
    return 0


def main(argv: list[str]) -> int:
    """Serve until the other side has gone."""
    return serve(argv, work, lambda _error, _stdout: None)  # without an answer, there was no process


if __name__ == "__main__":
    sys.exit(main(sys.argv))
