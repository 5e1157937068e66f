"""Engines whose tests were killed: what they left on the machine is taken away by the next test that starts one.

Each engine has a record for as long as a test owns it, locked by the test's process. The kernel lets go of the lock
when the process ends, whatever ends it: a record that can be locked has no owner any more. Nothing else is touched, so
engines that somebody runs by hand, and those of tests that run now, are safe.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sampan.layout import Layout
from tests.support.footprint import kill_all, mounts, processes, remove_kernel_objects
from tests.support.tools import eventually

# Where root alone can write: what stands there is removed.
RECORDS: Final = Path("/run/sampan-test-engines")


@contextlib.contextmanager
def owned(layout: Layout, root: Path, records: Path = RECORDS) -> Iterator[None]:
    """Record for the time of the block that an engine with files below ``root`` is this process's, then sweep it away.

    The record stays if that fails.
    """
    records.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = {"data_root": str(layout.data_root), "run_root": str(layout.run_root), "root": str(root)}
    # It gets its name when it is whole and locked: who looks for records never sees another.
    descriptor, begun = tempfile.mkstemp(prefix=".", dir=records)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, json.dumps(facts).encode())
        record = Path(begun).rename(records / root.name)
        try:
            yield
        finally:
            sweep(layout, root)
            record.unlink()
    finally:
        os.close(descriptor)


def sweep_abandoned(records: Path = RECORDS) -> None:
    """Take away what is left of engines without an owner.

    One that cannot be taken away is told of, and keeps its record.
    """
    for record in sorted(records.glob("[!.]*")):
        with contextlib.suppress(FileNotFoundError), record.open("rb") as file:  # its owner may be done with it
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # it has an owner, or somebody else sweeps
            record.stat()  # its owner may have removed it after it was opened
            facts = json.load(file)
            layout = Layout(Path(facts["data_root"]), Path(facts["run_root"]))
            try:
                eventually(lambda layout=layout: _killed(layout), f"the engine on {layout.run_root} is killed")  # type: ignore[misc]
                sweep(layout, Path(facts["root"]))
            except (AssertionError, OSError) as error:
                print(f"left by a test that was killed: {error}", file=sys.stderr)
            else:
                record.unlink()


def sweep(layout: Layout, root: Path) -> None:
    """Take away everything of an engine whose supervisor has ended, whatever state that has left it in."""
    kill_all(layout)
    for point in sorted(mounts(layout), reverse=True):
        subprocess.run(["umount", "--lazy", point], capture_output=True)
    remove_kernel_objects(layout)
    # What is still mounted may be somebody's own directory.
    subprocess.run(["rm", "-rf", "--one-file-system", root], capture_output=True)


def _killed(layout: Layout) -> bool:
    """Kill what there is; a supervisor may have started a service just before it went."""
    kill_all(layout)
    return not processes(layout)
