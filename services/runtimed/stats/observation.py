"""Looking at running containers: their processes, as the host's ps(1) shows them, and what they use."""

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from typing import Final

from runtimed.cgroups.reader import CgroupReader
from runtimed.conmon.process import run
from runtimed.containers.memory_store import UP, Entry, MemoryStore
from runtimed.stats.sampling import Sample, Stats
from sampan.errors import ConflictError, InvalidArgumentError, StartError
from sampan.resource.container import Container, Status
from sampan.resource.stats import Top

_DEFAULT: Final = "-ef"
_TIMEOUT_S: Final = 10.0

# A renamed column could pass another number off as the process ID.
_RENAMED: Final = re.compile(r"(\S*)=\s*(PID\S*)")


async def top(pids: Collection[int], ps_args: str, environ: Mapping[str, str]) -> Top:
    """Run ``ps`` with ``ps_args`` (empty: ``-ef``) and keep the rows of ``pids``.

    Raises:
        InvalidArgumentError: the arguments rename the PID column, leave it out, or ps refuses them.
        StartError: there is no ps.
    """
    for match in _RENAMED.finditer(ps_args):
        if match[1].lower().endswith(("pid", "tgid")) or match[2] == "PID":
            raise InvalidArgumentError(f'specifying "{match[1]}={match[2]}" is not allowed')
    program = shutil.which("ps")
    if program is None:
        raise StartError("ps is not installed on the host")
    done = await run((program, *(ps_args or _DEFAULT).split()), {"PATH": environ.get("PATH", "")}, _TIMEOUT_S)
    if done.code:
        reason = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise InvalidArgumentError(f"ps: {reason or f'exit code {done.code}'}")
    return parse_ps(done.stdout.decode(errors="replace"), pids)


def parse_ps(output: str, pids: Collection[int]) -> Top:
    """Return the rows of ``pids``; the last column takes the rest of its line, spaces and all.

    Raises:
        InvalidArgumentError: there is no PID column.
    """
    lines = output.split("\n")  # arguments may have what ends lines elsewhere
    titles = tuple(lines[0].split()) if lines else ()
    if "PID" not in titles:
        raise InvalidArgumentError("Couldn't find PID field in ps output")
    column = titles.index("PID")
    rows = []
    for line in lines[1:]:
        fields = line.split(maxsplit=len(titles) - 1)
        if len(fields) > column and fields[column].isdigit() and int(fields[column]) in pids:
            rows.append(tuple(fields))
    return Top(titles, tuple(rows))


class Observation:
    """Reads what the kernel knows of containers."""

    def __init__(
        self,
        memory: MemoryStore,
        reader: CgroupReader,
        stats: Stats,
        environ: Mapping[str, str],
        stopping: asyncio.Event,
        tell: Callable[[Container, str], None],
    ) -> None:
        """``tell`` publishes that something was done to a container."""
        self._tell = tell
        self._memory = memory
        self._reader = reader
        self._stats = stats
        self._environ = environ
        self._stopping = stopping

    async def top(self, entry: Entry, ps_args: str) -> Top:
        """Return the container's processes as ``ps`` shows them.

        Raises:
            ConflictError: it does not run.
            InvalidArgumentError: arguments that ps refuses, or that hide the pids.
        """
        await entry.settled()
        if entry.status is Status.RESTARTING:
            raise ConflictError(f"Container {entry.id} is restarting, wait until the container is running")
        if entry.status not in UP:
            raise ConflictError(f"container {entry.id} is not running")
        pids = await asyncio.to_thread(self._reader.processes, entry.container.cgroup_path)
        table = await top(pids, ps_args, self._environ)
        self._tell(entry.container, "top")
        return table

    def stats(self, entry: Entry, *, stream: bool, one_shot: bool) -> AsyncGenerator[Sample, None]:
        """Yield samples: see ``Stats.follow``. A stream ends when the container is removed."""

        def find() -> Container | None:
            return entry.container if self._memory.by_id(entry.id) is entry else None

        return self._stats.follow(find, self._stopping, stream=stream, one_shot=one_shot)
