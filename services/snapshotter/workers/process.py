"""What every process that is forked from the fork server begins and ends with."""

import json
import os
import sys
from dataclasses import asdict
from typing import Final

from sampan.errors import InvalidArgumentError, ResourceExhaustedError, SampanError
from sampan.sys.processes import die_with_parent, set_name
from snapshotter.workers.job import Answer, Failure, Packed

# Threads that wake up wait this long for the interpreter's lock; the default of 5 ms leaves a core idle.
_SWITCH_S: Final = 0.0005

_NAME: Final = "layer worker"  # what the kernel calls it when it runs out of memory


def begin(parent: int) -> None:
    """Become a worker of the process ``parent``, which this one was forked from."""
    # Modes come from the layer alone.
    os.umask(0)
    # A worker whose service was killed would write where the next service cleans up.
    die_with_parent(parent)
    set_name(_NAME)
    # Rather one layer than the engine.
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")
    sys.setswitchinterval(_SWITCH_S)
    sys.unraisablehook = _give_up


def _give_up(failed: "sys.UnraisableHookArgs") -> None:
    """End the process: a thread that fails in a way nobody expects would be waited for without an end."""
    try:
        sys.stderr.write(f"thread failed: {failed.exc_value!r}\n")
    finally:
        os._exit(1)


def answer(found: Answer | Packed | Failure, fd: int) -> None:
    """Write a worker's answer."""
    os.write(fd, json.dumps(asdict(found)).encode() + b"\n")


def cannot_start(error: OSError) -> Failure:
    """The answer of a worker that there is no room for."""
    return failure(ResourceExhaustedError(f"no process can be started to work on it: {error.strerror}"))


def failure(error: Exception) -> Failure:
    """The answer that ``error`` is."""
    kind = type(error) if isinstance(error, SampanError) else InvalidArgumentError
    return Failure(kind.__name__, str(error))
