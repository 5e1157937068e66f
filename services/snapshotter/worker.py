"""The process that unpacks one layer: ``python -m snapshotter.worker <job as JSON>``, the blob on stdin.

It is a process of its own so that layers unpack on all cores, and so that one that crashes, or needs all memory, takes
nobody with it. Its answer is one line of JSON on stdout; without one, it died. Kill it at any time: what it leaves is
in the job's directory alone.
"""

import hashlib
import json
import os
import sys
import threading
import time
from dataclasses import asdict
from typing import Any, Final

from sampan.errors import DataLossError, InvalidArgumentError, ResourceExhaustedError, SampanError
from sampan.sys.beneath import OPEN_DIRECTORY
from sampan.sys.processes import die_with_parent
from sampan.tar.reader import TarReader
from snapshotter import trees
from snapshotter.erofs.tree import Converter
from snapshotter.extract import Extractor
from snapshotter.formats import LayerFormat
from snapshotter.job import Answer, ApplyJob, Failure
from snapshotter.marks import OPAQUE_XATTR
from snapshotter.pipeline import Blob, Pipeline

# Threads that wake up wait this long for the interpreter's lock; the default of 5 ms leaves a core idle.
_SWITCH_S: Final = 0.0005


def main(argv: list[str]) -> int:
    """Do the job; return 0 if an answer was written."""
    # Modes come from the layer alone.
    os.umask(0)
    # A worker whose service was killed would write where the next service cleans up.
    die_with_parent()
    # Rather one layer than the engine.
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")
    sys.setswitchinterval(_SWITCH_S)
    answer = run(ApplyJob.from_json(argv[1]), sys.stdin.fileno())
    sys.stdout.write(json.dumps(asdict(answer)) + "\n")
    return 0


def run(job: ApplyJob, blob: int) -> Answer | Failure:
    """Unpack the layer; expected errors are returned."""
    begin = time.monotonic()
    pipeline = Pipeline(Blob(blob, job.digest, job.size_bytes), job.limits.total_bytes)
    pipeline.start()
    try:
        answer = _convert(job, pipeline)
        found = pipeline.finish()
        if job.diff_id and found != job.diff_id:
            raise DataLossError(f"its uncompressed bytes have the digest {found}, its image says {job.diff_id}")
    except SampanError as error:
        return _failure(pipeline.explain(error))
    except OSError as error:
        return _failure(pipeline.explain(ResourceExhaustedError(f"{error.strerror}: {error.filename or job.target}")))
    except MemoryError:
        return _failure(ResourceExhaustedError("out of memory"))
    return Answer(diff_id=found, tar_bytes=pipeline.size_bytes, seconds=time.monotonic() - begin, **answer)


def _convert(job: ApplyJob, pipeline: Pipeline) -> dict[str, Any]:
    convert = {LayerFormat.TREE: _extract, LayerFormat.EROFS: _image}[LayerFormat(job.format)]
    return convert(job, pipeline)


def _image(job: ApplyJob, pipeline: Pipeline) -> dict[str, Any]:
    """Write the image and bring it to disk; hashing it takes no longer than that does."""
    fd = os.open(job.target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        reader = TarReader(pipeline, job.limits)
        converted = Converter(fd).convert(reader)
        reader.drain()
        digests: list[str] = []
        hashing = threading.Thread(target=lambda: digests.append(_digest(fd)), name="hash the image")
        hashing.start()
        os.fsync(fd)
        hashing.join()
        stored = os.fstat(fd).st_blocks * 512
    finally:
        os.close(fd)
    return {
        "size_bytes": stored,
        "inodes": converted.inodes,
        "complete": converted.complete,
        "skipped_xattrs": converted.skipped_xattrs,
        "image_digest": digests[0],
    }


def _digest(fd: int) -> str:
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _extract(job: ApplyJob, pipeline: Pipeline) -> dict[str, Any]:
    target = os.open(job.target, OPEN_DIRECTORY)
    trash = os.open(job.trash, OPEN_DIRECTORY)
    try:
        reader = TarReader(pipeline, job.limits)
        extracted = Extractor(target, trash).extract(reader)
        complete = OPAQUE_XATTR in os.listxattr(target)
        reader.drain()
    finally:
        os.close(target)
        os.close(trash)
    if extracted.replaced:
        usage = trees.measure(job.target)
        extracted.size_bytes, extracted.inodes = usage.size_bytes, usage.inodes
    return {
        "size_bytes": extracted.size_bytes,
        "inodes": extracted.inodes,
        "complete": complete,
        "skipped_xattrs": extracted.skipped_xattrs,
        "image_digest": "",
    }


def _failure(error: Exception) -> Failure:
    kind = type(error) if isinstance(error, SampanError) else InvalidArgumentError
    return Failure(kind.__name__, str(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
