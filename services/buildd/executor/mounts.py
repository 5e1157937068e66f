"""What a step sees of its inputs: its mounts, made when they are entered and undone when they are left.

An input that is only read is shown as a view, any other as an active snapshot: one that is an output is frozen when the
process has ended well, and what was written to the others is thrown away. If it has not, all of them are kept for a
while, and frozen when somebody wants to see what the process has left.
"""

import asyncio
import posixpath
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from buildd.cache.mounts import CacheMounts
from buildd.executor.granted import Granted
from buildd.llb.ops import NO_INPUT, NO_OUTPUT, ExecOp, Mount, MountType
from buildd.protocol import (
    Directory,
    FileWorker,
    Output,
    Readable,
    Remains,
    Selection,
    StepContext,
    Tree,
    Trees,
    WritableTree,
)
from buildd.solver.keys import tree_digest
from sampan.build.step import DirectorySource, SnapshotSource, StepMount, StepSource, TmpfsSource
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest

_ROOT: Final = "/"


@dataclass(frozen=True, slots=True)
class Makers:
    """What mounts are made with."""

    trees: Trees
    files: FileWorker
    granted: Granted
    caches: CacheMounts


class _Written:
    """What a step that has failed has written: frozen when somebody asks for it, and once."""

    def __init__(self, written: WritableTree) -> None:
        self._written = written
        self._freezing: asyncio.Task[Tree] | None = None

    async def __call__(self) -> Output:
        if self._freezing is None:
            self._freezing = asyncio.create_task(self._written.freeze(), name="freeze what a step has left")
        return await asyncio.shield(self._freezing)


async def _same(output: Output) -> Output:
    return output


@dataclass(slots=True)
class StepMounts:
    """The mounts of one step, while ``shown`` is entered; what is written to lasts as long as ``written``."""

    op: ExecOp
    inputs: Sequence[Output]
    context: StepContext
    makers: Makers
    written: AsyncExitStack
    shown: AsyncExitStack = field(default_factory=AsyncExitStack)
    root: str = ""  # key of the root's snapshot
    root_read_only: bool = False
    mounts: list[StepMount] = field(default_factory=list)
    _outputs: dict[int, WritableTree | Tree] = field(default_factory=dict)
    _views: dict[int, str] = field(default_factory=dict)  # keys, by input
    _caches: dict[int, str] = field(default_factory=dict)  # directories, by the identity of their mounts
    _writable_of: dict[int, WritableTree] = field(default_factory=dict)  # by the identity of their mounts

    async def make(self) -> None:
        """Make all of them, those further up first.

        Raises:
            InvalidArgumentError: no root, or two; an input that is not there.
            NotFoundError: what a mount shows is not there.
        """
        roots = [mount for mount in self.op.mounts if self._target(mount) == _ROOT]
        if len(roots) != 1 or roots[0].type is not MountType.BIND:
            raise InvalidArgumentError("a step needs one mount at /, of a tree")
        (root,) = roots
        writable = await self._writable(root, await self._tree(root))
        self.root, self.root_read_only = writable.key, root.read_only
        self._note_output(root, writable if not root.read_only else await self._tree(root))
        await self._enter_caches()
        others = [mount for mount in self.op.mounts if mount is not root]
        for mount in sorted(others, key=lambda each: self._target(each).split("/")):
            source = await self._source(mount)
            if source is not None:
                read_only = mount.read_only or mount.type is MountType.SECRET
                self.mounts.append(StepMount(self._target(mount), source, read_only))

    async def freeze(self) -> Sequence[Tree]:
        """Return the outputs, in order; nothing runs in them any more."""
        count = max(self._outputs, default=-1) + 1
        if sorted(self._outputs) != list(range(count)):
            raise InvalidArgumentError(f"outputs of a step are {sorted(self._outputs)}: they must be counted from 0")
        frozen = []
        for index in range(count):
            output = self._outputs[index]
            frozen.append(output if isinstance(output, Tree) else await output.freeze())
        return frozen

    def remains(self) -> Sequence[Remains]:
        """Return what is left of each mount; nothing runs in them any more."""
        return [self._remains(mount) for mount in self.op.mounts]

    def _remains(self, mount: Mount) -> Remains:
        before, written = self._begun(mount), self._writable_of.get(id(mount))
        if written is not None:
            return Remains(before, _Written(written))
        return Remains(before, partial(_same, before) if before is not None else None)

    def readable(self) -> Sequence[Readable | None]:
        """Return where the files of each mount are now; None: nowhere that they can be read."""
        found: list[Readable | None] = []
        for mount in self.op.mounts:
            if id(mount) in self._caches:
                found.append(Directory(Path(self._caches[id(mount)])))
            elif mount.type is MountType.BIND:
                found.append(self._writable_of.get(id(mount)) or self._begun(mount) or Tree())
            else:
                found.append(None)
        return found

    def _begun(self, mount: Mount) -> Output | None:
        return self.inputs[mount.input] if 0 <= mount.input < len(self.inputs) else None

    def _target(self, mount: Mount) -> str:
        target = posixpath.normpath(posixpath.join("/", self.op.process.cwd, mount.dest))
        return _ROOT + target.lstrip("/")

    def _note_output(self, mount: Mount, output: WritableTree | Tree) -> None:
        if mount.output != NO_OUTPUT:
            self._outputs[mount.output] = output

    def _input(self, mount: Mount) -> Output | None:
        if mount.input == NO_INPUT:
            return None
        if not 0 <= mount.input < len(self.inputs):
            raise InvalidArgumentError(f"invalid input index {mount.input} of a step with {len(self.inputs)} inputs")
        return self.inputs[mount.input]

    async def _tree(self, mount: Mount) -> Tree:
        output = self._input(mount)
        if output is None:
            return Tree()
        return output if isinstance(output, Tree) else await self.makers.files.flatten(output)

    async def _writable(self, mount: Mount, base: Tree) -> WritableTree:
        made = await self.written.enter_async_context(self.makers.trees.writable(base))
        self._writable_of[id(mount)] = made
        return made

    async def _source(self, mount: Mount) -> StepSource | None:
        """Return what a mount shows; None if it may be missing and is."""
        match mount:
            case Mount(type=MountType.TMPFS):
                return TmpfsSource(mount.tmpfs_bytes)
            case Mount(type=MountType.SECRET, secret=secret) if secret is not None:
                return await self.makers.granted.file(secret, self.context)
            case Mount(type=MountType.SSH, ssh=ssh) if ssh is not None:
                return await self.shown.enter_async_context(self.makers.granted.agent(ssh, self.context))
            case Mount(type=MountType.CACHE, cache=cache) if cache is not None:
                return DirectorySource(self._caches[id(mount)])
            case Mount(type=MountType.BIND):
                return await self._bind(mount)
        raise InvalidArgumentError(f"mount at {mount.dest} says nothing of the {mount.type.name.lower()} that it shows")

    async def _bind(self, mount: Mount) -> StepSource:
        if mount.output != NO_OUTPUT and not mount.read_only:
            writable = await self._writable(mount, await self._tree(mount))
            self._note_output(mount, writable)
            return SnapshotSource(writable.key, mount.selector)
        if mount.output != NO_OUTPUT:
            self._note_output(mount, await self._tree(mount))
        output = self._input(mount)
        if isinstance(output, Directory):
            return DirectorySource(str(output.path), mount.selector, discard=not mount.read_only)
        if output is None or not output.layers or not mount.read_only:
            # What is written there goes with the snapshot. Nor is there a view of nothing.
            return SnapshotSource((await self._writable(mount, output or Tree())).key, mount.selector)
        key = self._views.get(mount.input)
        if key is None:
            key = self._views[mount.input] = await self.shown.enter_async_context(self.makers.trees.view(output))
        return SnapshotSource(key, mount.selector)

    async def _enter_caches(self) -> None:
        """Enter cache mounts in the order of their names: steps that wait for each other's locked ones never end.

        Two mounts of one name are one directory, which a step does not wait for twice.
        """
        wanted: dict[tuple[str, str, str], list[Mount]] = {}
        for mount in self.op.mounts:
            if mount.type is MountType.CACHE and mount.cache is not None:
                _, key = await self._base(mount)
                wanted.setdefault((mount.cache.id, key or "", mount.selector.strip("/")), []).append(mount)
        for place in sorted(wanted):
            directory = await self._enter_cache(wanted[place][0])
            self._caches |= {id(mount): directory for mount in wanted[place]}

    async def _base(self, mount: Mount) -> tuple[Output | None, Digest | None]:
        """Return what a cache mount begins with, and what tells that from others."""
        base, key = self._input(mount), None
        if isinstance(base, Tree):
            base = base if base.layers else None
            key = None if base is None else tree_digest(base)
        elif base is not None:
            key = await self.makers.files.checksum(base, Selection())
        return base, key

    async def _enter_cache(self, mount: Mount) -> str:
        """Return the directory."""
        assert mount.cache is not None
        base, key = await self._base(mount)
        if base is None and mount.selector.strip("/"):
            raise InvalidArgumentError(f"cache mount at {mount.dest} begins with {mount.selector} of an empty tree")
        said = f"cached mount {self._target(mount)} from exec {' '.join(self.op.process.args)}"
        directory = await self.shown.enter_async_context(
            self.makers.caches.mounted(mount.cache, base, key, mount.selector.strip("/"), said)
        )
        return str(directory)
