"""What runtimed offers, as Python: the cores satisfy these, and so do the clients that reach them over gRPC.

Objects are named by their ID, an unambiguous prefix of one, or their name. All methods raise ``SampanError``; the
messages are Docker's where Docker has some. Closing an iterator (``contextlib.aclosing``) ends what it stands for; who
reads slowly slows the other side down. Consumers declare narrower protocols of their own.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sampan.build.step import StepInput, StepOutput, StepSpec
from sampan.resource.container import Condition, ContainerDetails, Created, Exit, PathStat
from sampan.resource.container_spec import ConsoleSize, ContainerSpec, Endpoint, Resources, RestartPolicy
from sampan.resource.event import Event
from sampan.resource.exec import Exec, ExecSpec
from sampan.resource.listing import NO_FILTERS, RUNNING_ONES, Filters, Pruned, Selection
from sampan.resource.network import Network, NetworkRequest
from sampan.resource.stats import ContainerSample, ContainerStats, HostInfo, Top
from sampan.resource.streams import (
    Accepted,
    AttachOptions,
    ExecStart,
    Input,
    LogBatch,
    LogQuery,
    OpenBody,
    Outlet,
    Output,
)
from sampan.resource.volume import Volume, VolumeRequest


class Containers(Protocol):
    """Containers: their records, their life, their streams."""

    async def create(self, spec: ContainerSpec) -> Created:
        """Make a container and its file system. All or nothing.

        Raises:
            InvalidArgumentError: also if another container that it names is not there.
            ConflictError: the name is taken.
            NotFoundError: the image's snapshot is not there.
        """

    async def get(self, container: str, *, size: bool = False) -> ContainerDetails:
        """Return one; with ``size`` also what it wrote. NotFoundError."""

    async def list(
        self, selection: Selection = RUNNING_ONES, filters: Filters = NO_FILTERS, *, size: bool = False
    ) -> tuple[ContainerDetails, ...]:
        """Return those asked for, newest first, without ``spec.docker``. InvalidArgumentError: a bad filter."""

    def pages(
        self, selection: Selection = RUNNING_ONES, filters: Filters = NO_FILTERS, *, size: bool = False
    ) -> AsyncGenerator[Sequence[ContainerDetails], None]:
        """Yield what ``list`` returns, some at a time."""

    async def start(self, container: str) -> None:
        """Start it. NotModifiedError if it runs; StartError and its kinds if it cannot be."""

    async def stop(self, container: str, timeout_s: float | None = None, signal: str = "") -> None:
        """Signal, wait, kill. ``timeout_s`` None: the container's own; -1: wait for ever. NotModifiedError."""

    async def restart(self, container: str, timeout_s: float | None = None, signal: str = "") -> None:
        """Stop it if it runs, and start it."""

    async def kill(self, container: str, signal: str = "") -> None:
        """Send a signal, by name or number; SIGKILL if empty. ConflictError if it does not run."""

    async def pause(self, container: str) -> None:
        """Freeze it. ConflictError if it does not run, or is frozen."""

    async def unpause(self, container: str) -> None:
        """Thaw it. ConflictError if it is not frozen."""

    def held(self, container: str) -> AbstractAsyncContextManager[None]:
        """Keep it frozen within, if it runs; it goes on when whoever holds it leaves, or dies."""

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it, with ``volumes`` its anonymous volumes too. ConflictError if it runs, unless ``force``."""

    async def unlink(self, container: str, alias: str) -> None:
        """Take the legacy link of that alias from it, at once if it runs. NotFoundError: it has none."""

    async def rename(self, container: str, name: str) -> None:
        """Give it another name. InvalidArgumentError, ConflictError."""

    async def update(
        self, container: str, resources: Resources | None = None, restart_policy: RestartPolicy | None = None
    ) -> tuple[str, ...]:
        """Change limits (0 leaves one as it is) and the restart policy; return warnings."""

    def wait(self, container: str, condition: Condition = Condition.NOT_RUNNING) -> AsyncGenerator[Exit | None, None]:
        """Yield None when the wait is in place, so that nothing is missed from there on; then the exit.

        Raises:
            UnavailableError: the service stops first.
        """

    def attach(self, container: str, options: AttachOptions, input: Input) -> AsyncGenerator[Output, None]:
        """Connect a client with its streams, also before it starts; ends when they do.

        Raises:
            ConflictError: it is paused or restarting.
            UnavailableError: the service stops; the container does not.
        """

    async def resize(self, container: str, size: ConsoleSize) -> None:
        """Set its terminal's size."""

    def logs(self, container: str, query: LogQuery) -> AsyncGenerator[LogBatch, None]:
        """Yield what was logged; with ``follow`` until the container stops."""

    async def top(self, container: str, ps_args: str = "") -> Top:
        """Return its processes as ps(1) shows them. ConflictError if it does not run."""

    def stats(
        self, container: str, *, stream: bool = True, one_shot: bool = False
    ) -> AsyncGenerator[ContainerStats, None]:
        """Yield a sample a second; without ``stream`` one, and with ``one_shot`` that without a second reading."""

    async def prune(self, filters: Filters = NO_FILTERS, *, owner: str = "") -> Pruned:
        """Remove all of ``owner``'s that do not run."""

    async def reopen_log(self, container: str) -> None:
        """For log driver ``cri``: have the log's file opened anew, by its path; return when it is.

        Raises:
            ConflictError: the container does not run.
            NotFoundError: the log's directory is gone.
        """

    async def samples(
        self,
        owner: str = "",
        containers: Sequence[str] = (),
        *,
        detailed: bool = False,
        parents: Sequence[str] = (),
    ) -> tuple[ContainerSample, ...]:
        """Return what those of ``owner``'s that run use just now; with ``containers`` those of these IDs.

        ``detailed`` ones have details, which take several times as long. ``parents`` are cgroups above containers, as
        their specs name them: for each that there is one more sample, without what a spec and a file system say.
        """


class Execs(Protocol):
    """Further processes in running containers."""

    async def create(self, container: str, spec: ExecSpec) -> str:
        """Record a process to run; return its ID. ConflictError: the container does not run."""

    async def get(self, id: str) -> Exec:
        """Return one. NotFoundError."""

    def start(self, id: str, options: ExecStart, input: Input) -> AsyncGenerator[Accepted | Output, None]:
        """Run it: ``Accepted`` when the start is, ``Attached`` when it runs, its output unless detached.

        Ends when the exec has, with its exit code recorded.

        Raises:
            ConflictError: it was started before, or its container does not run.
            StartError: it cannot be started; Docker's words.
            UnavailableError: the service stops; the exec does not.
        """

    async def resize(self, id: str, size: ConsoleSize) -> None:
        """Set its terminal's size. NotFoundError."""

    async def kill(self, id: str) -> None:
        """Kill its process and all that have come of it; no error if it does not run. NotFoundError."""


class Steps(Protocol):
    """Processes of build steps: isolated as containers are, and nothing of them is kept."""

    def run(self, spec: StepSpec, input: StepInput | None = None) -> AsyncGenerator[StepOutput, None]:
        """Run a process to its end: yield ``StepStarted``, its output as fast as it is read, ``StepExit``.

        Whoever leaves the iterator kills every process of the step. When it has ended, whichever way, the snapshots are
        the caller's again, without the empty places that were made in the root to mount something at. Without
        ``input`` stdin is empty.

        Raises:
            InvalidArgumentError: a bad ID, target, source or limit; devices.
            AlreadyExistsError: a step of this ID runs.
            NotFoundError: no such snapshot, or nothing at a source's path in it.
            CommandNotFoundError, CommandNotExecutableError: the command is no program; exit codes 127 and 126.
            NotStartedError: the runtime did not start it for another reason, in its words.
            StartError: what comes before the runtime: a user or working directory cannot be one, a mount failed.
            UnavailableError: the service stops, and the step with it.
        """


class Archives(Protocol):
    """Files of containers. Paths are the container's own: links lead where they lead in there."""

    @property
    def takes_descriptors(self) -> bool:
        """Whether ``OpenBody`` and ``Outlet`` can be had: they cannot by way of another host."""

    async def stat(self, container: str, path: str) -> PathStat:
        """Return what a path is; a link is not followed. NotFoundError: no such container, or no such path in it."""

    def read(self, container: str, path: str, to: Outlet | None = None) -> AsyncGenerator[PathStat | bytes, None]:
        """Yield what a path is, and then its tar in pieces. Raises as ``stat``.

        With ``to`` the tar goes where that leads, and nothing more is yielded.
        """

    async def write(
        self, container: str, path: str, chunks: AsyncIterator[bytes] | OpenBody, *, keep_kinds: bool = False
    ) -> None:
        """Unpack a tar into a directory that is there.

        ``keep_kinds``: refuse to put a file where a directory is, and the other way round.
        """

    def read_volume(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield all that is in a volume as a tar, in pieces; it cannot be removed meanwhile.

        Raises:
            NotFoundError: there is no such volume.
            StartError: what its options or its plugin say cannot be mounted.
        """

    async def write_volume(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Unpack a tar, plain or packed, into a volume. Raises as ``read_volume``; InvalidArgumentError: it is none."""


class Events(Protocol):
    """What happened."""

    def subscribe(
        self, *, since_ns: int = 0, until_ns: int = 0, filters: Filters = NO_FILTERS, owner: str = ""
    ) -> AsyncGenerator[Event | None, None]:
        """Yield None when the subscription is in place, then past events from ``since_ns`` on, then live ones.

        Of containers, those that ``owner`` has; ``EVERYONE``: all.

        Without ``since_ns`` there are no past ones, unless there is an end: then all of them. ``until_ns`` 0: for ever.

        Raises:
            UnavailableError: the service stops first.
        """

    async def kept_since_ns(self) -> int:
        """Return the time of the oldest event that is kept, 0 if none has been dropped."""

    async def publish(self, events: Iterable[Event]) -> None:
        """Record what another service did, for all who listen."""


class Networks(Protocol):
    """Networks and their endpoints."""

    async def create(self, request: NetworkRequest) -> str:
        """Make a network; return its ID.

        Raises:
            InvalidArgumentError: a bad name, address or option.
            AlreadyExistsError: the name is taken.
            PermissionDeniedError: a predefined name, or addresses that overlap another network's.
        """

    async def get(self, network: str) -> Network:
        """Return one. NotFoundError."""

    async def list(self, filters: Filters = NO_FILTERS) -> tuple[Network, ...]:
        """Return those that match, newest first. InvalidArgumentError."""

    def pages(self, filters: Filters = NO_FILTERS) -> AsyncGenerator[Sequence[Network], None]:
        """Yield what ``list`` returns, some at a time."""

    async def remove(self, network: str) -> None:
        """Remove it. NotFoundError; PermissionDeniedError if it is predefined or in use."""

    async def connect(self, network: str, container: str, endpoint: Endpoint) -> None:
        """Connect a container, at once if it runs and otherwise when it starts."""

    async def disconnect(self, network: str, container: str, *, force: bool = False) -> None:
        """Disconnect a container; ``force``: no error if it is gone."""

    async def prune(self, filters: Filters = NO_FILTERS) -> tuple[str, ...]:
        """Remove every network that no container is on; return their names."""


class Volumes(Protocol):
    """Volumes."""

    async def create(self, request: VolumeRequest) -> Volume:
        """Make a volume, or return the one of that name if it has the same driver. ConflictError if it has not."""

    async def get(self, name: str) -> Volume:
        """Return one. NotFoundError."""

    async def list(self, filters: Filters = NO_FILTERS, *, size: bool = False) -> tuple[Volume, ...]:
        """Return those that match, by name; ``size``: measured, which reads each one's whole tree."""

    def pages(self, filters: Filters = NO_FILTERS, *, size: bool = False) -> AsyncGenerator[Sequence[Volume], None]:
        """Yield what ``list`` returns, some at a time."""

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove it; ``force``: no error if there is none. ConflictError if a container uses it."""

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        """Remove what no container uses."""


class Host(Protocol):
    """What the host can do."""

    async def info(self) -> HostInfo:
        """Say what there is, and what was chosen because of it."""
