"""The process that unpacks one layer, forked from the fork server: the blob on stdin, the answer on stdout.

It is a process of its own so that layers unpack on all cores, and so that one that crashes, or needs all memory, takes
nobody with it. Its answer is one line of JSON, after lines that say how far it is; without one, it died. Kill it at any
time: what it leaves is in the job's directory alone.
"""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sampan.errors import DataLossError, ResourceExhaustedError, SampanError
from sampan.sys.beneath import OPEN_DIRECTORY
from sampan.sys.measuring import measure
from sampan.tar.reader import TarReader
from snapshotter.drivers.erofs.converter import Converter
from snapshotter.drivers.whiteouts import is_opaque
from snapshotter.layers.formats import LayerFormat
from snapshotter.unpack.extract import Extractor
from snapshotter.unpack.pipeline import Blob, Pipeline
from snapshotter.workers.job import PROGRESS, Answer, ApplyJob, Failure
from snapshotter.workers.process import answer, begin, failure
from snapshotter.workers.threads import Thread

# So often it says how far it is.
_STEP_BYTES: Final = 2 << 20


def main(job: str, parent: int) -> int:
    """Do a job; return 0, as an answer was written. ``parent`` is the process that this one was forked from."""
    begin(parent)
    stdin, stdout = 0, 1
    answer(run(ApplyJob.from_json(job), stdin, _Progress(stdout).advance), stdout)
    return 0


def run(job: ApplyJob, blob: int, read: Callable[[int], None] = lambda _: None) -> Answer | Failure:
    """Unpack the layer; expected errors are returned. ``read`` is told of each piece how far the blob is read."""
    started = time.monotonic()
    pipeline = Pipeline(Blob(blob, job.digest, job.size_bytes, read), job.limits.total_bytes)
    try:
        pipeline.start()
        made = _convert(job, pipeline)
        found = pipeline.finish()
        if job.diff_id and found != job.diff_id:
            raise DataLossError(f"its uncompressed bytes have the digest {found}, its image says {job.diff_id}")
    except SampanError as error:
        return failure(pipeline.explain(error))
    except OSError as error:
        return failure(pipeline.explain(ResourceExhaustedError(f"{error.strerror}: {error.filename or job.target}")))
    except MemoryError:
        return failure(ResourceExhaustedError("out of memory"))
    return Answer(
        diff_id=found,
        tar_bytes=pipeline.size_bytes,
        size_bytes=made.size_bytes,
        inodes=made.inodes,
        skipped_xattrs=made.skipped_xattrs,
        complete=made.complete,
        erofs_digest=made.erofs_digest,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True)
class _Made:
    """What is on disk; see ``Answer``."""

    size_bytes: int
    inodes: int
    skipped_xattrs: int
    complete: bool
    erofs_digest: str = ""


class _Progress:
    """Says how far the blob is read, now and then."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._next = _STEP_BYTES

    def advance(self, read_bytes: int) -> None:
        """Write a line if it is time for one."""
        if read_bytes >= self._next:
            self._next = read_bytes + _STEP_BYTES
            os.write(self._fd, PROGRESS + b"%d\n" % read_bytes)


def _convert(job: ApplyJob, pipeline: Pipeline) -> _Made:
    convert = {LayerFormat.TREE: _extract, LayerFormat.EROFS: _erofs_image}[LayerFormat(job.format)]
    return convert(job, pipeline)


def _erofs_image(job: ApplyJob, pipeline: Pipeline) -> _Made:
    """Write the EROFS image and bring it to disk; hashing it takes no longer than that does."""
    fd = os.open(job.target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        reader = TarReader(pipeline, job.limits)
        converted = Converter(fd).convert(reader)
        reader.drain()
        digests: list[str] = []
        hashing = Thread(lambda: digests.append(_digest(fd)))
        hashing.start()
        os.fsync(fd)
        hashing.join()
        stored = os.fstat(fd).st_blocks * 512
    finally:
        os.close(fd)
    return _Made(stored, converted.inodes, converted.skipped_xattrs, converted.complete, digests[0])


def _digest(fd: int) -> str:
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _extract(job: ApplyJob, pipeline: Pipeline) -> _Made:
    target = os.open(job.target, OPEN_DIRECTORY)
    trash = os.open(job.trash, OPEN_DIRECTORY)
    try:
        reader = TarReader(pipeline, job.limits)
        extracted = Extractor(target, trash).extract(reader)
        complete = is_opaque(target)
        reader.drain()
    finally:
        os.close(target)
        os.close(trash)
    if extracted.replaced:
        usage = measure(job.target)
        extracted.size_bytes, extracted.inodes = usage.size_bytes, usage.inodes
    return _Made(extracted.size_bytes, extracted.inodes, extracted.skipped_xattrs, complete)
