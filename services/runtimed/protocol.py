"""The contracts between runtimed's parts: the lifecycle declares what it needs, the parts satisfy it.

``main.py`` puts them together; tests put fakes in their place.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from sampan.resource import snapshot
from sampan.resource.container import Container, MountPoint, NetworkSettings
from sampan.resource.container_spec import ContainerSpec, Endpoint, Process, Resources
from sampan.sys.measuring import Usage

# Tells the world what happened, in Docker's event vocabulary: type, action, the actor's ID, attributes. The event has
# the present time. It never blocks, and never fails.
Publish: TypeAlias = Callable[[str, str, str, Mapping[str, str]], None]

SnapshotMount: TypeAlias = snapshot.Mount  # one that the snapshotter gives; those of a spec are others


class Snapshots(Protocol):
    """The snapshotter, as far as runtimed needs it. Every call is safe to repeat."""

    async def prepare(self, key: str, parent: str, *, transient: bool = False) -> tuple[SnapshotMount, ...]:
        """Make an active snapshot; NotFoundError without the parent. A ``transient`` one waits for no disk."""

    async def view(self, key: str, parent: str) -> tuple[SnapshotMount, ...]:
        """Make a read-only look at ``parent``, which stays as long; NotFoundError without it."""

    async def mounts(self, key: str) -> tuple[SnapshotMount, ...]:
        """Return its mounts; NotFoundError if there is none."""

    async def remove(self, key: str) -> None:
        """Remove it; no error if there is none."""

    async def usage(self, key: str) -> Usage:
        """What was written to it, without its parents."""

    async def keys(self) -> Collection[str]:
        """All that were made here, views too."""


class Networking(Protocol):
    """Network namespaces, endpoints and published ports. Every call is safe to repeat."""

    async def check(self, spec: ContainerSpec) -> tuple[NetworkSettings, tuple[str, ...]]:
        """Validate what is asked for at create; return the settings as requested, and warnings.

        An unknown network is found out by ``attach``, as in Docker.

        Raises:
            ConflictError: the prefix of an ID that names a network is that of several.
            InvalidArgumentError: addresses outside the subnet, aliases where none are possible, bad ports.
        """

    async def attach(self, container: Container) -> NetworkSettings:
        """Make the namespace and everything in it, before the process starts; all or nothing.

        With the network mode ``container:<id>`` the settings hold nothing but that container's ``sandbox_path``.
        Nothing of it needs to be recorded before the process starts: ``recover`` finds what was made in the run root.

        Raises:
            NotFoundError: a network that was there at create is gone.
            ConflictError: the container whose namespace it is to share does not run.
            StartError: a host port is taken; Docker's words, with the address.
            ResourceExhaustedError: no address is left.
        """

    async def detach(self, container_id: str) -> None:
        """Take it all down; no error if there is nothing."""

    async def files(self, container: Container, settings: NetworkSettings) -> Mapping[str, bytes]:
        """Return the contents of ``hosts``, ``hostname`` and ``resolv.conf`` for the container."""

    def linked(self, container_id: str) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Return, by container, the entries of hosts files (address, names) by which links lead to this one."""

    async def renamed(self, container: Container) -> NetworkSettings | None:
        """The container has the name that it has now: let others find it by that, and by the old one no more.

        Return its settings, which have changed with it; None: it is not attached.
        """

    async def recover(self, running: Collection[Container]) -> Mapping[str, NetworkSettings]:
        """At start-up: keep what belongs to running containers, and remove everything else of ours.

        Return, by container, the settings of those that have left a network which their record still has: of a
        disconnect that was killed.
        """


class ContainerRecords(Protocol):
    """The lifecycle, as far as operations on networks need it."""

    async def find(self, reference: str) -> Container:
        """Return the container with this ID, prefix of one, or name; NotFoundError in Docker's words."""

    async def all(self) -> Collection[Container]:
        """Return every container."""

    async def set_network(self, container_id: str, endpoints: tuple[Endpoint, ...], settings: NetworkSettings) -> None:
        """Record that the container now asks for ``endpoints`` and is connected as ``settings`` says.

        Called after a network was connected or disconnected. If the container runs, its ``hosts`` and ``resolv.conf``
        are written anew, in place (they are bind-mounted), from ``Networking.files``.
        """


class Volumes(Protocol):
    """Volumes and bind sources. Every call is safe to repeat."""

    async def resolve(self, container_id: str, spec: ContainerSpec) -> tuple[MountPoint, ...]:
        """At create: check bind sources, make missing volumes, hold them for the container.

        Raises:
            InvalidArgumentError: in Docker's words; a relative target, a duplicate one, a missing bind source.
        """

    async def fill(self, container: Container, root: Path) -> Mapping[str, str]:
        """At create and before every start: mount volumes whose options say so, make missing bind sources that may be.

        The first time also copy into new volumes what the image has at their targets, in ``root``. Return, by target,
        where plugins have mounted theirs on the host: from there they are to be taken until ``leave``.

        Raises:
            StartError: a mount failed, a source cannot be made, or the copy does not fit; in Docker's words.
        """

    def tell_mounted(self, container: Container) -> None:
        """At a start, after ``fill``: publish that its volumes are mounted."""

    def adopt(self, container: Container) -> None:
        """At recovery: it runs, with its volumes."""

    async def leave(self, container: Container) -> None:
        """When it does not run (any more): unmount what options have mounted if nobody else has it.

        Publishes the unmounts that ``tell_mounted`` or ``adopt`` go before.
        """

    async def release(self, container_id: str, *, anonymous: bool) -> None:
        """At remove: let go of the container's volumes, and delete its anonymous ones if asked."""


@dataclass(frozen=True, slots=True)
class ExecProcess:
    """A further process for a running container, ready for ``Bundles.exec_process``."""

    process: Process
    privileged: bool = False
    linked: tuple[str, ...] = ()  # variables of the container's legacy links


@dataclass(frozen=True, slots=True)
class Joins:
    """What of others a container joins, looked up by the caller when it starts; empty: nothing.

    ``network``, ``pid`` and ``ipc`` are namespace files (``/proc/<pid>/ns/…``) of the container that
    ``container:<id>`` names. ``shm`` is a host directory to show as ``/dev/shm``: for ``ipc`` ``shareable`` a tmpfs
    that the caller mounted (mode 1777, the spec's shm size), for ``container:<id>`` that container's. ``users`` is the
    user namespace of one of them, if that has any. ``variables`` are those of its legacy links.
    """

    network: str = ""
    pid: str = ""
    ipc: str = ""
    shm: str = ""
    users: str = ""
    variables: tuple[str, ...] = ()


NO_JOINS = Joins()


class Bundles(Protocol):
    """OCI runtime bundles: translation, plus reading users and groups, and making the working directory, in the root.

    Everything but ``check`` and what begins with ``cgroup`` touches the disk: call it in a thread.
    """

    def cgroup_namespace(self, spec: ContainerSpec) -> str:
        """Return which one a container has, which need not say: ``private`` or ``host``."""

    def cgroup_path(self, container_id: str, spec: ContainerSpec) -> str:
        """Return the cgroup that a container gets, such as ``/sampan/<id>``; absolute, at the root of each tree.

        Raises:
            InvalidArgumentError: it cannot be in the parent that is asked for.
        """

    def check(self, spec: ContainerSpec) -> tuple[str, ...]:
        """Validate all that can be at create; return warnings. InvalidArgumentError in Docker's words."""

    def enforced(self, resources: Resources) -> Resources:
        """Return the limits without those that cannot be enforced here, of which ``check`` warns."""

    def config(
        self, container: Container, root: Path, *, files: Path, init_path: str | None, joins: Joins = NO_JOINS
    ) -> dict[str, object]:
        """Return the OCI ``config.json`` for ``root``; ``files`` holds hosts, hostname and resolv.conf.

        ``root`` is the mounted root file system; the volumes of ``container.mounts`` need not be mounted in it.
        ``init_path`` is the host's init program, used if the spec asks for one.

        Raises:
            InvalidArgumentError, StartError: unknown user, bad working directory, …
        """

    def exec_process(self, container: Container, root: Path, request: ExecProcess) -> dict[str, object]:
        """Return the OCI ``process`` object for an exec.

        ``root`` is the container's root as the host sees it, mounts inside included where possible:
        ``/proc/<pid>/root``. An empty user, working directory or environment entry is the container's.
        """
