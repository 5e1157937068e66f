"""What is done with outputs' files: each job by a worker process, on snapshots that are there for it."""

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol, TypeVar, cast

from buildd.files.index import read_stamp
from buildd.fileworker import jobs
from buildd.fileworker.conversation import Workers
from buildd.fileworker.jobs import Place
from buildd.fileworker.plan import Run, plan
from buildd.fileworker.worker import look
from buildd.llb.ops import NO_INPUT, NO_OUTPUT, Copy, FileAction, FileOp
from buildd.protocol import Converted, Directory, FileStat, Form, Output, Readable, Selection, StepContext, Tree
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest
from sampan.resource.snapshot import Mount

_REMEMBERED: Final = 8192  # checksums

_WHOLE: Final = Copy("/", "/", dir_copy_contents=True, create_dest_path=True)

K = TypeVar("K")
V = TypeVar("V")


class Writable(Protocol):
    """An active snapshot, and how it is mounted."""

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """Its mounts."""

    async def freeze(self) -> Tree:
        """See ``protocol.WritableTree``."""


class MountedTrees(Protocol):
    """Trees with the mounts that show them."""

    def writable(self, base: Tree) -> AbstractAsyncContextManager[Writable]:
        """See ``protocol.Trees``."""

    def mounts(self, tree: Tree) -> AbstractAsyncContextManager[tuple[Mount, ...]]:
        """Yield the mounts of a read-only snapshot of ``tree``."""


class Files:
    """Satisfies ``protocol.FileWorker``."""

    def __init__(self, trees: MountedTrees, workers: Workers) -> None:
        self._trees = trees
        self._workers = workers
        # Jobs that need a processor: more at once would only make each later.
        self._turns = asyncio.Semaphore(2 * len(os.sched_getaffinity(0)))
        self._checksums: OrderedDict[tuple[object, ...], Digest] = OrderedDict()
        self._flat: OrderedDict[tuple[Path, str], Tree] = OrderedDict()

    async def checksum(self, output: Output, selection: Selection) -> Digest:
        """See ``protocol.FileWorker``. What was digested once costs nothing while it does not change."""
        key = await _identity(output)
        if key is not None and (known := self._checksums.get((key, selection))) is not None:
            self._checksums.move_to_end((key, selection))
            return known
        async with self._turns, self._shown([output]) as (place,):
            digest = cast("Digest", (await self._workers.do(jobs.Checksum(place, selection))).value)
        if key is not None and key == await _identity(output):
            _remember(self._checksums, (key, selection), digest)
        return digest

    async def file_digests(self, output: Output) -> Mapping[str, Digest]:
        """See ``protocol.FileWorker``."""
        async with self._turns, self._shown([output]) as (place,):
            return cast("Mapping[str, Digest]", (await self._workers.do(jobs.FileDigests(place))).value)

    async def convert(self, source: Path, target: Path, form: Form) -> Converted:
        """See ``protocol.FileWorker``."""
        async with self._turns:
            return cast("Converted", (await self._workers.do(jobs.Convert(source, target, form))).value)

    async def change(self, op: FileOp, inputs: Sequence[Output], context: StepContext) -> Sequence[Tree]:
        """See ``protocol.FileWorker``."""
        states: dict[int, Output] = dict(enumerate(inputs))
        made: dict[int, Tree] = {}
        for run in plan(op.actions, len(inputs)):
            tree = await self._run(run, states, context)
            states[run.state] = tree
            if (number := run.actions[-1].output) != NO_OUTPUT:
                made[number] = tree
        return [made[number] for number in sorted(made)]

    async def _run(self, run: Run, states: Mapping[int, Output], context: StepContext) -> Tree:
        base = Tree() if run.base == NO_INPUT else await self.flatten(states[run.base])
        reads = sorted(run.reads)
        outputs: list[Output] = [states[index] for index in reads]
        async with self._trees.writable(base) as active:
            async with self._turns, self._shown(outputs) as places:
                sources = dict(zip(reads, places, strict=True))
                done = await self._workers.do(jobs.Change(Place(mounts=active.mounts), sources, run.actions))
            for note in done.notes:
                context.log(f"{note}\n".encode(), 2)
            return await active.freeze()

    async def flatten(self, output: Output) -> Tree:
        """See ``protocol.FileWorker``."""
        if isinstance(output, Tree):
            return output
        key = output.path, await asyncio.to_thread(read_stamp, output.path)
        if key[1] and (known := self._flat.get(key)) is not None:
            return known
        async with self._trees.writable(Tree()) as active:
            action = FileAction(_WHOLE, secondary_input=0, output=0)
            change = jobs.Change(Place(mounts=active.mounts), {0: Place(str(output.path))}, (action,))
            async with self._turns:
                await self._workers.do(change)
            tree = Tree((await active.freeze()).layers)
        if key[1]:
            _remember(self._flat, key, tree)
        return tree

    def forget(self) -> None:
        """Know no layers of directories any more: nobody keeps them when no build runs."""
        self._flat.clear()

    async def read_file(self, output: Readable, path: str, offset: int = 0, length: int = 0) -> bytes:
        """See ``protocol.FileWorker``."""
        if offset < 0 or length < 0:
            raise InvalidArgumentError(f"invalid range of {path}: offset {offset}, length {length}")
        return cast("bytes", await self._look(output, lambda place: jobs.ReadFile(place, path, offset, length)))

    async def read_directory(self, output: Readable, path: str, pattern: str = "") -> Sequence[FileStat]:
        """See ``protocol.FileWorker``."""
        found = await self._look(output, lambda place: jobs.ReadDirectory(place, path, pattern))
        return cast("Sequence[FileStat]", found)

    async def stat(self, output: Readable, path: str) -> FileStat:
        """See ``protocol.FileWorker``."""
        return cast("FileStat", await self._look(output, lambda place: jobs.Stat(place, path)))

    async def _look(self, output: Readable, job: Callable[[Place], jobs.Look]) -> object:
        """Do what takes a moment: in a thread, where nothing has to be mounted for it."""
        if isinstance(output, Directory):
            return await asyncio.to_thread(look, str(output.path), job(Place(str(output.path))))
        if not isinstance(output, Tree):
            return (await self._workers.do(job(Place(mounts=tuple(map(_only_read, output.mounts)))))).value
        async with self._shown([output]) as (place,):
            return (await self._workers.do(job(place))).value

    async def tar(self, outputs: Mapping[str, Output]) -> AsyncGenerator[bytes, None]:
        """See ``protocol.FileWorker``."""
        async with self._shown(outputs.values()) as places:
            job = jobs.Tar(tuple(zip(map(_checked, outputs), places, strict=True)))
            async with self._workers.talk(job) as worker:
                async for piece in worker.pieces():
                    yield piece
                await worker.verdict()

    @asynccontextmanager
    async def mounted(self, outputs: Mapping[str, Output]) -> AsyncIterator[Path]:
        """See ``protocol.FileWorker``. Links in the outputs lead elsewhere for this process: it must not follow any."""
        async with self._shown(outputs.values()) as places:
            job = jobs.Hold(tuple(zip(map(_checked, outputs), places, strict=True)))
            async with self._workers.talk(job) as worker:
                yield Path(cast("str", (await worker.answer()).value))

    @asynccontextmanager
    async def _shown(self, outputs: Iterable[Output]) -> AsyncIterator[Sequence[Place]]:
        """Yield where a worker finds outputs; what it mounts for that is there until this is left."""
        places: list[Place] = []
        known: dict[Tree, Place] = {Tree(): Place()}
        async with AsyncExitStack() as stack:
            for output in outputs:
                if isinstance(output, Directory):
                    places.append(Place(str(output.path)))
                    continue
                if output not in known:
                    known[output] = Place(mounts=await stack.enter_async_context(self._trees.mounts(output)))
                places.append(known[output])
            yield places


async def _identity(output: Output) -> object | None:
    """Return what is the same as long as the files are; None if nothing is known of them."""
    if isinstance(output, Tree):
        return tuple(layer.diff_id for layer in output.layers)
    stamp = await asyncio.to_thread(read_stamp, output.path)
    return (output.path, stamp) if stamp else None


def _only_read(mount: Mount) -> Mount:
    """Return how an active snapshot is looked at while another mount of it is written to.

    No two overlays may have the same upper directory. As the topmost lower one it may be seen; what changes meanwhile
    is seen or is not.
    """
    given = dict(option.partition("=")[::2] for option in mount.options)
    if mount.fstype != "overlay" or "upperdir" not in given:
        return replace(mount, options=tuple("ro" if option == "rw" else option for option in mount.options))
    rest = [option for option in mount.options if option.partition("=")[0] not in ("lowerdir", "upperdir", "workdir")]
    return replace(mount, options=(*rest, "ro", f"lowerdir={given['upperdir']}:{given['lowerdir']}"))


def _remember(memo: OrderedDict[K, V], key: K, value: V) -> None:
    memo[key] = value
    if len(memo) > _REMEMBERED:
        memo.popitem(last=False)


def _checked(name: str) -> str:
    """Return an output's name. Raises InvalidArgumentError: it is no name of a directory."""
    if "/" in name or name in (".", "..") or "\0" in name:
        raise InvalidArgumentError(f"invalid name {name!r} of a result")
    return name
