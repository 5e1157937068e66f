"""The contracts between buildd's rooms; tests put fakes in their place.

A *frontend* turns a Dockerfile into a graph of ``llb.ops`` nodes. What it needs to know on the way, it asks of
the build through a ``Bridge``. The *solver* runs a graph: each operation's outcome is an ``Output``, found in the cache
or made by a source, a file operation or a process. An *exporter* gives a build's result away.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from buildd.llb.ops import Edge, FileOp, SourceOp
from buildd.source_metadata import AttestationChain, AttestationQuery, Checksum, ChecksumQuery, GitObjects
from sampan.build.progress import BuildWarning, Position, Update
from sampan.errors import BuildFailedError, RemoteError, SampanError
from sampan.json_types import JsonObject
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource.image import Layer
from sampan.resource.snapshot import Mount


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """Which image's config is asked for."""

    reference: str  # complete: registry, repository and tag or digest
    platform: Platform
    mode: str = "default"  # "pull": ask the registry even if the image is here; "local": do not if it is
    step: str = ""  # what progress shows
    layout: str = ""  # the client's OCI layout that has it, instead of a registry


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """An image that a FROM or COPY --from names, for one platform."""

    reference: str  # complete; another one if a policy of the build replaces it
    digest: Digest | None  # of the manifest or index that the name leads to
    config: bytes  # the image's config, JSON


class Files(Protocol):
    """Read access to one result. Every path is resolved inside it; links lead where they lead inside."""

    async def read_file(self, path: str, length: int = 0) -> bytes:
        """Return a file's content, ``length`` bytes of it at most; 0 is all of it.

        Raises:
            NotFoundError: no such file.
            InvalidArgumentError: more than 16 MiB, or no regular file.
        """


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that a graph was made of: what the positions of its steps are in."""

    name: str
    data: bytes = field(repr=False)
    language: str = "Dockerfile"
    definition: bytes = field(default=b"", repr=False)  # pb.Definition of the graph that the file is from


class Bridge(Protocol):
    """What a frontend can ask of the build that it works for."""

    session: str  # of the client that builds; empty: it has none
    platforms: Sequence[Platform]  # whose programs run here, the builder's own first

    async def solve(self, edge: Edge) -> Files:
        """Run a graph up to ``edge`` and return read access to the result. Raises what the step raises."""

    async def resolve_config(self, query: ImageQuery) -> ResolvedImage:
        """Return an image's config.

        Raises:
            NotFoundError: no such image, or nothing for the platform; in Docker's words.
            PermissionDeniedError, UnavailableError: the registry says no, or nothing.
        """

    async def warn(self, warning: BuildWarning, source: SourceFile) -> None:
        """Show a warning about lines of ``source``."""

    async def forward(self, attributes: Mapping[str, str], inputs: Mapping[str, Edge]) -> "Result":
        """Have the frontend whose image is the attribute ``source`` make the result.

        Raises:
            FrontendError: it has ended with that.
            SampanError: it cannot be had, or run.
        """

    async def tell(self, name: str, data: bytes) -> None:
        """Show a step that is over at once, and has said ``data``."""


@dataclass(frozen=True, slots=True)
class Said:
    """Something that a frontend, or a step for it, says of an output: statements of in-toto, or what one is about."""

    edge: "Edge | None"  # where it can be read
    path: str = ""  # of the file, or of a bundle's directory
    bundle: bool = False  # every file there is a statement
    predicate_type: str = ""  # of the file, or of all in a bundle; a bundle's may be empty
    subjects: tuple[JsonObject, ...] = ()  # instead of the output


@dataclass(frozen=True, slots=True)
class Result:
    """What a frontend returns: one edge per platform, and metadata under BuildKit's names.

    Metadata of the only platform has no suffix; of several, each key ends in ``/<platform ID>``. An edge of None is an
    empty tree: nothing was put into ``scratch``.
    """

    edges: Mapping[str, Edge | None]  # by platform ID; "" if one platform is all that the result can have
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    source: SourceFile | None = None
    frontend: str = ""  # which made it, and what it was asked for
    attributes: Mapping[str, str] = field(default_factory=dict)
    said: Mapping[str, tuple[Said, ...]] = field(default_factory=dict)  # by platform ID
    # What a generator of bills of materials is to look at beside an output: its platform ID, then names.
    extras: Mapping[str, Mapping[str, Edge]] = field(default_factory=dict)


class FrontendError(RemoteError):
    """What a client, or a frontend that is an image, has ended its build with: it goes back as it came."""


# Outputs -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tree:
    """Files as layers, base first; no layers: the empty tree.

    The layers' diff IDs identify the files: a step's cache key is made of its operation and of its inputs' diff IDs, so
    a step that was run again to the same effect invalidates nothing after it. Every layer is in the content store,
    unless it is deferred, and stored by the snapshotter, or can be brought there by ``Trees.ready``.
    """

    layers: tuple[Layer, ...] = ()
    # Steps that changed nothing made no layer, but have a line in the history of an image: for each, in order, how many
    # layers there were below it. It says nothing about files.
    unchanged: tuple[int, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Directory:
    """Files that a client sent, in a directory of the builder's; unchanged while a step's context holds it."""

    path: Path


Output = Tree | Directory


class Trees(Protocol):
    """Trees on disk. Keys are of snapshots that carry the builder's label: a start removes what is left of them."""

    async def ready(self, tree: Tree) -> str:
        """Make the tree mountable and return its chain ID, "" for the empty tree.

        Raises:
            NotFoundError: a layer is nowhere any more.
            SampanError: as ``Layers.apply`` and ``Images.fetch``.
        """

    def recorded(self, trees: Iterable[Tree]) -> None:
        """Say that the build cache keeps these trees, which are ready: what was frozen for them is looked after."""

    def writable(self, base: Tree) -> AbstractAsyncContextManager["WritableTree"]:
        """Prepare an active snapshot on ``base``; it is removed at the end unless it was frozen."""

    def view(self, tree: Tree) -> AbstractAsyncContextManager[str]:
        """Yield the key of a read-only snapshot of ``tree``."""


class WritableTree(Protocol):
    """An active snapshot."""

    key: str

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """What shows it."""

    async def freeze(self) -> Tree:
        """Return the base and what was changed as one more layer. Ends the snapshot.

        If nothing was changed, there is no layer, and ``unchanged`` of what is returned says so.
        """


Readable = Output | WritableTree


@dataclass(frozen=True, slots=True)
class Remains:
    """One mount of a step that has failed, as long as a build that wanted the step lasts."""

    before: Output | None  # what it began with; None: nothing that is an output
    # Returns what has become of it, and raises SampanError if that cannot be kept; None: nothing is left.
    after: Callable[[], Awaitable[Output]] | None


# What a step is given ----------------------------------------


class StepContext(Protocol):
    """One vertex at work, for however many builds want it; cancelled when the last of them leaves."""

    @property
    def vertex(self) -> Digest:
        """What the first of the builds calls it."""

    def sessions(self) -> Sequence[str]:
        """Return the IDs of the sessions of the clients that wait for the vertex, the first one's first."""

    def log(self, data: bytes, stream: int = 1) -> None:
        """Show output of the step: stream 1 is stdout, 2 stderr."""

    def status(self, id: str, *, current: int = 0, total: int = 0, done: bool = False) -> None:
        """Show how far a part of the step is, such as ``transferring context: 1.2kB``."""

    async def hold(self, held: AbstractAsyncContextManager[Output]) -> Output:
        """Enter a context that stays entered until no build that wants the vertex needs its output any more."""

    async def leave_behind(self, remains: Sequence[Remains], let_go: Callable[[], Awaitable[None]]) -> None:
        """Say what is left of the step, which has failed; ``let_go`` is called when no build needs that any more."""


class Sources(Protocol):
    """Where ``SourceOp`` gets files: images, a client's directories, downloads, repositories, OCI layouts."""

    async def pin(self, op: SourceOp, platform: Platform, context: StepContext) -> "Pinned":
        """Find out what the source is just now.

        Raises:
            InvalidArgumentError: an identifier or attribute that cannot be; it is named.
            NotFoundError, PermissionDeniedError, UnavailableError, RemoteError: in the source's words.
        """

    async def fetch(self, op: SourceOp, pinned: "Pinned", platform: Platform, context: StepContext) -> Output:
        """Return its files."""

    async def resolve_config(self, query: ImageQuery, context: StepContext) -> ResolvedImage:
        """See ``Bridge.resolve_config``."""

    async def git_objects(self, op: SourceOp, pinned: "Pinned", context: StepContext) -> GitObjects:
        """Return what signs a commit. Raises as ``pin``."""

    async def attestations(
        self, op: SourceOp, query: AttestationQuery, platform: Platform, context: StepContext
    ) -> AttestationChain:
        """Return what is said of an image. Raises as ``pin``; ResourceExhaustedError: it is too much."""

    async def checksum(self, op: SourceOp, pinned: "Pinned", query: ChecksumQuery, context: StepContext) -> Checksum:
        """Return a checksum of a download. Raises as ``pin``."""


# Returns what a build may take for a source: the very same operation, if it is that. Raises PermissionDeniedError.
Judge = Callable[[SourceOp, Platform | None], Awaitable[SourceOp]]


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a source is at one moment."""

    key: str  # equal keys, equal files; "" if only the files tell
    pin: str = ""  # what provenance names: a manifest's digest, a commit, a checksum


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of an output's files a step reads: a path, wildcards allowed, and patterns as a Copy has them."""

    path: str = "/"
    follow_symlink: bool = False
    wildcard: bool = False
    include_patterns: tuple[str, ...] = ()
    exclude_patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileStat:
    """One file, as fsutil's ``types.Stat``: Go's mode bits."""

    path: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link_name: str = ""
    dev_major: int = 0
    dev_minor: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


# How layers are compressed, in BuildKit's words.
GZIP: Final = "gzip"
ZSTD: Final = "zstd"
PLAIN: Final = "uncompressed"


@dataclass(frozen=True, slots=True)
class Form:
    """How a layer's blob is to be."""

    compression: str  # GZIP, ZSTD or PLAIN
    level: int | None = None  # None: the usual one
    latest_ns: int | None = None  # files that were changed later get this time; None: all keep theirs


@dataclass(frozen=True, slots=True)
class Converted:
    """A layer's blob in another form."""

    digest: Digest
    size: int  # bytes
    diff_id: Digest


class FileWorker(Protocol):
    """What is done with outputs' files, in processes of its own. Paths are resolved inside the output, links too."""

    async def checksum(self, output: Output, selection: Selection) -> Digest:
        """Digest names, types, modes, owners, link targets, xattrs and bytes of what is selected; no times.

        Raises:
            NotFoundError: nothing is there; in BuildKit's words: ``"/x": not found``.
        """

    async def change(self, op: FileOp, inputs: Sequence[Output], context: StepContext) -> Sequence[Tree]:
        """Carry out the actions and return a tree for each output. Raises NotFoundError, InvalidArgumentError."""

    async def convert(self, source: Path, target: Path, form: Form) -> Converted:
        """Write a layer's blob, a file of the builder's, in another form. InvalidArgumentError: it is damaged."""

    async def file_digests(self, output: Output) -> Mapping[str, Digest]:
        """Digest the bytes of each regular file; by paths without a slash at their beginning."""

    async def flatten(self, output: Output) -> Tree:
        """Return a client's directory as a tree of one layer, and a tree as it is."""

    async def read_file(self, output: Readable, path: str, offset: int = 0, length: int = 0) -> bytes:
        """Return a part of a file; length 0: to its end, 16 MiB at most. Raises NotFoundError.

        Of a snapshot that is written to meanwhile, it is what is there at some moment; likewise below.
        """

    async def read_directory(self, output: Readable, path: str, pattern: str = "") -> Sequence[FileStat]:
        """Return a directory's entries, by name. Raises NotFoundError."""

    async def stat(self, output: Readable, path: str) -> FileStat:
        """Return what a path is; links are not followed at its end. Raises NotFoundError."""

    def tar(self, outputs: Mapping[str, Output]) -> AsyncGenerator[bytes, None]:
        """Yield a tar of everything in the outputs, below the directories that are their names ("" for none)."""

    def mounted(self, outputs: Mapping[str, Output]) -> AbstractAsyncContextManager[Path]:
        """Yield a directory in which the outputs can be read, below their names; gone when this process dies."""


class ProcessError(BuildFailedError):
    """A step's process has failed."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StepError(SampanError):
    """A step of a build has failed; ``cause`` is why, and decides on the status. It says what ``cause`` says."""

    def __init__(self, cause: SampanError, vertex: Digest, name: str, positions: Sequence[Position]) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.vertex = vertex  # as this build's clients know it
        self.name = name
        self.positions = tuple(positions)  # in the Dockerfile

    @property
    def exit_code(self) -> int | None:
        """The process's exit code, if that is what failed."""
        return self.cause.exit_code if isinstance(self.cause, ProcessError) else None


# Progress ----------------------------------------------------


class Progress(Protocol):
    """Where updates of one build go. It never blocks and is bounded: logs beyond the bound are clipped, and say so."""

    def report(self, update: Update) -> None:
        """Take an update."""
