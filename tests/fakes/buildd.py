"""What a solver works with, in memory: trees are files by path, sources are known, steps are Python."""

import asyncio
import fnmatch
import io
import tarfile
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from buildd.files.converting import convert
from buildd.llb.ops import NO_LIMITS, Copy, Edge, ExecOp, FileOp, MakeFile, Metadata, Mount, Node, Process, SourceOp
from buildd.protocol import (
    Converted,
    Directory,
    FileStat,
    Form,
    ImageQuery,
    Output,
    Pinned,
    ProcessError,
    Readable,
    ResolvedImage,
    Selection,
    StepContext,
    Tree,
    WritableTree,
)
from buildd.source_metadata import AttestationChain, AttestationQuery, Checksum, ChecksumQuery, GitObjects
from sampan.build.progress import Update, Vertex, VertexLog
from sampan.errors import NotFoundError
from sampan.oci.chain import chain_ids
from sampan.oci.descriptor import OCI_LAYER, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource.container_spec import Resources
from sampan.resource.image import Layer
from sampan.resource.snapshot import Mount as SnapshotMount
from tests.fakes.build_containers import FakeContainer

Contents = Mapping[str, bytes]

GO_DIRECTORY = 1 << 31  # of ``FileStat.mode``


def layer(changes: Mapping[str, bytes]) -> Layer:
    """Return the layer of some files; the same files, the same layer."""
    digest = Digest.of(repr(sorted(changes.items())).encode())
    return Layer(Descriptor(OCI_LAYER, digest, 100 + sum(map(len, changes.values()))), digest)


@dataclass(slots=True)
class FakeWorld:
    """Every layer that there is, and every directory of a client's."""

    layers: dict[Digest, Contents] = field(default_factory=dict)
    directories: dict[Path, Contents] = field(default_factory=dict)
    lost: set[Digest] = field(default_factory=set)  # diff IDs that are nowhere any more

    def tree(self, *stack: Contents) -> Tree:
        layers = []
        for changes in stack:
            made = layer(changes)
            self.layers[made.diff_id] = changes
            self.lost.discard(made.diff_id)
            layers.append(made)
        return Tree(tuple(layers))

    def on(self, base: Tree, changes: Contents) -> Tree:
        return Tree((*base.layers, *self.tree(changes).layers)) if changes else base

    def files(self, output: Output) -> dict[str, bytes]:
        if isinstance(output, Directory):
            return dict(self.directories[output.path])
        found: dict[str, bytes] = {}
        for each in output.layers:
            if each.diff_id in self.lost:
                raise NotFoundError(f"layer {each.diff_id} is nowhere")
            found |= self.layers[each.diff_id]
        return found


class FakeTrees:
    """Trees of a world."""

    def __init__(self, world: FakeWorld) -> None:
        self._world = world
        self._number = 0
        self.snapshots: dict[str, Tree] = {}
        self.kept: list[Tree] = []
        self.written: dict[str, dict[str, bytes]] = {}

    async def ready(self, tree: Tree) -> str:
        self._world.files(tree)
        return chain_ids([each.diff_id for each in tree.layers])[-1] if tree.layers else ""

    def recorded(self, trees: Iterable[Tree]) -> None:
        self.kept += trees

    def _new(self, tree: Tree) -> str:
        self._number += 1
        key = f"snapshot-{self._number}"
        self.snapshots[key] = tree
        self.written[key] = {}
        return key

    @asynccontextmanager
    async def _writable(self, base: Tree) -> AsyncIterator[WritableTree]:
        await self.ready(base)
        made = FakeWritableTree(self._new(base), self._world, self)
        try:
            yield made
        finally:
            self.snapshots.pop(made.key, None)

    def writable(self, base: Tree) -> AbstractAsyncContextManager[WritableTree]:
        return self._writable(base)

    @asynccontextmanager
    async def _view(self, tree: Tree) -> AsyncIterator[str]:
        await self.ready(tree)
        key = self._new(tree)
        try:
            yield key
        finally:
            del self.snapshots[key]

    def view(self, tree: Tree) -> AbstractAsyncContextManager[str]:
        return self._view(tree)


@dataclass(slots=True)
class FakeWritableTree:
    key: str
    world: FakeWorld
    trees: FakeTrees
    mounts: tuple[SnapshotMount, ...] = ()

    async def freeze(self) -> Tree:
        return self.world.on(self.trees.snapshots.pop(self.key), self.trees.written[self.key])


@dataclass(slots=True)
class FakeFileWorker:
    """Copies and makes files. ``calls`` says what it was asked."""

    world: FakeWorld
    calls: list[str] = field(default_factory=list)
    root: Path | None = None  # what ``mounted`` shows instead of the outputs

    async def checksum(self, output: Output, selection: Selection) -> Digest:
        self.calls.append(f"checksum {selection.path}")
        chosen = self._chosen(output, selection.path)
        if not chosen:
            raise NotFoundError(f'"{selection.path}": not found')
        return Digest.of(repr(sorted(chosen.items())).encode())

    def _chosen(self, output: Output, path: str) -> dict[str, bytes]:
        files, path = self.world.files(output), path.strip("/")
        if not path:
            return files or {"": b""}
        return {n: d for n, d in files.items() if fnmatch.fnmatch(n, path) or n.startswith(f"{path}/")}

    async def convert(self, source: Path, target: Path, form: Form) -> Converted:
        return convert(source, target, form)

    async def file_digests(self, output: Output) -> Mapping[str, Digest]:
        return {name: Digest.of(data) for name, data in self.world.files(output).items()}

    async def change(self, op: FileOp, inputs: Sequence[Output], context: StepContext) -> Sequence[Tree]:
        self.calls.append("change")
        results: list[Output] = list(inputs)
        outputs: dict[int, Tree] = {}
        for action in op.actions:
            base = results[action.input] if action.input >= 0 else Tree()
            assert isinstance(base, Tree)
            changes: dict[str, bytes] = {}
            match action.action:
                case MakeFile() as make:
                    changes[make.path.strip("/")] = make.data
                case Copy() as copy:
                    chosen = self._chosen(results[action.secondary_input], copy.src)
                    file = copy.src.strip("/") in chosen and not copy.dest.endswith("/")
                    for name, data in chosen.items():
                        place = copy.dest if file else f"{copy.dest.strip('/')}/{name}"
                        changes[place.strip("/")] = data
            made = self.world.on(base, changes)
            results.append(made)
            if action.output >= 0:
                outputs[action.output] = made
        return [outputs[n] for n in sorted(outputs)]

    async def flatten(self, output: Output) -> Tree:
        return output if isinstance(output, Tree) else self.world.tree(self.world.files(output))

    async def read_file(self, output: Readable, path: str, offset: int = 0, length: int = 0) -> bytes:
        assert isinstance(output, Tree | Directory)
        data = self.world.files(output).get(path.strip("/"))
        if data is None:
            raise NotFoundError(f"open {path}: no such file or directory")
        return data[offset:][: length or None]

    async def read_directory(self, output: Readable, path: str, pattern: str = "") -> Sequence[FileStat]:
        assert isinstance(output, Tree | Directory)
        place = path.strip("/")
        below = [PurePosixPath(name).relative_to(place) for name in self._chosen(output, place) if name != place]
        if not below:
            raise NotFoundError(f"open /{place}: no such file or directory")
        names = sorted({each.parts[0] for each in below if each.parts})
        return [
            await self.stat(output, f"{place}/{name}")
            for name in names
            if not pattern or fnmatch.fnmatch(name, pattern)
        ]

    async def stat(self, output: Readable, path: str) -> FileStat:
        assert isinstance(output, Tree | Directory)
        place = path.strip("/")
        data, name = self.world.files(output).get(place), PurePosixPath(place).name
        if data is not None:
            return FileStat(name, 0o644, 0, 0, len(data), 0)
        if not any(each.startswith(f"{place}/") for each in self.world.files(output)):
            raise NotFoundError(f"lstat /{place}: no such file or directory")
        return FileStat(name, GO_DIRECTORY | 0o755, 0, 0, 0, 0)

    async def tar(self, outputs: Mapping[str, Output]) -> AsyncGenerator[bytes, None]:
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w") as archive:
            for below, output in outputs.items():
                for name, data in sorted(self.world.files(output).items()):
                    member = tarfile.TarInfo(f"{below}/{name}".strip("/"))
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        yield written.getvalue()

    @asynccontextmanager
    async def mounted(self, outputs: Mapping[str, Output]) -> AsyncIterator[Path]:
        if self.root is not None:
            yield self.root
            return
        with tempfile.TemporaryDirectory() as place:
            for below, output in outputs.items():
                (Path(place) / below).mkdir(exist_ok=True)
                for name, data in self.world.files(output).items():
                    path = Path(place) / below / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
            yield Path(place)


@dataclass(slots=True)
class FakeSources:
    """Images and directories by their identifiers. A directory has no pin and is held while it is used."""

    world: FakeWorld
    images: dict[str, Tree] = field(default_factory=dict)
    directories: dict[str, Path] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)

    async def pin(self, op: SourceOp, platform: Platform, context: StepContext) -> Pinned:
        self.calls.append(f"pin {op.identifier}")
        if op.identifier in self.directories:
            return Pinned("")
        if op.identifier not in self.images:
            raise NotFoundError(f"{op.identifier}: not found")
        return Pinned(repr(self.images[op.identifier]), pin="sha256:pin")

    async def fetch(self, op: SourceOp, pinned: Pinned, platform: Platform, context: StepContext) -> Output:
        self.calls.append(f"fetch {op.identifier}")
        if op.identifier in self.images:
            return self.images[op.identifier]
        return await context.hold(self._held(op.identifier))

    @asynccontextmanager
    async def _held(self, identifier: str) -> AsyncIterator[Output]:
        self.held.append(identifier)
        try:
            yield Directory(self.directories[identifier])
        finally:
            self.held.remove(identifier)

    async def resolve_config(self, query: ImageQuery, context: StepContext) -> ResolvedImage:
        raise NotImplementedError

    async def git_objects(self, op: SourceOp, pinned: Pinned, context: StepContext) -> GitObjects:
        return GitObjects(f"commit {pinned.pin}".encode(), b"tag", "a" * 40)

    async def attestations(
        self, op: SourceOp, query: AttestationQuery, platform: Platform, context: StepContext
    ) -> AttestationChain:
        return AttestationChain(Digest.of(op.identifier.encode()))

    async def checksum(self, op: SourceOp, pinned: Pinned, query: ChecksumQuery, context: StepContext) -> Checksum:
        return Checksum(f"{query.algorithm}:{pinned.pin}", query.suffix)


# What a step does: given its root's files, it returns what it changes.
Behaviour = Callable[[Contents, StepContext], Awaitable[Contents]]


class FakeExecutor:
    """Runs steps as Python functions by their command; others write their command into a file."""

    def __init__(self, world: FakeWorld) -> None:
        self._world = world
        self.behaviours: dict[str, Behaviour] = {}
        self.ran: list[str] = []
        self.limits: list[Resources] = []
        self.network_modes: list[str] = []
        self.cancelled: list[str] = []
        self.containers: list[FakeContainer] = []
        self.container_code = 0  # what their processes end with
        self.running = 0
        self.most = 0  # how many ran at the same time

    async def run(
        self,
        op: ExecOp,
        inputs: Sequence[Output],
        platform: Platform | None,
        context: StepContext,
        limits: Resources = NO_LIMITS,
        network_mode: str = "",
    ) -> Sequence[Tree]:
        self.limits.append(limits)
        self.network_modes.append(network_mode)
        command = " ".join(op.process.args)
        self.ran.append(command)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            root = inputs[op.mounts[0].input] if op.mounts[0].input >= 0 else Tree()
            assert isinstance(root, Tree)
            behaviour = self.behaviours.get(command)
            files = self._world.files(root)
            made = await behaviour(files, context) if behaviour else {f"out/{command}": command.encode()}
            return [self._world.on(root, made)]
        except asyncio.CancelledError:
            self.cancelled.append(command)
            raise
        finally:
            self.running -= 1

    @asynccontextmanager
    async def container(
        self, op: ExecOp, inputs: Sequence[Output], context: StepContext
    ) -> AsyncIterator[FakeContainer]:
        made = FakeContainer(op, self.container_code, inputs)
        self.containers.append(made)
        try:
            yield made
        finally:
            made.leave()


async def failing(_files: Contents, _context: StepContext) -> Contents:
    """A step that exits with 7."""
    raise ProcessError('process "/bin/sh -c exit 7" did not complete successfully: exit code: 7', 7)


@dataclass(slots=True)
class Gate:
    """A step that says that it runs, and waits to be let go on."""

    made: Contents
    running: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)  # it runs no more

    async def __call__(self, _files: Contents, context: StepContext) -> Contents:
        self.running.set()
        context.log(b"working\n")
        try:
            await self.go.wait()
        finally:
            self.left.set()
        return self.made


@dataclass
class FakeKeeper:
    """Leases in memory."""

    leases: dict[str, tuple[Layer, ...]] = field(default_factory=dict)

    async def keep(self, id: str, layers: Sequence[Layer]) -> None:
        self.leases[id] = tuple(layers)

    async def release(self, ids: Sequence[str]) -> None:
        for each in ids:
            self.leases.pop(each, None)

    async def kept(self) -> Collection[str]:
        return set(self.leases)


@dataclass(slots=True)
class FakeProgress:
    """Keeps every update."""

    updates: list[Update] = field(default_factory=list)
    said: asyncio.Event = field(default_factory=asyncio.Event)  # a step has said something

    def report(self, update: Update) -> None:
        self.updates.append(update)
        if isinstance(update, VertexLog):
            self.said.set()

    @property
    def last(self) -> dict[str, Vertex]:
        """Every vertex by its name, as it was told last."""
        return {update.name: update for update in self.updates if isinstance(update, Vertex)}

    @property
    def logs(self) -> bytes:
        """All output."""
        return b"".join(update.data for update in self.updates if isinstance(update, VertexLog))


def image(identifier: str = "docker-image://base") -> Edge:
    return Node(SourceOp(identifier), metadata=Metadata(f"FROM {identifier}")).output()


def run(base: Edge | None, command: str, *mounts: tuple[Mount, Edge], ignore_cache: bool = False) -> Edge:
    """Return a step that runs ``command`` on ``base``; a mount's input index is set here."""
    inputs = [] if base is None else [base]
    root = Mount("/", input=len(inputs) - 1, output=0)
    others = []
    for mount, edge in mounts:
        inputs.append(edge)
        others.append(Mount(mount.dest, mount.type, len(inputs) - 1, mount.selector, read_only=mount.read_only))
    op = ExecOp(Process(tuple(command.split())), (root, *others))
    return Node(op, tuple(inputs), metadata=Metadata(f"RUN {command}", ignore_cache=ignore_cache)).output()
