"""What a build is made of, and what the services of BuildKit's clients ask of it.

``Control.Solve`` begins a build and waits for it. The result comes of a graph that the client sends, of a frontend, or,
if it names neither, of the client itself, which drives the build through a ``Gateway`` until it returns a result.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from buildd.executor.protocol import ContainerProcess, Program
from buildd.history.model import BuildRecord, Happened, HistoryQuery
from buildd.llb.ops import Edge, HostAddress, Mount, NetMode, Node, SourceOp
from buildd.protocol import FileStat, ImageQuery, Output, Pinned, ResolvedImage, SourceFile, StepContext, Tree
from buildd.provenance.predicate import BuildConfig
from buildd.source_metadata import AttestationChain, AttestationQuery, Checksum, ChecksumQuery, GitObjects
from sampan.build.policy import Policies
from sampan.build.progress import BuildWarning, Update
from sampan.build.request import CacheOption, PruneOptions, SolveRequest, SolveResponse, UsageRecord
from sampan.errors import SampanError
from sampan.json_types import JsonObject
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform

# What builds are made of --------------------------------------


class Graphs(Protocol):
    """The definitions of one build: its vertexes keep the names that its client gave them."""

    def digest_of(self, node: Node) -> Digest:
        """Return what clients call a vertex."""

    def source_of(self, digest: Digest) -> SourceFile | None:
        """Return the file that a client's definition says a vertex is from."""

    def operation_of(self, digest: Digest) -> bytes | None:
        """Return a vertex's ``pb.Op``; None: it is in none of these definitions."""

    def load(self, definition: bytes, taken: Callable[[SourceOp], SourceOp] | None = None) -> Edge | None:
        """Return what a ``pb.Definition`` is about; None: an empty tree.

        ``taken`` says what is put in the place of each source; what then is another vertex has a name of its own.

        Raises:
            SampanError: as ``taken``.
            InvalidArgumentError: an operation that cannot be, or an input that is missing; named by its digest.
            UnimplementedError: an operation or a capability that this builder does not have.
        """

    def config(self, definition: bytes) -> BuildConfig:
        """Return a ``pb.Definition`` step by step; it takes its time, and knows nothing of this build."""

    def dump(self, edge: Edge | None, source: SourceFile | None = None) -> bytes:
        """Return a graph as ``pb.Definition``; ``source`` is what its lines are in, unless a definition says else."""


class ImportedCaches(Protocol):
    """Caches of other builders that one build was given."""

    async def load(self, option: CacheOption, context: StepContext) -> None:
        """Look into one more. Raises SampanError: it is not there, or damaged."""

    async def find(self, key: Digest) -> tuple[Tree, ...] | None:
        """Return a step's outputs, whose layers are here; None if nobody has them."""

    async def proven(self, outputs: Sequence[Tree], inputs: Sequence[Output]) -> bool:
        """Make them ready, and say whether all of their blobs but those of ``inputs`` are what they are said to be."""


class Cache(Protocol):
    """The build cache, as its owner sees it."""

    async def usage(self, filters: Sequence[str], unused_ns: int = 0) -> Sequence[UsageRecord]:
        """Return its records, but for those that were used within ``unused_ns``. InvalidArgumentError: a bad filter."""

    def prune(self, options: PruneOptions) -> AsyncGenerator[UsageRecord, None]:
        """Remove records and yield each that is gone. InvalidArgumentError: a filter that cannot be."""


# What clients see of them -------------------------------------


@dataclass(frozen=True, slots=True)
class Worker:
    """This builder, as ``moby.buildkit.v1.types.WorkerRecord``."""

    id: str
    labels: Mapping[str, str]
    platforms: tuple[Platform, ...]
    version: str


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A step that has failed: what it was, and by which IDs a gateway makes containers of what its mounts show.

    IDs are in the order of the mounts; empty: the mount began with nothing, or nothing is left of it.
    """

    operation: bytes = field(repr=False)  # pb.Op
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class LocatedError(SampanError):
    """``cause``, and where in which file it is to blame; it says what ``cause`` says."""

    def __init__(
        self,
        cause: SampanError,
        source: SourceFile | None = None,
        lines: Sequence[tuple[int, int]] = (),
        vertex: Digest | None = None,
    ) -> None:
        super().__init__(str(cause))
        self.step: FailedStep | None = None  # told by a gateway
        self.cause = cause
        self.source = source
        self.lines = tuple(lines)  # first and last, counted from 1
        self.vertex = vertex


@dataclass(frozen=True, slots=True)
class GatewayRef:
    """One result that a client can name: ``id`` is empty for the empty tree."""

    id: str
    definition: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class GatewayResult:
    """What a solve of the gateway comes to: refs by platform ID, "" for a result that has one only."""

    refs: Mapping[str, GatewayRef]
    metadata: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """What a client wants solved."""

    definition: bytes | None = None
    frontend: str = ""
    frontend_attributes: Mapping[str, str] = field(default_factory=dict)
    frontend_inputs: Mapping[str, bytes] = field(default_factory=dict)
    evaluate: bool = False  # run it before answering
    cache_imports: tuple[CacheOption, ...] = ()
    policies: Policies = ()  # for the definition, after the build's own


@dataclass(frozen=True, slots=True)
class GatewayAttestation:
    """What a frontend says of an output: ``buildd.protocol.Said``, with a ref."""

    ref: str
    path: str = ""
    bundle: bool = False
    predicate_type: str = ""
    subjects: tuple[JsonObject, ...] = ()


NOTHING_SAID: Final[Mapping[str, Sequence[GatewayAttestation]]] = {}


@dataclass(frozen=True, slots=True)
class ContainerRequest:
    """A container that is wanted beside the build."""

    id: str
    mounts: tuple[Mount, ...]  # an input is an index into ``refs``
    refs: tuple[str, ...] = ()  # IDs of results
    network: NetMode = NetMode.SANDBOX
    hostname: str = ""
    hosts: tuple[HostAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceQuery:
    """Which source's state is asked for."""

    op: SourceOp
    platform: Platform
    step: str = ""  # what progress shows
    mode: str = "default"
    config: bool = True  # of an image
    objects: bool = False  # of a repository
    attestations: AttestationQuery | None = None  # of an image
    checksum: ChecksumQuery | None = None  # of a download


@dataclass(frozen=True, slots=True)
class SourceState:
    """What a source is just now."""

    op: SourceOp
    pinned: Pinned | None = None  # None: nobody has looked
    image: ResolvedImage | None = None
    objects: GitObjects | None = None
    attestations: AttestationChain | None = None
    checksum: Checksum | None = None


class Gateway(Protocol):
    """What the client, or a frontend of its own, asks of one build: ``LLBBridge``."""

    async def solve(self, request: GatewayRequest) -> GatewayResult:
        """Make a result; unless it is to be evaluated, nothing has to have run yet.

        Raises:
            LocatedError: a step or a frontend has failed.
            SampanError: as ``Graphs.load``; a frontend that is not known.
        """

    async def evaluate(self, ref: str) -> None:
        """Run what a result is made of. Raises as ``solve``."""

    async def read_file(self, ref: str, path: str, offset: int, length: int) -> bytes:
        """Return a part of a file. NotFoundError: no such ref or file."""

    async def read_directory(self, ref: str, path: str, pattern: str) -> Sequence[FileStat]:
        """Return a directory's entries. NotFoundError."""

    async def stat(self, ref: str, path: str) -> FileStat:
        """Return what a path is. NotFoundError."""

    async def resolve_config(self, query: ImageQuery, policies: Policies = ()) -> ResolvedImage:
        """Return an image's config, if ``policies`` allow it as well. Raises as ``Bridge.resolve_config``."""

    async def resolve_source(self, query: SourceQuery, policies: Policies = ()) -> SourceState:
        """Return what a source is just now, if ``policies`` allow it as well. Raises as ``Sources.pin``."""

    def inputs(self) -> Mapping[str, bytes]:
        """Return the definitions that the build was given instead of directories."""

    async def warn(self, vertex: Digest, warning: BuildWarning, source: SourceFile | None, level: int) -> None:
        """Show a warning, whether or not the build has such a vertex."""

    async def new_container(self, request: ContainerRequest) -> None:
        """Make a container, which goes with the build. Raises as ``solve``, ``buildd.build.containers`` besides."""

    async def read_container_file(self, id: str, mount: int, path: str, offset: int, length: int) -> bytes:
        """Return a part of a file in a container's mount, by its number. NotFoundError."""

    async def read_container_directory(self, id: str, mount: int, path: str, pattern: str) -> Sequence[FileStat]:
        """Return the entries of a directory there. NotFoundError."""

    async def stat_in_container(self, id: str, mount: int, path: str) -> FileStat:
        """Return what a path is there. NotFoundError."""

    async def release_container(self, id: str) -> None:
        """End a container and its processes. NotFoundError."""

    async def start_process(self, container: str, program: Program) -> ContainerProcess:
        """Make a process in a container. NotFoundError: no such container."""

    def give(
        self,
        refs: Mapping[str, str],
        metadata: Mapping[str, bytes],
        said: Mapping[str, Sequence[GatewayAttestation]] = NOTHING_SAID,
    ) -> None:
        """End the build with these results, by platform ID. NotFoundError: no such ref; ConflictError: it has ended."""

    def fail(self, error: SampanError) -> None:
        """End the build with an error. ConflictError: it has ended."""


class Builder(Protocol):
    """All builds: ``Control``."""

    async def solve(self, request: SolveRequest) -> SolveResponse:
        """Build; cancelled, the build ends.

        Raises:
            AlreadyExistsError: a build of this ref runs.
            PermissionDeniedError: an entitlement that this builder does not grant.
            LocatedError, SampanError: as ``Gateway.solve``, and what exporters raise.
        """

    def status(self, ref: str) -> AsyncGenerator[Sequence[Update], None]:
        """Yield how a build goes, from its beginning to its end; it may begin a little later.

        Raises:
            NotFoundError: no such build has begun by then.
        """

    async def gateway(self, ref: str) -> Gateway:
        """Return what the client of a build drives it by, as soon as it has begun. NotFoundError: as ``status``."""

    def history(self, query: HistoryQuery) -> AsyncGenerator[tuple[Happened, BuildRecord], None]:
        """Yield the builds that are remembered, and then what happens to builds, if that is asked for."""

    async def blob(self, digest: Digest) -> bytes:
        """Return what a record of the history names by its digest. NotFoundError."""

    async def pin(self, ref: str, *, pinned: bool) -> None:
        """Keep a build in the history however many follow, or no longer. NotFoundError."""

    async def forget(self, ref: str) -> None:
        """Remove a build from the history. NotFoundError; ConflictError: it runs."""

    def workers(self) -> Sequence[Worker]:
        """Return this builder."""

    async def usage(self, filters: Sequence[str], unused_ns: int = 0) -> Sequence[UsageRecord]:
        """See ``Cache``."""

    def prune(self, options: PruneOptions) -> AsyncGenerator[UsageRecord, None]:
        """See ``Cache``."""
